from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hyperlect import __version__
from hyperlect.cli import app as application
from hyperlect.cli import main
from hyperlect.errors import DataError

from .conftest import Call

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
VERBS = (
    "quickstart", "train", "evaluate", "experiment", "report", "predict", "check",
    "convert-checkpoint",
)  # fmt: skip


def test_the_slow_libraries_wait_until_a_verb_needs_them() -> None:
    slow = {"torch", "transformers", "datasets", "accelerate", "matplotlib", "langcodes"}
    code = f"import sys, hyperlect.cli; print(*(set(sys.modules) & {slow}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("own", ["0", None])
def test_large_tensors_lie_in_huge_pages_unless_told_otherwise(own: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != HUGE_PAGES}
    environment |= {} if own is None else {HUGE_PAGES: own}
    code = f"import os, hyperlect.cli; print(os.environ['{HUGE_PAGES}'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (own or "1")


def test_help_names_every_verb(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_no_arguments_show_the_help(call: Call) -> None:
    assert "hyperlect quickstart" in call().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_examples_that_fit_80_columns(
    call: Call, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(verb, "--help")
    assert code == 0
    examples = out.split("Examples:")[1].split("╭")[0].strip().splitlines()
    assert examples
    assert all(line.strip().startswith(f"hyperlect {verb}") for line in examples)


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"hyperlect {__version__}\n", "")


def test_misspelt_verb(call: Call) -> None:
    code, _, err = call("trian")
    assert code == 2
    assert "train" in err


@pytest.fixture
def _failing(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def fail(*args: object, **options: object) -> None:
        raise request.param

    monkeypatch.setattr(application, "app", fail)


@pytest.mark.parametrize("_failing", [DataError("[bold] is no mark-up")], indirect=True)
@pytest.mark.usefixtures("_failing")
def test_an_error_is_one_message_without_traceback(call: Call) -> None:
    assert call("check", "x") == (2, "", "Error: [bold] is no mark-up\n")


@pytest.mark.parametrize("_failing", [DataError("what it says")], indirect=True)
@pytest.mark.usefixtures("_failing")
def test_debug_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        main(["check", "x", "--debug"])
    monkeypatch.setenv("HYPERLECT_DEBUG", "1")
    with pytest.raises(DataError):
        main(["check", "x"])
    monkeypatch.setenv("HYPERLECT_DEBUG", "0")
    with pytest.raises(SystemExit):
        main(["check", "x"])


@pytest.mark.parametrize(
    ("_failing", "code", "said"),
    [
        (PermissionError(13, "Permission denied", "/locked/x"), 2, "/locked/x: Permission denied"),
        (MemoryError(), 2, "training.batch_size"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    ],
    indirect=["_failing"],
)
@pytest.mark.usefixtures("_failing")
def test_other_failures_are_told_as_what_they_are(call: Call, code: int, said: str) -> None:
    result = call("check", "x")
    assert result.code == code
    assert said in result.err
    assert "Traceback" not in result.err


def test_debug_may_stand_anywhere(call: Call) -> None:
    assert call("check", "--help", "--debug").code == 0
