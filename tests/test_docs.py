"""The documents say what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from .documents import blocks, joined, run_python, write_example

ROOT = Path(__file__).parents[1]
((_, README_RECIPE),) = blocks("../README.md", "yaml")
DATA = blocks("data.md", "yaml")
NEW_LANGUAGE = [block for _, block in blocks("new-language.md", "yaml")]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder with the files of the README's recipe, and its run of a few steps in runs/mine."""
    from .project import train
    from .tiny import save_tiny

    folder = tmp_path_factory.mktemp("mine")
    save_tiny(folder / "encoder")
    recipe = write_example(README_RECIPE, folder / "mine.yaml", *few_steps(folder))
    (folder / "mine.yaml").write_text(recipe.dump(), encoding="utf-8")
    train(recipe, folder / "runs" / "mine")
    return folder


def few_steps(folder):
    """Changes to a recipe that make it quick."""
    return f"backbone={folder / 'encoder'}", "training.steps=3", "training.warmup=1"


def test_recipes_page_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    written = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert written == build.page(), "run: python docs/build.py"


def test_defaults_on_the_recipes_page_can_be_written_as_they_stand(tmp_path):
    """A recipe with every default written out is the recipe without them."""
    from hyperlect.recipe import load_recipe

    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    parts = re.findall(r"^## ([\w ]+):?(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    row = re.compile(r"^\| `(\w+)` \| (?:`(.+?)`)? \|", re.MULTILINE)
    tables = [row.findall(part) for _, part in parts]
    recipe, hypernet, tasks, data, limit, cells, few_shot, training, evaluation = tables
    needed = [key for table in tables for key, default in table if not default]
    own = ["format_version", "name", "tasks", "data"]
    assert needed == [*own, "type", "task", "format", "cells", "cells", "examples"]

    def written(table, whole, **values):
        defaults = {key: default for key, default in table if default and whole}
        return f"{{{', '.join(f'{key}: {value}' for key, value in (defaults | values).items())}}}"

    def load(whole):
        files = written([], whole, eng=written(cells, whole, train="a.txt"))
        read = {"format": "text", "limit": written(limit, whole), "cells": files}
        text = written(
            recipe,
            whole,
            format_version=1,
            name="x",
            hypernet=written(hypernet, whole),
            tasks=written([], whole, t=written(tasks, whole, type="mlm")),
            data=f"[{written(data, whole, task='t', **read)}]",
            few_shot=written(few_shot, whole, cells="[t:eng]", examples=1),
            training=written(training, whole),
            evaluation=written(evaluation, whole),
        )
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        return load_recipe(tmp_path / "recipe.yaml", check_files=False)

    assert load(whole=True) == load(whole=False)


def test_readme_recipe_is_valid(tmp_path):
    from hyperlect.recipe import load_recipe

    path = tmp_path / "mine.yaml"
    path.write_text(README_RECIPE, encoding="utf-8")
    recipe = load_recipe(path, check_files=False)
    assert {str(cell) for cell in recipe.cells("train")} == {"pos:isl", "ner:eng"}


@pytest.mark.parametrize(("heading", "block"), DATA, ids=[heading for heading, _ in DATA])
def test_examples_of_data_can_be_read_and_encoded(heading, block, tmp_path, monkeypatch):
    from hyperlect.preparation import read_corpora
    from hyperlect.tasks import TaskType

    from .recipe.stand_in import use_hub, write_hub
    from .tiny import tiny_tokenizer

    if "format: hub" in block:
        use_hub(write_hub(tmp_path / "stand-in"), tmp_path, monkeypatch)
    tags = dict(DATA)["Tags"]
    text = joined(block, tags) if heading == "Raw text" else joined(block)
    recipe = write_example(text, tmp_path / "mine" / "mine.yaml")
    corpora = read_corpora(recipe)
    rows = corpora.encode(tiny_tokenizer("bert"), recipe.max_length)
    assert rows.keys() == {(s, c) for s in ("train", "dev", "test") for c in recipe.cells(s)}
    assert all(len(found) == len(corpora.examples[key]) for key, found in rows.items())
    for name, task in corpora.tasks.items():
        own = [found["labels"] for (_, cell), found in rows.items() if cell.task == name]
        labels = {label for column in own for row in column for label in row}
        assert len(labels) > 1 or task.type is TaskType.MLM


def test_codes_of_languages_are_what_the_page_says():
    from hyperlect.languages import resolve

    table = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("| written |")[2]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", table.partition("\n\n")[0], re.MULTILINE)
    for written, is_ in rows:
        names, codes = re.findall("`(.*?)`", written), re.findall("`(.*?)`", is_)
        expected = names if is_ == "the same" else codes * (len(names) // len(codes))
        assert [resolve(name) for name in names] == expected
    assert len(rows) == 8


@pytest.mark.parametrize("block", NEW_LANGUAGE, ids=["tags", "all-tasks", "raw-text"])
def test_recipes_for_a_new_language(block, mine, tmp_path):
    from hyperlect import HyperX

    from .project import train

    recipe = write_example(block, mine / "recipe.yaml", *few_steps(mine))
    assert recipe.start_from == str(mine / "runs" / "mine")
    assert "mlt" in recipe.grid().languages
    run = train(recipe, tmp_path / "run")
    model = HyperX.from_pretrained(run)
    assert model.languages == ["eng", "isl", "mlt"]
    told = (run / "log.txt").read_text(encoding="utf-8")
    assert "new: the language mlt, at the zero vector" in told
    left = {"pos", "ner"} - model.tasks.keys()
    assert ("left behind, so not in this run: the task ner" in told) is (left == {"ner"})
    assert bool(left) is (block == NEW_LANGUAGE[0])


def test_a_new_language_that_nothing_is_trained_in(mine, monkeypatch):
    from hyperlect.grid import Kind

    monkeypatch.chdir(mine)
    write_example(NEW_LANGUAGE[0], mine / "recipe.yaml", *few_steps(mine))  # for its test file
    ((_, block),) = blocks("new-language.md", "python")
    names = run_python(block)
    assert names["result"].kind is Kind.UNTOUCHED
    assert not (mine / "runs" / "mine" / "results.json").exists()


def test_examples_in_python(mine, monkeypatch, capsys):
    from hyperlect.grid import Kind
    from hyperlect.hypernet import AdapterWeights
    from hyperlect.prediction import Prediction

    from .tiny import HIDDEN, LAYERS

    monkeypatch.chdir(mine)
    whole = "\n".join(block for _, block in blocks("python.md", "python"))
    assert whole.count("steps=500") == 1
    names = run_python(whole.replace("steps=500", "steps=2"))
    printed = capsys.readouterr().out
    for shown in re.findall(r"print\(found\.words\)  # (.*)", whole):
        assert shown in printed
    assert names["shapes"]["down_weight"] == (LAYERS, 64, HIDDEN)
    assert names["top"].up_weight.shape == (HIDDEN, 64)
    assert names["kind"] is Kind.UNSEEN_COMBINATION
    assert (names["names"], tuple(names["vectors"].shape)) == (["eng", "isl"], (2, 64))
    assert {cell.language for cell in names["results"].cells} == {"eng", "isl"}
    # The tables name every field.
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for table in (Prediction, AdapterWeights):
        for field in table.__dataclass_fields__:
            assert re.search(rf"^\|[^|]*`{field}`[^|]*\|", page, re.MULTILINE), field


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")))
def test_links_between_documents_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
