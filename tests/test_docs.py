"""The documents say what the code does."""

import importlib
import importlib.util
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from .documents import blocks, joined, run_python, write_example

ROOT = Path(__file__).parents[1]
((_, README_RECIPE),) = blocks("../README.md", "yaml")
DATA = blocks("data.md", "yaml")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
((_, NEW_LANGUAGE),) = blocks("new-language.md", "yaml")


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


@pytest.fixture(scope="module")
def build():
    """The script that writes docs/recipes.md."""
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_every_key_of_a_recipe_is_documented(build):
    from hyperlect.hypernet.config import HypernetConfig

    keys = build.documentation()
    assert [key for key, text in keys.items() if not text] == []
    hypernet = {key.removeprefix("hypernet.") for key in keys if key.startswith("hypernet.")}
    assert hypernet == {field.name for field in fields(HypernetConfig)}
    assert {"data.*.cells.*.dev", "tasks.*.label_map", "training.select_by"} <= set(keys)


def test_recipes_page_is_that_of_the_code(build):
    written = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert written == build.page(), "run: python docs/build.py"


def test_defaults_on_the_recipes_page_can_be_written_as_they_stand(tmp_path):
    """A recipe with every default written out is the recipe without them."""
    from hyperlect.recipe import load_recipe

    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    parts = re.findall(r"^## ([\w ]+):?(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    row = re.compile(r"^\| `(\w+)` \| (?:`(.+?)`)? \|", re.MULTILINE)
    tables = [row.findall(part) for _, part in parts]
    recipe, hypernet, tasks, data, limit, cells, features, few_shot, training, evaluation = tables
    needed = [key for table in tables for key, default in table if not default]
    top = ["format_version", "name", "tasks", "data"]
    assert needed == [*top, "type", "task", "format", "cells", "cells", "examples"]

    def written(table, whole, **values):
        defaults = {key: default for key, default in table if default and whole}
        return f"{{{', '.join(f'{key}: {value}' for key, value in (defaults | values).items())}}}"

    def load(whole):
        files = written([], whole, eng=written(cells, whole, train="a.txt"))
        read = {"format": "text", "limit": written(limit, whole), "cells": files}
        text = written(
            recipe,
            whole,
            format_version=2,
            name="x",
            hypernet=written(hypernet, whole, language_base="features"),
            language_features=written(features, whole, text=1),
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
    from hyperlect.recipe.corpora import read_corpora
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
    assert all(len(encoded) == len(corpora.examples[key]) for key, encoded in rows.items())
    for name, task in corpora.tasks.items():
        columns = [data["labels"] for (_, cell), data in rows.items() if cell.task == name]
        labels = {label for column in columns for row in column for label in row}
        assert len(labels) > 1 or task.type is TaskType.MLM


def test_codes_of_languages_are_what_the_page_says():
    from hyperlect.languages import resolve

    table = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("| written |")[2]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", table.partition("\n\n")[0], re.MULTILINE)
    for written, is_ in rows:
        names, codes = re.findall("`(.*?)`", written), re.findall("`(.*?)`", is_)
        expected = names if is_ == "the same" else codes * (len(names) // len(codes))
        assert [resolve(name) for name in names] == expected
    assert len(rows) == 9


def test_the_recipe_for_much_data_in_a_new_language(mine, tmp_path):
    from hyperlect import HyperX

    from .project import train

    recipe = write_example(NEW_LANGUAGE, mine / "recipe.yaml", *few_steps(mine))
    assert recipe.start_from == str(mine / "runs" / "mine")
    assert "mlt" in recipe.grid().languages
    run = train(recipe, tmp_path / "run")
    model = HyperX.from_pretrained(run)
    assert model.languages == ["eng", "isl", "mlt"]
    assert model.tasks.keys() == {"pos", "ner"}
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert re.search(r"new: the language mlt, .*zero", log)


def test_the_commands_that_add_a_language_run(mine, monkeypatch, capsys):
    from hyperlect.cli.__main__ import main

    monkeypatch.chdir(mine)
    write_example(NEW_LANGUAGE, mine / "recipe.yaml", *few_steps(mine))  # for its files
    page = (ROOT / "docs" / "new-language.md").read_text(encoding="utf-8")
    files = {
        "twenty-sentences.conllu": "mt-train.conllu",
        "test.conllu": "mt-test.conllu",
        "text.txt": None,
    }
    for new, old in files.items():
        content = (mine / old).read_text(encoding="utf-8") if old else "the cat sees Anna\n"
        (mine / new).write_text(content, encoding="utf-8")
    commands = re.findall(r"^hyperlect (.*runs/mine.*)$", page, re.M)
    assert [command.split()[0] for command in commands] == ["add-language", "predict", "evaluate"]
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        assert stop.value.code == 0, capsys.readouterr().err
    assert (mine / "runs" / "mine-gla" / "added.json").is_file()


def test_the_commands_and_the_python_that_export_run(mine, monkeypatch, capsys):
    from hyperlect.cli.__main__ import main

    monkeypatch.chdir(mine)
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    commands = re.findall(r"^hyperlect (export .*)$", page, re.M)
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        assert stop.value.code == 0, capsys.readouterr().err
        assert f'load_adapter("{command.split()[2]}"' in capsys.readouterr().out
    assert len(commands) == 2
    ((_, block),) = blocks("export.md", "python")
    exported = run_python(block)["exported"]
    assert exported.usage in capsys.readouterr().out
    assert (mine / "out" / "encoder" / "tokenizer.json").is_file()


def test_the_example_of_an_expected_score(mine, monkeypatch):
    monkeypatch.chdir(mine)
    (mine / "text.txt").write_text("the cat sees Anna\n" * 12, encoding="utf-8")
    expected = run_python(*(block for _, block in blocks("trust.md", "python")))["expected"]
    assert 0 <= expected.low <= expected.score <= expected.high <= 100


def test_examples_of_pipelines(mine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(mine)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    parts = dict(blocks("pipelines.md", "python"))
    names = run_python(parts["Data sets"])
    assert [len(labels) for labels in names["tagged"]["pos"]] == [3, 4]
    assert names["tagged"]["kind"] == ["supervised", "unseen language, untouched"]
    pytest.importorskip("spacy")
    importlib.import_module("hyperlect.spacy")  # what the entry point of an installed package does
    names = run_python(
        *(block for name, block in blocks("pipelines.md", "python") if name == "spaCy")
    )
    assert [token.text for token in names["doc"]][-1] == "."
    assert len(names["docs"]) == 2
    assert names["nlp"].pipe_names == ["sentencizer", "hyperlect"]


def test_examples_in_python(mine, monkeypatch, capsys):
    from hyperlect.grid import Kind
    from hyperlect.hypernet import AdapterWeights
    from hyperlect.predict import Prediction, Span

    from .tiny import HIDDEN, LAYERS

    monkeypatch.chdir(mine)
    whole = "\n".join(block for _, block in blocks("python.md", "python"))
    assert whole.count("steps=500") == 1
    names = run_python(whole.replace("steps=500", "steps=2"))
    printed = capsys.readouterr().out
    (words,) = re.findall(r"print\(prediction\.words\)  # (.*)", whole)
    assert words in printed
    assert names["shapes"]["down_weight"] == (LAYERS, 64, HIDDEN)
    assert names["top"].up_weight.shape == (HIDDEN, 64)
    assert names["kind"] is Kind.UNSEEN_COMBINATION
    assert (names["names"], tuple(names["vectors"].shape)) == (["eng", "isl"], (2, 64))
    assert {cell.language for cell in names["results"].cells} == {"eng", "isl"}
    # The tables name every field.
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for table in (Prediction, Span, AdapterWeights):
        for field in table.__annotations__:
            assert re.search(rf"^\|[^|]*`{field}`[^|]*\|", page, re.MULTILINE), field


def test_the_training_loop_of_the_page_has_the_gradients_of_one_batch(mine):
    """A step cut into batches of uneven sentences learns what the whole batch does."""
    import torch

    from hyperlect import HyperX
    from hyperlect.data.batching import collate
    from hyperlect.recipe import load_recipe
    from hyperlect.recipe.corpora import read_corpora

    (block,) = (b for _, b in blocks("python.md", "python") if "def accumulate" in b)
    accumulate = run_python(block)["accumulate"]
    model = HyperX.from_pretrained(mine / "runs" / "mine")  # in evaluation mode: no dropout
    corpora = read_corpora(load_recipe(mine / "runs" / "mine" / "recipe.yaml"), ["train"])
    encoded = corpora.encode(model.tokenizer, model.max_length)
    drawn = [(cell, row) for (_, cell), rows in encoded.items() for row in rows]
    gradients = []
    for size in (len(drawn), 5):
        batches = [
            collate([row for _, row in part], [c for c, _ in part], model.tasks, model.tokenizer)
            for part in (drawn[start : start + size] for start in range(0, len(drawn), size))
        ]
        model.zero_grad()
        assert len(accumulate(model, batches)) == len(batches)
        parameters = [p for p in model.own_parameters().values() if p.grad is not None]
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
    assert torch.allclose(*gradients, atol=1e-5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_pages_have_these_verbs_and_options(page):
    from hyperlect.cli.__main__ import app

    verbs = app.commands
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    code = [block for language, block in fenced.findall(text) if not language]
    code += re.findall(r"`(hyperlect [^`\n]*)`", fenced.sub("", text))
    for line in "\n".join(code).splitlines():
        for command in re.findall(r"\bhyperlect ([a-z].*?)(?=[|;#]|$)", line):
            verb, *words = command.split()
            options = {name for option in verbs[verb].params for name in option.opts}
            assert {word for word in words if word.startswith("--")} <= options, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if target.startswith("http"):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    times = Counter()
    for number, slug in enumerate(slugs):
        slugs[number] += f"-{times[slug]}" if times[slug] else ""
        times[slug] += 1
    return slugs
