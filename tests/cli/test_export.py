from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Call


def test_it_says_what_was_written_and_how_to_load_it(call: Call, run: Path, tmp_path: Path) -> None:
    assert call("evaluate", run).code == 0
    folder = tmp_path / "out"
    options = ("--task", "ner", "--language", "Icelandic", "--format", "adapters")
    code, out, err = call("export", run, folder, *options)
    assert code == 0, err
    assert "supervised" in out
    assert "span F1" in out
    for file in folder.iterdir():
        assert file.name in out
    assert f'load_adapter("{folder}"' in out
    name = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["name"]
    assert name == "ner-isl"


def test_the_encoder_comes_with_it(call: Call, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options = ("--task", "pos", "--language", "deu", "--format", "adapters", "--encoder")
    code, out, err = call("export", run, folder, *options)
    assert code == 0, err
    assert "not scored" in out
    assert (folder / "encoder" / "config.json").is_file()
    assert str(folder / "encoder") in out


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"--format": "adapter"}, '"adapters"'),
        ({"--task": "pso"}, '"pos"'),
        ({"--language": "Icelandik"}, "Icelandic"),
        ({"--language": None}, "language"),
        ({"--quantize": "int8"}, "quantized"),
    ],
)
def test_wrong_options_are_named(
    call: Call, run: Path, tmp_path: Path, changes: dict[str, str | None], named: str
) -> None:
    options = {"--task": "pos", "--language": "isl", "--format": "adapters"} | changes
    words = [word for pair in options.items() if pair[1] is not None for word in pair]
    code, _, err = call("export", run, tmp_path / "out", *words)
    assert code == 2
    assert named in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_named(call: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    options = ("--task", "pos", "--language", "isl", "--format", "adapters")
    code, _, err = call("export", run, tmp_path, *options)
    assert code == 2
    assert str(tmp_path) in err
