from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from .conftest import TAGGED, Call


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    file = tmp_path / "few.tsv"
    file.write_text(TAGGED * 3)
    return file


def test_it_names_the_new_run_and_what_became_of_the_vector(
    call: Call, run: Path, labels: Path
) -> None:
    code, out, err = call("add-language", run, "--language", "German", "--labels", f"pos={labels}")
    assert code == 0, err
    target = run.with_name(f"{run.name}-deu")
    assert str(target) in out
    assert "deu" in out
    (record,) = json.loads((target / "added.json").read_text())["languages"]
    assert record["settings"]["seed"] == 1
    code, out, err = call("predict", target, "--task", "pos", "--language", "de", stdin="Anna sees")
    assert code == 0, err
    assert record["source"] in err
    code, out, err = call("check", target)
    assert code == 0, err
    assert "1 language added" in " ".join(out.split())


def test_the_next_command_works_as_it_stands(call: Call, run: Path, tmp_path: Path) -> None:
    text = tmp_path / "some text.txt"
    words = ("cat", "dog", "river", "man", "house", "old")
    text.write_text("".join(f"Anna sees the {word}\n" for word in words))
    for options in (("--like", "eng"), ("--text", text, "--steps", 1)):
        target = tmp_path / f"new run {len(options)}"
        code, _, err = call("add-language", run, "--language", "deu", "--out", target, *options)
        assert code == 0, err
        command = shlex.split(" ".join(err.split()).rpartition("Next: hyperlect ")[2])
        assert (str(text) in command) is ("--text" in options)
        code, out, err = call(*command, stdin="Anna sees")
        assert code == 0, err
        assert "Anna" in out


def test_like_takes_weights(call: Call, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    options = ("--language", "deu", "--like", "eng=3,English", "--out", target)
    code, _, err = call("add-language", run, *options)
    assert code == 0, err
    (record,) = json.loads((target / "added.json").read_text())["languages"]
    assert record["like"] == {"eng": 1.0}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--labels", "few.tsv"), "--labels"),
        (("--labels", "pos=a", "--labels", "pos=b"), "--labels"),
        (("--like", "eng=much"), "--like"),
        (("--like", "eng=-1"), "--like"),
        (("--text", "none.txt"), "none.txt"),
        (("--labels", "pos=none.tsv"), "none.tsv"),
        (("--like", "tur"), "tur"),
    ],
)
def test_wrong_options_are_named(
    call: Call, run: Path, options: tuple[str, ...], named: str
) -> None:
    code, _, err = call("add-language", run, "--language", "deu", *options)
    assert code == 2
    assert named in err
    assert not run.with_name(f"{run.name}-deu").exists()
