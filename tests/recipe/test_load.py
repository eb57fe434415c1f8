"""Loading a recipe: what is resolved, what faults have for a place, and what a run keeps."""

# ruff: noqa: E501 (a case a line)

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hyperlect.errors import RecipeError
from hyperlect.grid import Cell, Kind
from hyperlect.hypernet import HypernetConfig
from hyperlect.recipe import load as loading
from hyperlect.recipe import load_recipe
from hyperlect.recipe.recipe import RECOMMENDED

from .conftest import GOOD, Faults, Load, places

ENGLISH, FAROESE = Cell("pos", "eng"), Cell("pos", "fao")
WITHOUT_POS = (
    GOOD.replace("  pos: {type: tagging}\n", "")
    .replace("  - task: pos\n    format: conllu\n    root: files\n    cells:\n", "")
    .replace("      en: {train: a.conllu, dev: b.conllu}\n", "")
    .replace("      fo: {test: c.conllu}\n", "")
)


def test_languages_and_paths_are_resolved(load: Load, folder: Path) -> None:
    recipe = load()
    assert [str(cell) for cell in recipe.cells("train")] == ["pos:eng", "topic:eng", "mlm:isl"]
    [source] = recipe.cells("test")[FAROESE]
    assert source.location == str(folder / "files" / "c.conllu")
    assert recipe.training.learning_rate == 0.001


def test_norwegian_needs_no_quotes(load: Load) -> None:
    assert list(load(text=GOOD.replace("fo:", "no:")).cells("test")) == [Cell("pos", "nor")]


def test_variables_in_paths(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    text = GOOD.replace("root: files", "root: ${CORPORA}/files")
    monkeypatch.setenv("CORPORA", str(folder))
    assert load(text=text).cells("train") == load().cells("train")
    monkeypatch.delenv("CORPORA")
    [fault] = faults(text=text)
    assert (fault.line, fault.key) == (10, "data.0.root")
    assert "CORPORA" in fault.message
    assert load(text=text, check_files=False).grid() is not None


def test_overrides_are_read_as_yaml(load: Load) -> None:
    recipe = load(
        "training.steps=50",
        "training.patience=null",
        "hypernet.sources=[task, layer]",
        "data.0.limit.train=5",
        "name=other",
    )
    assert (recipe.training.steps, recipe.name) == (50, "other")
    assert recipe.hypernet.sources == ("task", "layer")
    assert recipe.cells("train")[ENGLISH][0].limit == 5


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("training.stesp=3", "training.stesp", 'Did you mean "steps"?'),
        ("training.lr=3", "training.lr", 'Did you mean "learning_rate"?'),
        ("lr=3", "lr", 'Did you mean "training.learning_rate"?'),
        ("seed=3", "seed", 'Did you mean "training.seed"?'),
        ("training.steps", "training.steps", "key.path=value"),
        ("data.7.task=x", "data.7.task=x", '"7"'),
        ("data.0.delimiter=;", "data.0.delimiter", "csv has commas, tsv has tabs"),
        ("name.x=1", "name.x=1", '"x"'),
        ("training.steps=many", "training.steps", '"many"'),
        ("training.steps=true", "training.steps", "number"),
        ("training.learning_rates={heads: true}", "training.learning_rates.heads", "number"),
        ("training.learning_rates={haeds: 1}", "training.learning_rates.haeds", 'Did you mean "heads"?'),
        ("training.learning_rate=.inf", "training.learning_rate", "finite"),
        ("training.precision=fp16", "training.precision", "bf16"),
        ("training.clip=[", "training.clip", "YAML"),
        ("hypernet.bottleneck=true", "hypernet.bottleneck", "number"),
        ("format_version=true", "format_version", "must be 1"),
    ],
)  # fmt: skip
def test_faulty_overrides(faults: Faults, override: str, key: str, hint: str) -> None:
    [fault] = faults(override)
    assert (fault.line, fault.key) == (None, f"--set {key}")
    assert hint in fault.message


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "hint"),
    [
        ("steps: 100", "learningrate: 1", 22, "training.learningrate", 'Did you mean "learning_rate"?'),
        ("type: tagging", "type: taging", 4, "tasks.pos.type", 'Did you mean "tagging"?'),
        ("format: conllu", "format: conll", 9, "data.0.format", 'Did you mean "conllu"?'),
        ("format_version: 1", "format_version: 3", 1, "format_version", "must be 1 or 2, not 3"),
        ("name: toy", "name: to/y", 2, "name", '"to/y"'),
        ("name: toy", "hypernet: {bottlenek: 3}\nname: toy", 2, "hypernet.bottlenek", 'Did you mean "bottleneck"?'),
        ("name: toy", "hypernet: {activation: rele}\nname: toy", 2, "hypernet.activation", "relu"),
        ("name: toy", "revision: 1e5\nname: toy", 2, "revision", "quotes"),
        ("fo: {test", "fo: {tets", 13, "data.0.cells.fo.tets", 'Did you mean "test"?'),
        ("fo: {test: c.conllu}", "fo: {test: }", 13, "data.0.cells.fo.test", "is empty"),
        ("fo:", "xqx:", 13, "data.0.cells.xqx", '"xqx"'),
        ("fo:", "eng:", 13, "data.0.cells.eng", '"en" is the same language (eng)'),
        ("c.conllu", "${DATA}/c.conllu", 13, "", "quotes"),
        ("type: tagging", "type: pos", 4, "tasks.pos.type", 'Did you mean "tagging"?'),
        ("format: conllu", "format: iob2", 9, "data.0.format", 'Did you mean "columns"?'),
        ("format: tsv", "format: json", 15, "data.1.format", 'Did you mean "jsonl"?'),
        ("c.conllu", "cc.conllu", 13, "data.0.cells.fo.test.0", 'Did you mean "c.conllu"?'),
        ("root: files", "root: fils", 10, "data.0.root", "fils"),
        ("share: 0.2", "share: 1", 6, "tasks.mlm.share", "not 1"),
        ("[sport, travel]", "sport", 5, "tasks.topic.labels", "upos or deprel"),
        ("{type: tagging}", "{type: tagging, scheme: io}", 4, "tasks.pos.scheme", "spans"),
        ("{type: tagging}", "{type: spans, scheme: bio}", 4, "tasks.pos.scheme", "iob2"),
        ("{type: tagging}", "{type: tagging, unlabelled: skip}", 4, "tasks.pos.unlabelled", "ignore"),
    ],
)  # fmt: skip
def test_one_fault(faults: Faults, old: str, new: str, line: int, key: str, hint: str) -> None:
    assert old in GOOD
    [fault] = faults(text=GOOD.replace(old, new, 1))
    assert (fault.line, fault.key) == (line, key)
    assert hint in fault.message


def test_all_faults_at_once_and_none_that_merely_follows(faults: Faults) -> None:
    text = (
        GOOD.replace("type: tagging", "type: taging")
        .replace("name: toy", "nmae: toy")
        .replace("a.conllu", "none.conllu")
        .replace("[sport, travel]", "[sport, sport]")
        .replace("fo:", "xqx:")
        .replace("steps: 100", "steps: 5, steps: 0")
        .replace("files/e.txt", "files/d.tsv/e.txt")
    )
    assert places(faults(text=text)) == [
        (None, "name"),
        (2, "nmae"),
        (4, "tasks.pos.type"),
        (5, "tasks.topic.labels"),
        (12, "data.0.cells.en.train.0"),
        (13, "data.0.cells.xqx"),
        (21, "data.2.cells.isl.train.0"),
        (22, "training.steps"),
        (22, "training.steps"),
    ]


PATHS = ["name", "tasks", "tasks.pos", "tasks.pos.labels", "data", "data.0", "data.0.cells"]
PATHS += ["data.0.cells.en", "data.0.cells.en.train", "data.0.fields", "data.0.limit", "training"]
PATHS += ["training.select_by", "hypernet", "hypernet.sources", "evaluation", "only_tasks"]
PATHS += ["few_shot", "few_shot.cells", "data.0.fields.label", "folder", "start_from"]
GOOD_VALUES = {
    (path, "null") for path in ("tasks.pos.labels", "only_tasks", "few_shot", "start_from")
}
GOOD_VALUES |= {("name", "x"), ("tasks.pos.labels", "[7]"), ("data.0.fields.label", "x")}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (path, value)
        for path in PATHS
        for value in ("x", "7.5", "[7]", "{x: 7}", "null")
        if (path, value) not in GOOD_VALUES
    ],
)
def test_a_wrong_value_is_named_with_its_key(faults: Faults, path: str, value: str) -> None:
    problems = faults(f"{path}={value}")
    start = f"--set {path.split('.')[0]}"
    assert [problem.key for problem in problems if not problem.key.startswith(start)] == []


SECOND = GOOD.replace("format_version: 1", "format_version: 2")


def test_the_version_decides_on_the_defaults(load: Load) -> None:
    first, second = load(), load(text=SECOND)
    assert first.hypernet == HypernetConfig()
    assert {field: getattr(second.hypernet, field) for field in RECOMMENDED["hypernet"]} == {
        **RECOMMENDED["hypernet"],
        "sources": ("language", "layer"),
    }
    assert (first.training.batching, second.training.batching) == ("single", "mixed")
    # What is written stands.
    assert (second.training.warmup, second.training.learning_rate) == (10, 1e-3)


@pytest.mark.parametrize(("steps", "warmup"), [(20, 2), (100, 10), (5000, 100)])
def test_the_warm_up_is_at_most_a_tenth_of_the_steps(load: Load, steps: int, warmup: int) -> None:
    text = SECOND.replace("steps: 100, warmup: 10", "seed: 1")
    assert load(f"training.steps={steps}", text=text).training.warmup == warmup


def test_the_defaults_of_a_version_are_not_remarked_on(load: Load) -> None:
    def about(*options: str) -> list[str]:
        return [note.partition(":")[0] for note in load(*options, text=SECOND).notes()]

    assert "hypernet" not in about("method=head")
    assert "hypernet" in about("method=head", "hypernet.bottleneck=8")
    assert "training.learning_rates" in about("method=finetune")
    rate = "training.learning_rates.backbone=3e-5"
    assert "training.learning_rates" not in about("method=finetune", rate)


def test_what_is_written_is_kept_inside_of_sections(load: Load) -> None:
    options = (
        "training.learning_rates={heads: 3e-3}",
        "hypernet={task_base: false, sources: [task]}",
    )
    recipe = load(*options, text=SECOND)
    rates = RECOMMENDED["training"]["learning_rates"]
    assert recipe.training.learning_rates == {**rates, "heads": 3e-3}
    assert (recipe.hypernet.task_base, recipe.hypernet.sources) == (False, ("task",))
    assert recipe.hypernet.unit_source


def test_a_section_of_the_wrong_kind_is_one_fault(faults: Faults) -> None:
    (fault,) = faults(text=SECOND.replace("training: {", "hypernet: 3\ntraining: {"))
    assert fault.key == "hypernet"


@pytest.mark.parametrize("text", [GOOD, SECOND])
def test_a_recipe_that_is_written_out_is_the_same(load: Load, folder: Path, text: str) -> None:
    recipe = load(text=text)
    (folder / "again.yaml").write_text(recipe.dump(), encoding="utf-8")
    assert load_recipe(folder / "again.yaml").hypernet == recipe.hypernet
    assert load_recipe(folder / "again.yaml").training == recipe.training


def test_files_need_not_exist_where_only_the_model_is_wanted(load: Load) -> None:
    text = GOOD.replace("root: files", "root: nowhere")
    assert load(text=text, check_files=False).cells("train")


def test_a_missing_recipe_suggests_its_neighbour(load: Load, folder: Path) -> None:
    load()
    with pytest.raises(RecipeError, match=r'Did you mean "toy\.yaml"'):
        load_recipe(folder / "toys.yaml")


@pytest.mark.parametrize("text", ["", "[1]", "just words", "a: b: c"])
def test_what_is_not_a_recipe(faults: Faults, text: str) -> None:
    assert len(faults(text=text)) == 1


def test_an_old_key_is_accepted_with_a_warning(
    load: Load, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loading.RENAMED, ("training", "stepz"), "steps")
    with pytest.warns(UserWarning, match=r"toy\.yaml:22, training\.stepz is called steps"):
        recipe = load(text=GOOD.replace("steps", "stepz"))
    assert recipe.training.steps == 100
    with pytest.warns(UserWarning, match="stepz"):
        [fault] = faults(text=GOOD.replace("steps: 100", "steps: 100, stepz: 50"))
    assert (fault.line, fault.key) == (22, "training.steps")


def test_labels_are_text_however_they_are_spelled(load: Load, faults: Faults) -> None:
    text = GOOD.replace("[sport, travel]", "[true, False, 1, no]")
    assert load(text=text).tasks["topic"].labels == ("true", "False", "1", "no")
    assert load("tasks.topic.labels=[TRUE, false]").tasks["topic"].labels == ("TRUE", "false")
    mapped = load("tasks.topic.label_map={true: travel, 0: sport}").tasks["topic"].label_map
    assert mapped == {"true": "travel", "0": "sport"}
    section = "{type: classification, labels: [1, true], label_map: {a: 1, b: true}}"
    mapped = load(f"tasks.topic={section}").tasks["topic"].label_map
    assert mapped == {"a": "1", "b": "true"}
    [fault] = faults(text=GOOD.replace("[sport, travel]", "[sport, 2.50]"))
    assert (fault.line, fault.key) == (5, "tasks.topic.labels.1")
    assert "quotes" in fault.message


def test_a_label_cannot_be_null(faults: Faults) -> None:
    [fault] = faults(text=GOOD.replace("[sport, travel]", "[sport, null]"))
    assert (fault.line, fault.key) == (5, "tasks.topic.labels.1")


def test_the_run_to_start_from(
    load: Load, faults: Faults, folder: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (folder / "runs" / "base").mkdir(parents=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    base = str(folder / "runs" / "base")
    assert load().start_from is None
    assert load("start_from=runs/base").start_from == base
    assert load(f"start_from={base}").start_from == base
    assert load("start_from=runs/mine").start_from == str(elsewhere / "runs" / "mine")
    assert load("start_from=owner/model").start_from == "owner/model"  # on the hub
    assert load("start_from=./runs/bas", check_files=False).start_from == "./runs/bas"
    [fault] = faults("start_from=./runs/bas")
    assert fault.key == "--set start_from"
    assert 'Did you mean "base"?' in fault.message
    for start in ("runs/base", "runs/mine", base, "owner/model"):
        recipe = load(f"start_from={start}")
        (folder / "copy.yaml").write_text(recipe.dump(folder), encoding="utf-8")
        assert load_recipe(folder / "copy.yaml").start_from == recipe.start_from


# Some tasks alone, and some of the examples


def test_tasks_are_left_out_as_if_they_were_not_written(load: Load) -> None:
    assert "pos" not in WITHOUT_POS
    chosen = load("only_tasks=[topic, mlm]")
    assert chosen.only_tasks == ("topic", "mlm")
    assert chosen.model_copy(update={"only_tasks": None}) == load(text=WITHOUT_POS)
    assert load("only_tasks=pos").grid().languages == ["eng"]
    assert list(load("only_tasks=[mlm, pos]").tasks) == ["pos", "mlm"]  # in the recipe's order


def test_what_is_left_out_may_be_faulty(load: Load) -> None:
    text = GOOD.replace("files/d.tsv", "'${NOWHERE}/d.tsv'").replace(
        "type: classification", "type: x"
    )
    assert load("only_tasks=[pos, mlm]", text=text) == load("only_tasks=[pos, mlm]")


def test_blocks_keep_their_numbers(load: Load, faults: Faults) -> None:
    recipe = load("only_tasks=[mlm]", "tasks.mlm.share=null", "data.2.limit.train=3")
    assert [(block.task, block.limit.train) for block in recipe.data] == [("mlm", 3)]
    [fault] = faults("only_tasks=[pos, mlm]", text=GOOD.replace("e.txt", "none.txt"))
    assert (fault.line, fault.key) == (21, "data.2.cells.isl.train.0")


def test_cells_of_tasks_left_out_are_not_meant(load: Load) -> None:
    cells = ("data.1.cells.eng.dev=files/b.conllu", "training.select_by=[pos:en, topic:en]")
    few = "few_shot={cells: [topic:en], examples: 3}"
    assert load("only_tasks=[pos]", *cells, few).training.select_by == ("pos:eng",)
    assert load("only_tasks=[pos]", *cells, few).few_shot is None
    assert load(*cells, few).few_shot is not None


@pytest.mark.parametrize(
    ("overrides", "key", "hint"),
    [
        (["only_tasks=[pos, mml]"], "only_tasks.1", 'Did you mean "mlm"? Known: pos, topic, mlm.'),
        (["only_tasks=[]"], "only_tasks", "empty"),
        (["only_tasks={pos: 1}"], "only_tasks", "must be a list"),
        (["only_tasks=[topic]", "training.select_by=[pos:en]"], "training.select_by", "only_tasks"),
        (["only_tasks=[topic]", "few_shot={cells: ['pos:en'], examples: 2, alone: true}"], "few_shot.cells", "only_tasks"),
        (["few_shot={cells: ['pos:eng'], examples: -1}"], "few_shot.examples", "-1"),
        (["few_shot={cells: ['pos:eng'], exampels: 1}"], "few_shot.exampels", 'Did you mean "examples"?'),
        (["few_shot={cells: [pos], examples: 1}"], "few_shot.cells.0", "task:language"),
        (["evaluation.encoder_languages=xlmr"], "evaluation.encoder_languages.0", 'Did you mean "xlm-r"?'),
        (["evaluation.families={xqx: A}"], "evaluation.families.xqx", '"xqx"'),
        (["few_shot={cells: [], examples: 1}"], "few_shot.cells", "empty"),
        (["few_shot={cells: ['pos:xqx'], examples: 1}"], "few_shot.cells.0", '"xqx"'),
        (["few_shot={cells: ['pos:fo'], examples: 1}"], "few_shot.cells.0", "pos:fao has no train file"),
        (["few_shot={cells: ['poss:en'], examples: 1}"], "few_shot.cells.0", 'Did you mean "pos:eng"?'),
        (["few_shot={cells: ['pos:en', 'pos:eng'], examples: 1}"], "few_shot.cells", "pos:eng"),
    ],
)  # fmt: skip
def test_faults_of_what_is_chosen(
    faults: Faults, overrides: list[str], key: str, hint: str
) -> None:
    [message] = [fault.message for fault in faults(*overrides) if fault.key == f"--set {key}"]
    assert hint in message


def test_a_task_may_lose_all_its_examples(faults: Faults) -> None:
    none = "few_shot={cells: ['pos:en'], examples: 0}"
    assert (4, "tasks.pos") in places(faults(none))


def test_few_examples(load: Load) -> None:
    more = "data.0.cells.fo.train=d.tsv"
    grid = {n: load(more, few(n)).grid() for n in (0, 5)}
    assert grid[5].kind(FAROESE) is Kind.SUPERVISED
    assert grid[0].kind(FAROESE) is Kind.UNTOUCHED
    assert list(load(more, few(0)).cells("test")) == [FAROESE]
    assert load(more, few(0)).grid().languages == ["eng", "isl"]
    section = load(more, few(5)).few_shot
    assert section is not None
    assert (section.cells, section.draw) == (("pos:fao",), 1)
    assert [section.count(cell) for cell in (FAROESE, ENGLISH)] == [5, None]


def test_few_examples_alone(load: Load) -> None:
    alone = (few(5, "alone: true"), "only_tasks=[pos]", "training.select_by=all")
    recipe = load("data.0.cells.fo.train=d.tsv", *alone)
    assert list(recipe.cells("train")) == [FAROESE]
    assert list(recipe.cells("dev")) == [ENGLISH]


def few(examples: int, more: str = "alone: false") -> str:
    return f"few_shot={{cells: [pos:fo], examples: {examples}, {more}}}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["only_tasks=[pos]", "few_shot={cells: [pos:en, topic:en], examples: 3, draw: 2}"],
        ["only_tasks=[topic, mlm]"],
        ["few_shot={cells: [pos:en, topic:en], examples: 3, draw: 2}"],
    ],
)
def test_a_choice_is_kept(load: Load, tmp_path: Path, overrides: list[str]) -> None:
    recipe = load(*overrides)
    path = tmp_path / "dumped.yaml"
    path.write_text(recipe.dump(), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert load_recipe(path).dump() == recipe.dump()


# What a run keeps of its recipe


def test_a_run_keeps_names_as_they_were_written(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORPORA", str(folder))
    text = GOOD.replace("train: files/d.tsv", "train: '${CORPORA}/files/d.tsv'")
    recipe = load("backbone=${ENCODERS:-files}", text=text)
    assert recipe.backbone == str(folder / "files")
    kept = recipe.dump(folder / "runs" / "toy")
    assert str(folder) not in kept
    assert "${CORPORA}/files/d.tsv" in kept
    (folder / "runs" / "toy").mkdir(parents=True)
    (folder / "runs" / "toy" / "recipe.yaml").write_text(kept, encoding="utf-8")
    again = load_recipe(folder / "runs" / "toy" / "recipe.yaml")
    assert again == recipe
    assert again.cells("train") == recipe.cells("train")
    assert again.dump(folder / "runs" / "toy") == kept


def test_a_run_can_move_together_with_its_data(load: Load, folder: Path, tmp_path: Path) -> None:
    before = load()
    run = folder / "runs" / "toy"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(before.dump(run), encoding="utf-8")
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved, ignore=shutil.ignore_patterns("moved"))
    shutil.rmtree(folder / "files")
    [source] = load_recipe(moved / "runs" / "toy" / "recipe.yaml").cells("test")[FAROESE]
    assert source.location == str(moved / "files" / "c.conllu")


@pytest.mark.parametrize(
    "override",
    ["folder={moved}", "data.0.root={moved}/files", "folder=moved", "data.0.root=moved/files"],
)
def test_a_run_can_be_told_where_its_data_lies_now(
    load: Load, folder: Path, tmp_path: Path, override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = folder / "runs" / "toy"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(load().dump(run), encoding="utf-8")
    moved = tmp_path / "moved"
    shutil.copytree(folder / "files", moved / "files")
    (folder / "files" / "c.conllu").unlink()
    (run / "versions.json").write_text("{}")
    with pytest.raises(RecipeError, match="--set folder"):
        load_recipe(run / "recipe.yaml")
    recipe = load_recipe(run / "recipe.yaml", [override.format(moved=moved)])
    [source] = recipe.cells("test")[FAROESE]
    assert source.location == str(moved / "files" / "c.conllu")


def test_the_recipe_of_an_old_run_with_absolute_names_loads(load: Load, folder: Path) -> None:
    absolute = GOOD.replace("root: files\n", "comment: ''\n")
    for name in ("a.conllu", "b.conllu", "c.conllu"):
        absolute = absolute.replace(name, str(folder / "files" / name))
    run = folder / "runs" / "old"
    run.mkdir(parents=True)
    absolute = absolute.replace("files/d.tsv", str(folder / "files" / "d.tsv"))
    absolute = absolute.replace("{train: files/e.txt}", f"{{train: {folder / 'files' / 'e.txt'}}}")
    (run / "recipe.yaml").write_text(absolute, encoding="utf-8")
    recipe = load_recipe(run / "recipe.yaml")
    assert recipe.cells("train") == load().cells("train")
    (run / "recipe.yaml").write_text(recipe.dump(run), encoding="utf-8")
    assert load_recipe(run / "recipe.yaml") == recipe


def test_a_value_is_kept_where_it_is_not_a_place(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", "50")
    kept = load("training.steps=${STEPS}").dump(folder)
    monkeypatch.setenv("STEPS", "70")
    (folder / "kept.yaml").write_text(kept, encoding="utf-8")
    assert load_recipe(folder / "kept.yaml").training.steps == 50


BASE = "hypernet.language_base=features"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([BASE], "hypernet.language_base"),
        (["language_features={text: 20}"], "language_features"),
        ([BASE, "language_features={}"], "language_features"),
        ([BASE, "language_features={typology: no.csv}"], "language_features.typology"),
        ([BASE, "language_features={text: 0}"], "language_features.text"),
        ([BASE, "language_features={txt: 20}"], "language_features.txt"),
        (["hypernet.language_base=family"], "hypernet.language_base"),
    ],
)
def test_features_of_languages_need_a_base_and_a_source(
    faults: Faults, overrides: list[str], key: str
) -> None:
    assert key in [fault.key.removeprefix("--set ") for fault in faults(*overrides)]


def test_features_from_a_table_beside_the_recipe(load: Load, folder: Path) -> None:
    (folder / "languages.csv").touch()
    recipe = load(BASE, "language_features={typology: languages.csv, text: 20}")
    assert recipe.typology() == str(folder / "languages.csv")
    assert "typology: languages.csv" in recipe.dump()
    assert recipe.has_base
    assert not load(BASE, "language_features={text: 20}", "method=adapters").has_base
    assert not load(BASE, "language_features={text: 20}", "method=task-hypernet").has_base
    assert load(BASE, "language_features={typology: uriel}").typology() == "uriel"
    assert load().typology() is None
