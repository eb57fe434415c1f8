from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hyperlect.errors import RunError
from hyperlect.grid import Kind
from hyperlect.languages import name
from hyperlect.report import write_report
from hyperlect.report.data import read_run
from hyperlect.report.sections import language_groups

from .runs import CELLS, cell, write_results, write_run

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
    for said in (
        "tiny",
        "hyperx",
        "builtin:e5-small",
        "1,200",
        "2025-01-31",
        "name: <tiny> & small",
    ):
        assert said in text
    for kind in Kind:
        assert kind.meaning in text
    for heading in ("Averages by kind", "The grid", "Learning curves", "Map of the languages"):
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
        marked = re.search(r"#mark-(\w+)", inner)
        assert marked is not None
        assert str(Kind[marked.group(1).upper()]) in html.unescape(inner)


def test_page_is_self_contained_and_sound(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name) for name in ("one", "two")]
    for out in (write_report(folders[:1]), write_report(folders)):
        page = Page(out)
        assert len(page.ids) == len(set(page.ids))
        assert {ref.lstrip("#") for ref in page.references} <= set(page.ids)
        assert not page.elements & {"script", "link", "img", "iframe"}
        addresses = set(re.findall(r"https?://[^\"' <]+", out.read_text(encoding="utf-8")))
        assert not addresses
        assert "url(" not in out.read_text(encoding="utf-8")


def test_what_comes_from_files_is_escaped(tmp_path: Path) -> None:
    nasty = '<script>alert("1")</script> & $x$ %'
    cells = [cell(nasty, "eng", Kind.SUPERVISED, "accuracy", 50.0), cell(*CELLS[1])]
    cells[0]["unit"] = cells[0]["language_source"] = nasty
    folder = write_results(tmp_path / "nasty", cells, name=nasty, method=nasty, backbone=nasty)
    other = write_results(tmp_path / "other", cells)
    for runs in ([folder], [folder, other]):
        page = Page(write_report(runs))
        assert "script" not in page.elements
        assert nasty in page.text


def test_missing_parts_are_one_line_each(tmp_path: Path) -> None:
    text = Page(write_report([write_results(tmp_path / "bare")])).text
    for file in ("metrics.jsonl", "embeddings.json", "versions.json", "recipe.yaml"):
        assert text.count(f"The run folder has no {file}") == 1


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


def test_several_runs_are_compared_beside_their_own_parts(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "one"), write_run(tmp_path / "two", method="head")]
    out = write_report(folders)
    assert out == tmp_path / "one" / "comparison.html"
    page = Page(out)
    assert "Comparison of 2 runs" in page.text
    assert {"compare", "r1", "r2", "r1-grid", "r2-grid"} <= set(page.ids)
    assert "unseen combination 1 81.5 81.5" in page.text


def test_out_is_made_with_its_folder(tmp_path: Path) -> None:
    out = write_report([write_results(tmp_path / "tiny")], tmp_path / "pages" / "a.html")
    assert out.is_file()
    assert not (tmp_path / "tiny" / "report.html").exists()
    with pytest.raises(RunError, match="at least one"):
        write_report([])


def test_a_large_grid_stays_small_enough_for_a_phone(tmp_path: Path) -> None:
    letters = "abcdefghij"
    codes = [f"q{letters[i // 10 % 10]}{letters[i % 10]}" for i in range(80)]
    tasks = ["pos", "ner", "topic", "nli"]
    rng = np.random.default_rng(0)
    cells = [
        cell(task, code, list(Kind)[i % 4], "accuracy", float(rng.uniform(20, 95)))
        for task in tasks
        for i, code in enumerate(codes)
    ]
    cells += [cell("mlm", code, Kind.SUPERVISED, "perplexity", 9.0) for code in codes]
    out = write_report([write_results(tmp_path / "large", cells)])
    assert out.stat().st_size < 1_500_000
    assert len(re.findall(r'<td class="[qp]\d+"', out.read_text(encoding="utf-8"))) == 400


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
