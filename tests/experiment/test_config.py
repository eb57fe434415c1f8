from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperlect.errors import Problem, RecipeError
from hyperlect.experiment.config import (
    CurveSection,
    ExperimentConfig,
    SettingSection,
    config_of_folder,
    is_experiment,
    load_config,
)

PAGE = Path(__file__).parents[2] / "docs" / "experiments.md"
GOOD = """\
format_version: 1
name: small
set: {training.steps: 600, max_length: 64}
methods: [hyperx, adapters]
seeds: [1, 2]
method_set: {adapters: {training.steps: 500}}
settings:
  mixed:
    recipe: ${WHERE}/mixed.yaml
    set: {max_length: 32}
    method_set: {adapters: {max_length: 16}}
    parts: {pos: {max_length: 8}, ner: {}}
  later: {recipe: mixed.yaml, after: mixed, parts: {pos: {}}}
"""
CURVE = """\
format_version: 1
name: small
set: {training.steps: 6}
method_set: {adapters: {training.steps: 5}}
settings:
  english: {recipe: mixed.yaml}
  few:
    recipe: mixed.yaml
    after: english
    set: {few_shot: {cells: [pos:isl], alone: true}}
    curve: {examples: [5, 10], draws: [1, 2]}
    parts: {one: {max_length: 8}}
"""
Load = Callable[[str], ExperimentConfig]
Faults = Callable[[str], list[Problem]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setenv("WHERE", str(tmp_path))
    monkeypatch.delenv("NOWHERE", raising=False)
    (tmp_path / "mixed.yaml").touch()

    def loaded(text: str) -> ExperimentConfig:
        path = tmp_path / "grid.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)

    return loaded


@pytest.fixture
def faults(load: Load, tmp_path: Path) -> Faults:
    def noted(text: str) -> list[Problem]:
        with pytest.raises(RecipeError) as error:
            load(text)
        assert {problem.file for problem in error.value.problems} == {str(tmp_path / "grid.yaml")}
        return list(error.value.problems)

    return noted


def test_the_more_particular_change_wins(load: Load) -> None:
    config = load(GOOD)
    assert config.changes("mixed", "ner", "hyperx") == {"training.steps": 600, "max_length": 32}
    assert config.changes("mixed", "ner", "adapters") == {"training.steps": 500, "max_length": 16}
    assert config.changes("mixed", "pos", "adapters") == {"training.steps": 500, "max_length": 8}
    assert config.changes("later", "pos", "") == {"training.steps": 600, "max_length": 64}


def test_a_block_that_is_set_again_is_set_last(load: Load) -> None:
    text = GOOD.replace("set: {training.steps: 600, max_length: 64}", "set: {training: {steps: 1}}")
    config = load(text.replace("set: {max_length: 32}", "set: {training: {steps: 3}}"))
    changes = config.changes("mixed", "ner", "adapters")
    assert list(changes) == ["training.steps", "training", "max_length"]
    assert changes["training"] == {"steps": 3}


def test_what_is_set_keeps_its_variables_for_the_recipe(load: Load) -> None:
    config = load(GOOD.replace("{max_length: 32}", '{backbone: "${WHERE}/x"}'))
    assert config.changes("mixed", "ner", "")["backbone"] == "${WHERE}/x"
    assert config.file("mixed", Path("elsewhere")).is_file()


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "hint"),
    [
        ("seeds:", "seed:", 5, "seed", "seeds"),
        ("parts:", "part:", 12, "settings.mixed.part", "parts"),
        ("[hyperx,", "[hyper,", 4, "methods.0", "hyperx"),
        ("{adapters: {training", "{adapter: {training", 6, "method_set.adapter", "adapters"),
        ("${WHERE}/mixed", "${WHERE}/mixd", 9, "settings.mixed.recipe", "mixed.yaml"),
        ("${WHERE}", "${NOWHERE}", 9, "settings.mixed.recipe", "NOWHERE"),
        ("after: mixed", "after: mixt", 13, "settings.later.after", '"mixed"'),
        ("after: mixed", "after: later", 13, "settings.later.after", ""),
        ("{max_length: 32}", "{training.seed: 3}", 10, "settings.mixed.set.training.seed", ""),
        ("{max_length: 32}", "{training: {seed: 3}}", 10, "settings.mixed.set.training", ""),
        ("{max_length: 8}", "{method: head}", 12, "settings.mixed.parts.pos.method", ""),
        ("seeds: [1, 2]", "seeds: []", 5, "seeds", ""),
        ("seeds: [1, 2]", "seeds: [1, 1]", 5, "seeds", "1"),
        ("seeds: [1, 2]", "seeds: [-1]", 5, "seeds.0", "-1"),
        ("[hyperx, adapters]", "[head, head]", 4, "methods", "head"),
        ("seeds: [1, 2]", "seeds: [one]", 5, "seeds.0", "one"),
        ("  mixed:\n", "  mix/ed:\n", 8, "settings.mix/ed", ""),
        ("name: small", "name: small\nname: large", 3, "name", "2 and 3"),
    ],
)
def test_a_fault_has_its_line_and_key(
    faults: Faults, old: str, new: str, line: int, key: str, hint: str
) -> None:
    assert old in GOOD
    (problem, *_) = faults(GOOD.replace(old, new))
    assert (problem.line, problem.key) == (line, key)
    assert hint in problem.message


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("{examples:", "{exampels:", 11, "settings.few.curve.exampels"),
        ("examples: [5, 10], ", "", 11, "settings.few.curve.examples"),
        ("[5, 10]", "[5, 0]", 11, "settings.few.curve.examples.1"),
        ("[5, 10]", "[5, 10, 5]", 11, "settings.few.curve.examples"),
        ("[1, 2]", "[2, 2]", 11, "settings.few.curve.draws"),
        ("[1, 2]", "[]", 11, "settings.few.curve.draws"),
        ("max_length", "few_shot.draw", 12, "settings.few.parts.one.few_shot.draw"),
        ("alone: true", "examples: 3", 10, "settings.few.set.few_shot"),
        ("steps: 6", "steps: 6, few_shot.draw: 6", 3, "set.few_shot.draw"),
        ("{training.steps: 5", "{few_shot.draw: 5", 4, "method_set.adapters.few_shot.draw"),
        ("mixed.yaml}", "mixed.yaml, curve: {examples: [2]}}", 9, "settings.few.after"),
    ],
)
def test_a_fault_of_a_curve_has_its_line_and_key(
    faults: Faults, old: str, new: str, line: int, key: str
) -> None:
    assert old in CURVE
    places = [(problem.line, problem.key) for problem in faults(CURVE.replace(old, new))]
    assert (line, key) in places


def test_all_faults_are_reported_at_once(faults: Faults) -> None:
    text = GOOD.replace("seeds:", "seed:").replace("[hyperx,", "[hyper,")
    assert [problem.key for problem in faults(text)] == ["methods.0", "seed"]
    text = CURVE.replace("[5, 10]", "[5, 5]").replace("[1,", "[0,")
    assert len(faults(text)) == 2
    text = CURVE.replace("max_length", "few_shot.draw").replace("training.steps", "few_shot.draw")
    assert len(faults(text)) == 3


def test_what_follows_from_a_fault_is_not_reported(faults: Faults) -> None:
    """Without its recipe the setting cannot be read, but it is there to come after."""
    text = GOOD.replace("recipe: ${WHERE}/mixed.yaml", "recipes: mixed.yaml")
    assert {problem.key for problem in faults(text)} == {
        "settings.mixed.recipe", "settings.mixed.recipes",
    }  # fmt: skip


def test_settings_that_wait_for_each_other(faults: Faults) -> None:
    text = GOOD.replace("    recipe: ${WHERE}", "    after: later\n    recipe: ${WHERE}")
    messages = [problem.message for problem in faults(text) if problem.key.endswith(".after")]
    assert any("mixed" in message and "later" in message for message in messages)


@pytest.mark.parametrize("text", ["", "- a list", "{", "settings: {}\nformat_version: 1\nname: a"])
def test_what_is_not_an_experiment_at_all(load: Load, text: str) -> None:
    with pytest.raises(RecipeError, match=r"grid\.yaml"):
        load(text)


def test_recipes_and_experiments_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GOOD)
    (tmp_path / "recipe.yaml").write_text("format_version: 1\ntasks: {}\n")
    (tmp_path / "latin.yaml").write_bytes(b"settings: \xe9")
    (tmp_path / "grid.txt").write_text(GOOD)
    names = ("grid.yaml", "recipe.yaml", "latin.yaml", "none.yaml", "grid.txt")
    assert [is_experiment(tmp_path / name) for name in names] == [True, *[False] * 4]


def test_a_folder_of_recipes(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(RecipeError, match="mine"):
        config_of_folder(folder)
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (folder / name).touch()
    config = config_of_folder(folder, ["head"], [3])
    assert (config.name, config.methods, config.seeds) == ("mine", ("head",), (3,))
    assert {name: s.recipe for name, s in config.settings.items()} == {"a": "a.yml", "b": "b.yaml"}
    assert config_of_folder(folder).seeds is None


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("my experiments", {}, "name"),
        ("mine", {"seeds": [1, 1]}, "seeds"),
        ("mine", {"methods": ["heads"]}, "methods.0"),
    ],
)
def test_a_folder_with_a_fault(
    name: str, options: dict[str, list[object]], key: str, tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "a.yaml").touch()
    with pytest.raises(RecipeError) as error:
        config_of_folder(folder, **options)  # type: ignore[arg-type]
    assert error.value.problems[0].key == key


def test_the_examples_of_the_page_are_good(load: Load, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("english.yaml", "few-shot.yaml"):
        (tmp_path / name).touch()
    assert [list(load(block).settings) for block in blocks] == [
        ["mixed", "english"], ["english", "few-shot"],
    ]  # fmt: skip


def test_the_page_has_every_key() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for section in (ExperimentConfig, SettingSection, CurveSection):
        assert [key for key in section.model_fields if f"`{key}`" not in text] == []
