"""What all formats share; the formats here are made up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlect.backbone import load_backbone
from hyperlect.errors import HyperlectError, RunError, UnknownNameError
from hyperlect.evaluation.results import CellResult, Results
from hyperlect.export import FORMATS, Format, export
from hyperlect.grid import Cell, Kind
from hyperlect.model import HyperX
from tests.model.models import tiny_model
from tests.model.test_features import model_of


class Writer:
    """Writes a file, remembers what it was called with, and may fail then."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, model: HyperX, cell: Cell | None, folder: Path, **options: Any) -> None:
        source = model.language_source(cell.language) if cell else ""
        self.calls.append((cell, source, options))
        (folder / "weights").write_text("whole")
        if self.error:
            raise self.error


AddFormat = Callable[..., Writer]


@pytest.fixture
def add_format(monkeypatch: pytest.MonkeyPatch) -> AddFormat:
    """Add the format "made"."""

    def add(error: BaseException | None = None, **fields: Any) -> Writer:
        writer = Writer(error)
        row = Format("a library", writer, lambda *_: 'load("FOLDER", "ENCODER")', **fields)
        monkeypatch.setitem(FORMATS, "made", row)
        return writer

    return add


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_any_cell_is_exported(add_format: AddFormat, tmp_path: Path) -> None:
    writer, model = add_format(), tiny_model()
    for number, (language, source) in enumerate(
        (("English", "own vector"), ("fo", "mean of the trained languages"))
    ):
        export(model, "made", tmp_path / str(number), "pos", language)
        code = model.config.language_code(language)
        assert writer.calls[-1] == (Cell("pos", code), source, {})
        assert leftovers(tmp_path / str(number)) == ["README.md", "weights"]
    assert leftovers(tmp_path) == ["0", "1"]


def test_an_untrained_language_is_represented_as_in_prediction(
    add_format: AddFormat, tmp_path: Path
) -> None:
    writer, model = add_format(), model_of(tmp_path, text=None)
    export(model, "made", tmp_path / "out", "pos", "deu")
    assert writer.calls[0][1] == "typology"
    assert "typology" in (tmp_path / "out" / "README.md").read_text()
    assert "deu" not in model.languages


def test_the_page_of_an_export_says_what_it_is(add_format: AddFormat, tmp_path: Path) -> None:
    add_format()
    result = CellResult(
        task="ner", language="tur", kind=Kind.UNSEEN_COMBINATION, metric="span F1", score=61.25,
        examples=40,
    )  # fmt: skip
    results = Results(name="r", method="hyperx", backbone="b", cells=(result,))
    model = tiny_model()
    exported = export(model, "made", tmp_path / "out", "ner", "tur", results=results)
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert exported.what in page
    assert exported.score in page
    assert "Turkish" in exported.what
    assert Kind.UNSEEN_COMBINATION in exported.what
    assert "61.2" in exported.score
    assert "40 examples" in exported.score
    assert f'load("{tmp_path / "out"}"' in exported.usage
    assert 'load("FOLDER", "tiny-bert")' in page
    other = export(model, "made", tmp_path / "other", "ner", "eng", results=results)
    assert "not scored" in other.score


def test_a_page_names_no_path_of_this_machine(add_format: AddFormat, tmp_path: Path) -> None:
    add_format()
    model = tiny_model()
    model.backbone.reference = str(tmp_path)
    export(model, "made", tmp_path / "out", "ner", "tur")
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert 'load("FOLDER", "ENCODER")' in page
    assert f"Encoder: {tmp_path.name}" in page


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("mad", "pos", "eng"), "made"),
        (("made", "poss", "eng"), "pos"),
        (("made", "pos", "Englsh"), "English"),
    ],
)
def test_unknown_names(
    add_format: AddFormat, tmp_path: Path, names: tuple[str, str, str], named: str
) -> None:
    add_format()
    name, *cell = names
    with pytest.raises(UnknownNameError, match=f'"{named}"'):
        export(tiny_model(), name, tmp_path / "out", *cell)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("names", [("pos", None), (None, "eng"), (None, None)])
def test_a_cell_is_needed_unless_the_format_holds_all(
    add_format: AddFormat, tmp_path: Path, names: tuple[str | None, str | None]
) -> None:
    add_format()
    with pytest.raises(HyperlectError, match="cell"):
        export(tiny_model(), "made", tmp_path / "out", *names)
    writer = add_format(whole=True)
    if names == (None, None):
        export(tiny_model(), "made", tmp_path / "out")
        assert writer.calls == [(None, "", {})]
    else:
        with pytest.raises(HyperlectError, match="cell"):
            export(tiny_model(), "made", tmp_path / "out", *names)


def test_a_cell_that_the_method_does_not_apply_to(add_format: AddFormat, tmp_path: Path) -> None:
    writer = add_format()
    with pytest.raises(HyperlectError) as error:
        export(tiny_model(method="mad-x"), "made", tmp_path / "out", "pos", "fao")
    assert [problem.key for problem in error.value.problems] == ["pos:fao"]
    assert writer.calls == []


def test_quantizing(add_format: AddFormat, tmp_path: Path) -> None:
    add_format()
    with pytest.raises(HyperlectError, match="made"):
        export(tiny_model(), "made", tmp_path / "out", "pos", "eng", quantize="int8")
    writer = add_format(quantizes=True)
    exported = export(tiny_model(), "made", tmp_path / "out", "pos", "eng", quantize="int8")
    assert writer.calls[0][2] == {"quantize": "int8"}
    assert "before it was quantized" in exported.score


def test_a_folder_that_holds_something_is_left_alone(add_format: AddFormat, tmp_path: Path) -> None:
    add_format()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    export(tiny_model(), "made", tmp_path / "empty", "pos", "eng")
    for name in ("full", "file", "empty"):
        with pytest.raises(RunError, match=name):
            export(tiny_model(), "made", tmp_path / name, "pos", "eng")
    assert leftovers(tmp_path) == ["empty", "file", "full"]
    assert leftovers(tmp_path / "full") == ["mine"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HyperlectError("it cannot be carried"), HyperlectError),
        (OSError(28, "No space left on device"), RunError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_half_written(
    add_format: AddFormat,
    tmp_path: Path,
    error: BaseException,
    expected: type[BaseException],
    exists: bool,
) -> None:
    add_format(error)
    if exists:
        (tmp_path / "out").mkdir()
    with pytest.raises(expected):
        export(tiny_model(), "made", tmp_path / "out", "pos", "eng")
    assert leftovers(tmp_path) == ["out"] * exists
    assert not exists or leftovers(tmp_path / "out") == []


def test_trained_layer_norms_go_with_the_encoder_alone(
    add_format: AddFormat, tmp_path: Path
) -> None:
    add_format()
    model = tiny_model(train_layer_norms=True)
    for _, parameter in model.backbone.layer_norms():
        parameter.data += 1
    with pytest.raises(HyperlectError, match="--encoder"):
        export(model, "made", tmp_path / "out", "pos", "eng")
    exported = export(model, "made", tmp_path / "out", "pos", "eng", encoder=True)
    assert str(tmp_path / "out" / "encoder") in exported.usage
    loaded = load_backbone(str(tmp_path / "out" / "encoder"))
    expected = model.backbone.encoder.state_dict()
    for name, tensor in loaded.encoder.state_dict().items():
        assert torch.equal(tensor, expected[name])
    assert loaded.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    shutil.rmtree(tmp_path / "out")
    add_format(holds_encoder=True)
    export(model, "made", tmp_path / "out", "pos", "eng")
    assert leftovers(tmp_path / "out") == ["README.md", "weights"]
