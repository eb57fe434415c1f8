from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hyperlect.errors import RunError, UnknownNameError
from hyperlect.grid import Kind
from hyperlect.languages import name
from hyperlect.report import FORMATS, write_comparison, write_report
from hyperlect.report.data import read_run
from hyperlect.report.page import language_groups

from .experiments import add, list_run
from .runs import CELLS, cell, write_results, write_run, write_weights

_VOID = {"meta", "br"}


class Page(HTMLParser):
    """Gathers ids, references and text, and sees to it that every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.elements: set[str] = set()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            elif key in ("href", "src", "aria-labelledby"):
                self.references.append(value or "")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_page_says_what_was_run_and_how_it_did(tmp_path: Path) -> None:
    out = write_report([write_run(tmp_path / "tiny", date="2025-01-31")])
    assert out == tmp_path / "tiny" / "report.html"
    text = Page(out).text
    for words in (
        "tiny",
        "hyperx",
        "builtin:e5-small",
        "1,200",
        "2025-01-31",
        "name: <tiny> & small",
    ):
        assert words in text
    for kind in Kind:
        assert kind.meaning in text
    for heading in ("Averages by kind", "The grid", "Learning curves", "The languages"):
        assert heading in text
    assert "torch 2.0" in text
    assert "best 60.0, step 600" in text


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of the page about a run that has results only."""
    folder = tmp_path_factory.mktemp("plain") / "tiny"
    return write_report([write_results(folder)]).read_text(encoding="utf-8")


@pytest.mark.parametrize(("task", "language", "kind", "metric", "score"), CELLS)
def test_every_score_stands_with_its_kind(
    plain: str, task: str, language: str, kind: Kind, metric: str, score: float
) -> None:
    in_grid = f'title="{task} in {name(language)}: {metric} {score:.1f}, {kind}, 37 examples"'
    assert in_grid in plain
    row = next(
        row
        for row in re.findall(r"<tr>.*?</tr>", plain)
        if f'scope="row">{task}<' in row and f"<code>{language}</code>" in row
    )
    assert f"<td>{score:.2f}</td>" in row
    assert str(kind) in row


def test_every_mark_in_the_grid_is_the_kind_that_its_cell_says(plain: str) -> None:
    cells = re.findall(r'<td class="[qp]\d+"[^>]*>(.*?)</td>', plain)
    assert len(cells) == len(CELLS)
    for inner in cells:
        marked = re.search(r'class="mark (\w+)"', inner)
        assert marked is not None
        assert str(Kind[marked[1].upper()]) in html.unescape(inner)


def test_the_page_is_self_contained_and_sound(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name) for name in ("one", "two")]
    add(tmp_path / "made", "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    add(tmp_path / "made", "few", "hyperx", 1, {("pos", "isl"): [1, 0]}, "a", (5, 1), "mixed")
    (experiment,) = write_comparison([tmp_path / "made"], formats=["html"])
    for out in (write_report(folders[:1]), write_report(folders), experiment):
        page, text = Page(out), out.read_text(encoding="utf-8")
        assert len(page.ids) == len(set(page.ids))
        references = {id_.lstrip("#") for reference in page.references for id_ in reference.split()}
        assert references <= set(page.ids)
        assert not page.elements & {"script", "link", "img", "iframe"}
        assert not set(re.findall(r"https?://[^\"' <]+", text))
        assert "url(" not in text


def test_a_page_can_be_used_without_a_mouse_and_without_seeing(tmp_path: Path) -> None:
    for out in (
        write_report([write_run(tmp_path / "one")]),
        write_report([write_run(tmp_path / "one"), write_run(tmp_path / "two")]),
    ):
        text = out.read_text(encoding="utf-8")
        scrolling = re.findall(r'<div class="scroll"([^>]*)>', text)
        assert scrolling
        assert all('tabindex="0" role="region" aria-label=' in element for element in scrolling)
        assert text.count("<table") == text.count("</table></div>") + text.count(
            "</table>\n</div>"
        ) + text.count('class="data versions"')
        assert not re.findall(r"<th(?![^>]*scope=)[ >]", text)
        drawings = re.findall(r"<svg[^>]*>.{0,40}", text)
        assert drawings
        assert all('role="img" aria-labelledby=' in drawing for drawing in drawings)
        assert all("<title id=" in drawing for drawing in drawings)


def test_what_comes_from_files_is_escaped(tmp_path: Path) -> None:
    nasty = '<script>alert("1")</script> & $x$ %'
    cells = [cell(nasty, "eng", Kind.SUPERVISED, "accuracy", 50.0), cell(*CELLS[1])]
    cells[0]["unit"] = cells[0]["language_source"] = cells[0]["note"] = nasty
    folder = write_results(tmp_path / "nasty", cells, name=nasty, method=nasty, backbone=nasty)
    (folder / "recipe.yaml").write_text(nasty, encoding="utf-8")
    other = write_results(tmp_path / "other", [*cells, cell(*CELLS[0])])
    for out in (
        write_report([folder]),
        write_report([folder, other]),
        *write_comparison([folder, other], tmp_path, ["html"]),
    ):
        page = Page(out)
        assert "script" not in page.elements
        assert nasty in page.text


def test_missing_files_are_one_line_each(tmp_path: Path) -> None:
    text = Page(write_report([write_results(tmp_path / "bare")])).text
    for file in ("metrics.jsonl", "embeddings.json", "versions.json", "recipe.yaml"):
        assert text.count(f"The run folder has no {file}") == 1


def test_warnings_of_training_stand_above_the_averages(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    warning = "never trained, as no step drew from them: ner:deu"
    (run / "training.json").write_text(json.dumps({"warnings": [warning]}), encoding="utf-8")
    text = Page(write_report([run])).text
    assert text.index(warning) < text.index("Each dot is one cell")


def test_differences_of_adapters_stand_in_a_plot_and_a_table(tmp_path: Path) -> None:
    folder = write_weights(write_run(tmp_path / "tiny"), tmp_path / "encoder")
    page = Page(write_report([folder]))
    assert "pos: differences by layer" in page.text
    assert "mlm the nearest language" in page.text
    assert "Difference of adapters" in page.text
    assert len(page.ids) == len(set(page.ids))
    several = Page(write_report([folder, write_run(tmp_path / "other")]))
    assert several.text.count("pos: differences by layer") == 1
    assert several.text.count("By trained vectors") == 2
    assert len(several.ids) == len(set(several.ids))


@pytest.mark.parametrize("method", ["task-hypernet", "adapters", "head"])
def test_a_method_without_languages_says_what_is_missing(method: str, tmp_path: Path) -> None:
    folder = write_weights(write_results(tmp_path / "tiny"), tmp_path / "encoder", method)
    page = Page(write_report([folder]))
    assert "differences by layer" not in page.text
    assert "where a hypernetwork writes adapters" in page.text


def test_a_run_of_an_earlier_version_is_shown_whole(tmp_path: Path) -> None:
    kept = Path(__file__).parents[1] / "runs" / "v1" / "finished"
    folder = Path(shutil.copytree(kept, tmp_path / "old"))
    page = Page(write_report([folder]))
    assert "By trained vectors" in page.text
    assert "pos: differences by layer" in page.text
    assert not page.text.count("The run folder has no embeddings.json")


def test_cells_without_a_number_are_shown_as_such(tmp_path: Path) -> None:
    cells = [cell(*values) for values in CELLS]
    cells[0]["score"], cells[-1]["score"] = None, float("inf")
    text = Page(write_report([write_results(tmp_path / "gaps", cells)])).text
    assert "– , supervised" in text
    assert "∞ , unseen language, untouched" in text


def test_what_is_not_applicable_is_said_and_why(tmp_path: Path) -> None:
    """Even of a task of which nothing else is known."""
    note = "its language has no adapter"
    cells = [cell(*values) for values in CELLS]
    cells += [cell("topic", "fao", Kind.UNTOUCHED, "accuracy", None)]
    for without in (cells[3], cells[-1]):
        without |= {"score": None, "note": note, "units": 0, "unit": ""}
    folder = write_results(tmp_path / "madx", cells, method="mad-x")
    page = Page(write_report([folder]))
    assert "n/a , unseen language, untouched" in page.text
    assert "n/a 0 cells, 1 n/a" in page.text
    assert page.text.count(f"n/a: {note}") == 2
    assert "a trained adapter a language" in page.text
    both = Page(write_report([folder, write_results(tmp_path / "other")], tmp_path / "both.html"))
    assert "n/a , unseen language, untouched" in both.text


def test_several_runs_are_compared_and_then_shown_each(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "one"), write_run(tmp_path / "two", method="head")]
    out = write_report(folders)
    assert out == tmp_path / "one" / "comparison.html"
    page = Page(out)
    assert "Comparison of 2 runs" in page.text
    assert {"runs", "s1", "r1", "r2", "r1-grid", "r2-grid"} <= set(page.ids)
    assert "one 81.5 58.4 70.0" in page.text  # pos, ner and their mean
    assert "two head builtin:e5-small 1,200 3" in page.text


def test_runs_stand_below_each_other_so_that_none_is_cut_off(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / f"run-{number}") for number in range(9)]
    page = write_report(folders).read_text(encoding="utf-8")
    tables = re.findall(r'<table class="data compare">.*?</table>', page, re.DOTALL)
    assert len(tables) == len(Kind)
    for table in tables:
        assert table.count('scope="row"') == 9
        assert table.count('scope="col"') <= 1 + 3 + 1 + 2  # system; tasks; mean; parameters, time


def test_cells_of_some_runs_only_are_named(tmp_path: Path) -> None:
    cells = [cell(*values) for values in CELLS]
    folders = [
        write_results(tmp_path / "one", cells),
        write_results(tmp_path / "two", cells[:-1]),
        write_results(tmp_path / "three", [cell("nli", "eng", Kind.SUPERVISED, "accuracy", 1.0)]),
    ]
    assert "mlm:fao" in Page(write_report(folders[:2])).text
    assert "nothing can be compared" in Page(write_report(folders[1:])).text


def test_a_run_named_twice_is_one(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "one")
    assert write_report([folder, folder]) == folder / "report.html"


def test_numbers_of_things_are_written_as_one_or_several(tmp_path: Path) -> None:
    page = Page(write_report([write_results(tmp_path / "one", [cell(*CELLS[0])])]))
    assert "Every cell as a table (1 cell)" in page.text
    assert "1 cell, 1 task, 1 language" in page.text
    two = Page(write_report([write_results(tmp_path / "two", [cell(*c) for c in CELLS[:2]])]))
    assert "Every cell as a table (2 cells)" in two.text


def test_out_is_made_with_its_folder(tmp_path: Path) -> None:
    out = write_report([write_results(tmp_path / "tiny")], tmp_path / "pages" / "a.html")
    assert out.is_file()
    assert not (tmp_path / "tiny" / "report.html").exists()


def test_a_report_needs_a_run() -> None:
    with pytest.raises(RunError):
        write_report([])


def test_a_page_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    """As on a full disk: here a folder has the place of the file."""
    folder = write_results(tmp_path / "tiny")
    out = tmp_path / "taken"
    (out / "report.html").mkdir(parents=True)
    with pytest.raises(RunError) as caught:
        write_report([folder], out / "report.html")
    assert str(out / "report.html") in str(caught.value)
    add(tmp_path / "made", "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    with pytest.raises(RunError) as caught:
        write_comparison([tmp_path / "made"], out, ["html"])
    assert str(out / "report.html") in str(caught.value)
    with pytest.raises(RunError) as caught:
        write_report([folder], folder / "results.json" / "report.html")
    assert str(folder / "results.json") in str(caught.value)
    assert not [path for path in out.iterdir() if path.name.endswith("partial")]


def many_languages(tmp_path: Path, number: int, tasks: int) -> str:
    letters = "abcdefghij"
    codes = [f"q{letters[i // 10 % 10]}{letters[i % 10]}" for i in range(number)]
    rng = np.random.default_rng(0)
    cells = [
        cell(f"task{task}", code, list(Kind)[i % 4], "accuracy", float(rng.uniform(20, 95)))
        for task in range(tasks)
        for i, code in enumerate(codes)
    ]
    return write_report([write_results(tmp_path / "large", cells)]).read_text(encoding="utf-8")


def test_a_large_grid_stays_small_enough_for_a_phone(tmp_path: Path) -> None:
    page = many_languages(tmp_path, 80, 5)
    assert len(page) < 1_500_000
    assert len(re.findall(r'<td class="[qp]\d+"', page)) == 400


def test_every_table_of_a_grid_has_its_header_and_no_table_is_split(tmp_path: Path) -> None:
    page = many_languages(tmp_path, 100, 1)
    tables = re.findall(r'<table class="heat">.*?</table>', page, re.DOTALL)
    assert sum(table.count('scope="row"') for table in tables) == 100
    assert all(table.count("<thead>") == 1 for table in tables)
    assert all(table.count('scope="row"') <= 20 for table in tables)
    style = page[: page.index("</style>")]
    assert not re.search(r"[{; ]columns:", style)  # which browsers split tables over


def test_languages_are_grouped_by_their_data(tmp_path: Path) -> None:
    cells = [cell(*values) for values in CELLS]
    cells.append(cell("mlm", "swe", Kind.SUPERVISED, "perplexity", 9.0))
    groups = language_groups(read_run(write_results(tmp_path / "plain", cells)))
    assert groups == {
        "Labelled data in training": ["eng", "deu"],
        "Raw text only in training": ["isl"],
        "Raw text in training": ["swe"],
        "No data in training": ["fao"],
    }


def test_an_experiment_is_written_in_every_format(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for seed in (1, 2, 3):
        for method, right in (("hyperx", [1] * 9 + [0]), ("adapters", [0] * 10)):
            add(folder, "mixed", method, seed, {("pos", "eng"): right, ("pos", "isl"): right})
    add(folder, "few", "hyperx", 1, {("pos", "isl"): [1, 0]}, "pos-isl", (5, 1), "mixed")
    list_run(folder, "mixed", "finetune", 1)
    written = write_comparison([folder], tmp_path / "out")
    names = ["report.html", "report.md", "cells.csv", "tables.tex", "summary.json"]
    assert [path.name for path in written] == names
    assert all(path.is_file() for path in written)
    page = Page(written[0])
    assert "hyperx 90.0 ± 0.0*" in page.text
    assert "against the baseline" in written[0].read_text(encoding="utf-8")
    assert "1.50 M" in page.text
    assert "No results yet: finetune, seed 1." in page.text
    assert {"s1", "s2"} <= set(page.ids)
    assert write_comparison([folder], formats=["csv"]) == [folder / "cells.csv"]


def test_runs_as_tables_are_compared_by_seed(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / str(seed), name="mine", seed=seed) for seed in (1, 2)]
    (path,) = write_comparison(folders, tmp_path, ["markdown"])
    assert "| hyperx | 93.2 ± 0.0 |" in path.read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    list_run(tmp_path / "empty", "mixed", "hyperx", 1)
    with pytest.raises(RunError) as caught:
        write_comparison([tmp_path / "empty"])
    assert str(tmp_path / "empty") in str(caught.value)
    add(tmp_path / "made", "mixed", "hyperx", 1, {("pos", "eng"): [1, 0]})
    with pytest.raises(UnknownNameError, match='"adapter"'):
        write_comparison([tmp_path / "made"], baseline="adapter")
    with pytest.raises(RunError):
        write_comparison([tmp_path / "made" / "mixed"])
    assert set(FORMATS) == {"html", "markdown", "csv", "latex", "json"}


def test_expectations_are_shown_where_there_are_any(tmp_path: Path) -> None:
    expected = {"score": 70.0, "low": 60.0, "high": 75.0}
    cells = [
        {**cell("pos", "isl", Kind.UNTOUCHED, "accuracy", 64.0), "expected": expected},
        {**cell("pos", "fao", Kind.UNTOUCHED, "accuracy", 90.0), "expected": expected},
        {**cell("ner", "fao", Kind.UNTOUCHED, "span F1", None), "expected": expected},
    ]
    page = Page(write_report([write_results(tmp_path / "with", cells)]))
    assert "Expected and true" in page.text
    assert "holds 1 of 2" in page.text
    assert "70 (60–75)" in page.text
    assert {"r1-expected", "r1-expected1-title"} <= set(page.ids)
    assert "r1-expected2-title" not in page.ids
    assert "#r1-expected" in page.references
    without = Page(write_report([write_results(tmp_path / "without")]))
    assert "Expected and true" not in without.text
    assert not [name for name in (*without.ids, *without.references) if "expected" in name]


def test_strata_stand_behind_their_kind(tmp_path: Path) -> None:
    cells = [cell(*values) for values in CELLS]
    for number, entry in enumerate(cells):
        entry |= {"known_to_encoder": number % 2 == 0, "related": True}
    cells.append({**cell("pos", "dan", Kind.UNTOUCHED, "accuracy", 80.0), "related": False})
    run = write_results(tmp_path / "divided", cells)
    page = Page(write_report([run]))
    untouched = page.text.partition("had no training data of any sort")[2]
    assert "new to the encoder, related 61.0 1 cell" in untouched
    assert "unrelated 80.0 1 cell" in untouched
    other = write_results(tmp_path / "other", cells)
    page = Page(write_report([run, other]))
    side_by_side = page.text.partition("Side by side")[2]
    assert "unrelated cells: pos 1" in side_by_side
    assert (
        write_report([write_results(tmp_path / "plain")]).read_text().count("to the encoder") == 0
    )
