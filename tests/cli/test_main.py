from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hyperlect import __version__
from hyperlect.cli import __main__ as application
from hyperlect.cli.__main__ import main
from hyperlect.errors import DataError

from .conftest import Call

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
VERBS = (
    "quickstart", "train", "evaluate", "experiment", "report", "predict", "serve", "push", "check",
    "convert-checkpoint",
)  # fmt: skip


def test_the_slow_libraries_wait_until_a_verb_needs_them() -> None:
    slow = {"torch", "transformers", "datasets", "accelerate", "matplotlib", "langcodes"}
    code = f"import sys, hyperlect.cli.__main__; print(*(set(sys.modules) & {slow}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("own", ["0", None])
def test_large_tensors_lie_in_huge_pages_unless_told_otherwise(
    call: Call, own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is None:
        monkeypatch.delenv(HUGE_PAGES, raising=False)
    else:
        monkeypatch.setenv(HUGE_PAGES, own)
    assert call("--version").code == 0
    assert os.environ[HUGE_PAGES] == (own or "1")


def test_help_names_every_verb_and_the_completion_of_shells(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert all(verb in out for verb in (*VERBS, "--install-completion", "--show-completion"))


def test_no_arguments_show_the_help(call: Call) -> None:
    assert "hyperlect quickstart" in call().out


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_the_help_of_a_verb_fits_80_columns_and_has_examples(
    call: Call, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        code, out, _ = call(*[verb] * bool(verb), "--help")
        assert code == 0
        assert "<bool>" not in out
        pages.append([line.strip() for line in out.split("╭")[0].splitlines()])
    assert pages[0] == pages[1]
    if verb:
        examples = [line for line in pages[0][pages[0].index("Examples:") + 1 :] if line]
        assert examples
        assert all(line.startswith(f"hyperlect {verb}") for line in examples)


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"hyperlect {__version__}\n", "")


def test_misspelt_verb(call: Call) -> None:
    code, _, err = call("trian")
    assert code == 2
    assert "train" in err


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
@pytest.mark.parametrize("place", [0, 3])
def test_quiet_shows_results_and_errors_alone(
    call: Call, trained: Path, flag: str, place: int
) -> None:
    command: list[object] = ["predict", trained, "--task=pos", "--language=fao"]
    code, out, err = call(*command[:place], flag, *command[place:], stdin="Anna\n")
    assert (code, err) == (0, "")
    assert out.startswith("Anna/")
    code, _, err = call(*command[:place], flag, *command[place:], stdin="")
    assert code == 2
    assert err.startswith("Error: ")
    assert call(*command, stdin="Anna\n").err  # and not longer than for one call


def test_verbose_lets_the_messages_of_libraries_through(
    call: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silenced: list[bool] = []
    monkeypatch.setattr("hyperlect.cli.quiet_libraries", lambda: silenced.append(True))
    assert call("check", project / "tiny.yaml").code == 0
    assert silenced == [True]
    assert call("check", project / "tiny.yaml", "-v").code == 0
    assert call("--verbose", "check", project / "tiny.yaml").code == 0
    assert silenced == [True]


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
    ("_failing", "code", "named"),
    [
        (PermissionError(13, "Permission denied", "/locked/x"), 2, "/locked/x: Permission denied"),
        (MemoryError(), 2, "training.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "training.batch_size"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (DataError("no file caf\udce9"), 2, "caf"),
    ],
    indirect=["_failing"],
)
@pytest.mark.usefixtures("_failing")
def test_other_failures_are_told_as_what_they_are(call: Call, code: int, named: str) -> None:
    result = call("check", "x")
    assert result.code == code
    assert named in result.err
    assert "Traceback" not in result.err


def test_debug_may_stand_anywhere(call: Call) -> None:
    assert call("check", "--help", "--debug").code == 0


@pytest.mark.parametrize("name", ["caf\udce9.yaml", "[bold]x.yaml", "ﷺ.yaml"])
def test_names_that_cannot_be_shown_do_not_hide_the_message(call: Call, name: str) -> None:
    for command in (["check", name], ["train", name], ["report", name]):
        code, _, err = call(*command)
        assert code == 2
        assert "yaml" in err
        assert "Traceback" not in err


def test_every_argument_and_option_has_help_and_no_opposite() -> None:
    for command in (application.app, *application.app.commands.values()):
        assert "Args:" not in command.help
        for param in command.params:
            assert param.help or param.hidden, f"{command.name} {param.name}"
            assert not param.secondary_opts
