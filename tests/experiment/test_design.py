from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyperlect.errors import RecipeError
from hyperlect.experiment.curve import CurveSection
from hyperlect.experiment.design import (
    Design,
    SettingSection,
    design_of_folder,
    is_design,
    load_design,
)

GOOD = """\
format_version: 1
name: small
set: {training.steps: 600, max_length: 64}
methods: [hyperx, adapters]
seeds: [1, 2, 1]
method_set: {adapters: {training.steps: 500}}
settings:
  mixed:
    recipe: ${WHERE}/mixed.yaml
    set: {max_length: 32}
    method_set: {adapters: {max_length: 16}}
    parts: {pos: {max_length: 8}, ner: {}}
  later: {recipe: mixed.yaml, after: mixed, parts: {pos: {}}}
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WHERE", str(tmp_path))
    (tmp_path / "mixed.yaml").touch()

    def loaded(text: str) -> Design:
        path = tmp_path / "grid.yaml"
        path.write_text(text, encoding="utf-8")
        return load_design(path)

    return loaded


def test_what_is_more_particular_has_the_last_word(load) -> None:  # type: ignore[no-untyped-def]
    design = load(GOOD)
    assert design.seeds == (1, 2)
    assert design.changes("mixed", "ner", "hyperx") == {"training.steps": 600, "max_length": 32}
    assert design.changes("mixed", "ner", "adapters") == {"training.steps": 500, "max_length": 16}
    assert design.changes("mixed", "pos", "adapters") == {"training.steps": 500, "max_length": 8}
    assert design.changes("later", "pos", None) == {"training.steps": 600, "max_length": 64}


def test_a_block_that_is_set_again_is_set_last(load) -> None:  # type: ignore[no-untyped-def]
    text = GOOD.replace("set: {training.steps: 600, max_length: 64}", "set: {training: {steps: 1}}")
    design = load(text.replace("set: {max_length: 32}", "set: {training: {steps: 3}}"))
    changes = design.changes("mixed", "ner", "adapters")
    assert list(changes) == ["training.steps", "training", "max_length"]
    assert changes["training"] == {"steps": 3}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds:", "seed:", 'line 5, seed: there is no such key. Did you mean "seeds"?'),
        ("parts:", "part:", "line 12, settings.mixed.part: there is no such key. Did you mean"),
        ("[hyperx,", "[hyper,", 'methods.0: "hyper" is none of hyperx'),
        ("{adapters: {training", "{adapter: {training", '"adapter" is none of'),
        ("${WHERE}/mixed", "${WHERE}/mixd", 'mixd.yaml. Did you mean "mixed.yaml"?'),
        ("${WHERE}", "${NOWHERE}", "the environment variable NOWHERE is not set"),
        ("after: mixed", "after: mixt", 'there is no setting "mixt". Did you mean "mixed"?'),
        ("after: mixed", "after: later", "wait for each other"),
        ("parts: {pos: {}}}", "parts: {dep: {}}}", "mixed has the parts pos, ner"),
        ("after: mixed, parts: {pos: {}}", "after: mixed", "parts of the same names"),
        ("after: mixed,", "after: mixed, seeds: [7],", "mixed is not run with the seeds 7"),
        ("set: {max_length: 32}", "set: {training.seed: 3}", "the experiment decides this"),
        ("set: {max_length: 32}", "set: {training: {seed: 3}}", "the experiment decides this"),
        ("seeds: [1, 2, 1]", "seeds: []", "seeds: "),
        ("seeds: [1, 2, 1]", "seeds: [one]", 'must be a whole number, not "one"'),
        ("  mixed:\n", "  mix/ed:\n", "letters, digits"),
        ("name: small", "name: small\nname: large", "written twice"),
    ],
)
def test_faults(load, old: str, new: str, said: str) -> None:  # type: ignore[no-untyped-def]
    assert old in GOOD
    with pytest.raises(RecipeError) as error:
        load(GOOD.replace(old, new))
    assert said in str(error.value)
    assert "pydantic" not in str(error.value)


def test_all_faults_at_once(load) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError) as error:
        load(GOOD.replace("seeds:", "seed:").replace("[hyperx,", "[hyper,"))
    assert "has 2 faults" in str(error.value)


@pytest.mark.parametrize("text", ["", "- a list", "{"])
def test_what_is_no_experiment_at_all(load, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match=r"The experiment .* has a fault"):
        load(text)


def test_recipes_and_experiments_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GOOD)
    (tmp_path / "recipe.yaml").write_text("format_version: 1\ntasks: {}\n")
    (tmp_path / "latin.yaml").write_bytes(b"settings: \xe9")
    assert is_design(tmp_path / "grid.yaml")
    assert not is_design(tmp_path / "recipe.yaml")
    assert not is_design(tmp_path / "latin.yaml")
    assert not is_design(tmp_path / "none.yaml")


def test_a_folder_of_recipes(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(RecipeError, match="holds no recipes"):
        design_of_folder(folder)
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (folder / name).touch()
    design = design_of_folder(folder, ("head",), (3,))
    assert (design.name, design.methods, design.seeds) == ("mine", ("head",), (3,))
    assert {name: s.recipe for name, s in design.settings.items()} == {"a": "a.yml", "b": "b.yaml"}


def test_a_folder_that_cannot_be_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "my experiments"
    folder.mkdir()
    (folder / "a.yaml").touch()
    with pytest.raises(RecipeError, match="letters, digits"):
        design_of_folder(folder)


def test_the_examples_of_the_page_are_good(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = Path(__file__).parents[2] / "docs" / "experiments.md"
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("english.yaml", "few-shot.yaml"):
        (tmp_path / name).touch()
    assert [list(load(block).settings) for block in blocks] == [
        ["mixed", "english"], ["english", "few-shot"],
    ]  # fmt: skip


def test_the_page_has_every_key() -> None:
    page = Path(__file__).parents[2] / "docs" / "experiments.md"
    text = page.read_text(encoding="utf-8")
    keys = Design.model_fields.keys() | SettingSection.model_fields.keys()
    keys |= CurveSection.model_fields.keys()
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []
