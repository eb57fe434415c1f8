"""The page in a real browser: by mouse and by keyboard, in light and dark, narrow and wide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")
pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from hyperlect.evaluation import CellResult, Results
from hyperlect.evaluation.results import Expected, write_results
from hyperlect.grid import Kind
from hyperlect.model import HyperX

from ..test_predict import random_model
from .services import Running, running

CHROMIUM = Path("/usr/bin/chromium")
HEBREW = "דנה גרה בחיפה."
TEXT = "Anna sees the old river in Oslo."
WORDS = ["Anna", "sees", "the", "old", "river", "in", "Oslo", "."]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing"),
]


def model() -> HyperX:
    """Return a model whose tags, too, vary from language to language."""
    model = random_model()
    torch.nn.init.zeros_(model.own_parameters()["heads.pos.linear.bias"])
    return model


@pytest.fixture(scope="module")
def service(tmp_path_factory: Any) -> Iterator[Running]:
    run = tmp_path_factory.mktemp("run")
    expected = Expected(score=50.0, low=40.0, high=60.0)
    cells = [
        ("ner", "isl", Kind.SUPERVISED, 61.0, None),
        ("ner", "heb", Kind.UNTOUCHED, 41.5, expected),
        ("pos", "eng", Kind.SUPERVISED, 93.0, None),
    ]
    results = [
        CellResult(
            task=task,
            language=language,
            kind=kind,
            metric="span F1" if task == "ner" else "accuracy",
            score=score,
            examples=9,
            expected=expectation,
        )
        for task, language, kind, score, expectation in cells
    ]
    named = Results(name="mine", method="hyperx", backbone="tiny", cells=tuple(results))
    write_results(run, named)
    with running(model(), run) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A tab with the page in it, and what a reader does there.

    Attributes:
        page: Playwright's.
        requests, errors: the addresses that it asked for, and what its scripts complained of.
    """

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(
            permissions=["clipboard-read", "clipboard-write"], **options
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.heard)
        self.page.goto(url)

    def heard(self, message: Any) -> None:
        """Keep what the browser complains of, but for statuses, which the page explains."""
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def ready(self) -> Tab:
        self.page.wait_for_selector("#cells table")
        return self

    def choose(self, box: str, query: str) -> None:
        """Choose a language by typing, in "language" or "second"."""
        self.page.fill(f"#{box}", query)
        self.page.keyboard.press("Enter")

    def tasks(self, *names: str) -> None:
        for box in self.page.query_selector_all("#tasks input"):
            box.set_checked(box.get_attribute("id").removeprefix("task-") in names)

    def ask(self, text: str = TEXT) -> None:
        self.page.fill("#text", text)
        self.page.click("#go")
        self.answered()

    def answered(self) -> None:
        self.page.wait_for_selector("#go:not([aria-busy])")
        self.page.wait_for_selector("#answers article")

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def value(self, selector: str) -> str:
        value: str = self.page.input_value(selector)
        return value

    def attribute(self, selector: str, name: str) -> Any:
        return self.page.locator(selector).first.get_attribute(name)

    def focused(self) -> dict[str, str]:
        element = "document.activeElement"
        attributes: dict[str, str] = self.page.evaluate(
            f"Object.fromEntries([...{element}.attributes].map((a) => [a.name, a.value]))"
        )
        return attributes

    def clipboard(self) -> str:
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text


@pytest.fixture
def tab(browser: Any, service: Running) -> Iterator[Tab]:
    tab = Tab(browser, service.url).ready()
    yield tab
    tab.context.close()
    assert tab.errors == []


def expected_labels(task: str, language: str, text: str = TEXT) -> list[str]:
    (prediction,) = model().predict([text], task, language)
    return list(prediction.labels)


def test_all_tasks_of_a_text_are_shown_with_the_kind_of_their_cells(tab: Tab) -> None:
    tab.tasks("pos", "ner", "topic", "nli", "dep")
    tab.choose("language", "Icelandic")
    tab.page.fill("#pair", "a cat sees Anna")
    tab.ask()
    words, tags = tab.texts(".words bdi"), tab.texts(".words .tag")
    assert (words, tags) == (WORDS, expected_labels("pos", "isl"))
    (entities,) = model().predict([TEXT], "ner", "isl")
    assert tab.texts("mark > bdi") == [span.text for span in entities.spans]
    labels = [text.split()[0] for text in tab.texts("mark .tag")]
    assert labels == [span.label for span in entities.spans]
    (tree,) = model().predict([TEXT], "dep", "isl")
    relations = tab.page.locator("svg.tree .relation").all_text_contents()
    assert sorted(relations) == sorted(tree.labels)
    assert tab.page.locator("svg.tree .form").all_text_contents() == WORDS
    kinds = tab.texts("article .kind")
    assert kinds == [*["unseen combination"], "supervised", *["unseen combination"] * 3]
    assert "own vector" in tab.texts("article .facts")[0]
    (topic,) = model().predict([TEXT], "topic", "isl")
    (pair,) = model().predict([(TEXT, "a cat sees Anna")], "nli", "isl")
    assert tab.texts(".labels .best th") == [topic.label, pair.label]


def test_what_to_expect_of_a_cell_is_said(tab: Tab) -> None:
    tab.tasks("ner")
    tab.choose("language", "heb")
    tab.ask()
    (facts,) = tab.texts("article .facts")
    assert "41.5" in facts
    assert re.search(r"50 span F1 \(40–60\)", facts)


def test_the_page_works_by_keyboard_alone(tab: Tab) -> None:
    page = tab.page
    keys = page.keyboard

    def tab_to(name: str) -> None:
        for _ in range(20):
            keys.press("Tab")
            if tab.focused().get("id") == name:
                outline = "getComputedStyle(document.activeElement.closest('label') ?? "
                outline += "document.activeElement).outlineStyle"
                assert page.evaluate(outline) != "none"  # the focus can be seen
                return
        raise AssertionError(name)

    tab_to("text")
    keys.type(TEXT)
    tab_to("task-pos")
    keys.press("Space")
    tab_to("task-ner")
    keys.press("Space")
    tab_to("language")
    keys.type("íslen")
    assert tab.attribute("#language", "aria-expanded") == "true"
    active = tab.attribute("#language", "aria-activedescendant")
    assert "Icelandic" in page.inner_text(f"#{active}")
    keys.press("Enter")
    assert tab.value("#language") == "Icelandic (isl)"
    assert tab.attribute("#language", "aria-expanded") == "false"
    tab_to("go")
    keys.press("Enter")
    tab.answered()
    assert tab.texts("article h3") == ["ner entities"]
    page.focus("#text")
    keys.press("End")
    keys.type(" dog")
    keys.press("Control+Enter")
    page.locator("#answers", has_text="dog").wait_for()
    page.focus("#copies button:last-child")
    keys.press("Enter")
    page.get_by_text("Copied as JSON.").wait_for()


def test_a_language_is_known_by_its_names_and_codes(tab: Tab) -> None:
    first = tab.page.locator("#language-list [role=option]").first
    for query in ("isl", "is", "Icelandic", "ICELANDIC", "islenska"):
        tab.choose("language", "English")
        tab.page.fill("#language", query)
        assert first.inner_text().startswith("Icelandic")
        first.click()
        assert tab.value("#language") == "Icelandic (isl)"


def test_the_list_of_languages_follows_the_keys_of_a_combobox(tab: Tab) -> None:
    page, keys = tab.page, tab.page.keyboard
    page.focus("#second")
    keys.press("ArrowDown")
    options = tab.texts("#second-list [role=option]")
    assert options[0] == "no other language"
    run = [option.split()[0] for option in options[1:5]]
    assert run == ["English", "Faroese", "Hebrew", "Icelandic"]  # those of the run, then others
    assert len(options) > 50
    keys.press("ArrowDown")
    keys.press("ArrowUp")
    keys.press("ArrowDown")
    keys.press("Enter")
    assert tab.value("#second") == "English (eng)"
    page.fill("#second", "Hebr")
    keys.press("Escape")
    assert tab.value("#second") == "English (eng)"
    assert tab.attribute("#second", "aria-expanded") == "false"
    page.fill("#second", "")
    keys.press("Tab")
    assert tab.value("#second") == ""


def test_a_language_beyond_the_list_is_asked_for_as_it_was_typed(tab: Tab) -> None:
    tab.tasks("ner")
    tab.choose("language", "aaq")
    tab.ask()
    assert tab.texts("article .kind") == ["unseen language, untouched"]
    tab.choose("language", "Klingonish")
    tab.page.click("#go")
    tab.page.get_by_text("Klingonish").last.wait_for()
    assert "Klingonish" in tab.page.inner_text("#error")


def test_two_languages_stand_side_by_side_with_their_differences(tab: Tab) -> None:
    tab.tasks("pos", "ner", "dep")
    tab.choose("language", "Icelandic")
    tab.choose("second", "Faroese")
    tab.ask()
    assert tab.texts("[data-task=pos] h4") == ["Icelandic íslenska", "Faroese føroyskt"]
    pairs = zip(expected_labels("pos", "isl"), expected_labels("pos", "fao"), strict=True)
    differing = [one != other for one, other in pairs]
    assert 0 < sum(differing) < len(WORDS)
    columns = tab.page.locator("[data-task=pos] .body")
    for column in (columns.first, columns.last):
        marked = ["differs" in word.get_attribute("class") for word in column.locator("li").all()]
        assert marked == differing
        assert ["≠" in tag for tag in column.locator(".tag").all_inner_texts()] == differing
    assert tab.texts("[data-task=pos] .sum")[0].startswith(f"{sum(differing)} of {len(WORDS)} ")
    boxes = [column.bounding_box() for column in (columns.first, columns.last)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    # A word that is an entity in one language alone is marked in the other, too.
    places = [place for place, label in enumerate(expected_labels("ner", "isl")) if label == "O"]
    missed = tab.page.locator("[data-task=ner] .body").first.locator(".missed")
    assert [text.split("≠")[0] for text in missed.all_inner_texts()] == [WORDS[p] for p in places]
    trees = [model().predict([TEXT], "dep", code)[0] for code in ("isl", "fao")]
    arcs = [list(zip(tree.heads, tree.labels, strict=True)) for tree in trees]
    count = sum(one != other for one, other in zip(*arcs, strict=True))
    drawn = tab.page.locator("[data-task=dep] .body").first.locator(".arc.differs")
    assert drawn.count() == count > 0


@pytest.mark.parametrize("by", ["click", "Enter"])
def test_a_cell_of_the_grid_picks_its_task_and_language(tab: Tab, by: str) -> None:
    tab.page.fill("#text", TEXT)
    cell = tab.page.locator('button[data-task="ner"][data-language="heb"]')
    assert cell.inner_text().strip() == "41.5"
    if by == "click":
        cell.click()
    else:
        tab.page.locator('#cells button[tabindex="0"]').focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
            tab.page.keyboard.press(key)
        assert (tab.focused()["data-task"], tab.focused()["data-language"]) == ("ner", "heb")
        tab.page.keyboard.press("Enter")
    tab.answered()
    assert tab.value("#language") == "Hebrew (heb)"
    assert tab.texts("article h3") == ["ner entities"]
    assert tab.page.locator("#cells [aria-selected=true] button[data-chosen]").count() == 1
    assert tab.page.locator('#cells button[tabindex="0"]').count() == 1


def test_the_grid_averages_the_scores_of_each_kind(tab: Tab) -> None:
    row = tab.page.locator(".averages tbody tr", has_text="supervised")
    assert row.locator("td").all_inner_texts()[:2] == ["93.0 (1)", "61.0 (1)"]


def test_right_to_left_scripts_run_from_right_to_left(tab: Tab) -> None:
    tab.tasks("pos", "ner", "dep")
    tab.choose("language", "Hebrew")
    tab.ask(HEBREW)
    assert tab.attribute("#text", "dir") == "rtl"
    for shown in (".words", ".running", "[data-task=dep] .scroll"):
        assert tab.attribute(shown, "dir") == "rtl"
        assert tab.attribute(shown, "lang") == "he"
    for words in (".words li", "svg.tree .form"):
        first, *_, last = (one.bounding_box()["x"] for one in tab.page.locator(words).all())
        assert first > last
    assert tab.attribute(".words .tag", "dir") == "ltr"
    tab.ask(TEXT)  # a text of the other direction keeps its own
    assert tab.attribute(".words", "dir") == "ltr"


def test_an_answer_can_be_copied(tab: Tab) -> None:
    tab.tasks("pos", "ner", "dep", "topic")
    tab.choose("language", "isl")
    tab.ask()

    def copied(name: str) -> str:
        tab.page.get_by_role("button", name=name, exact=True).click()
        tab.page.get_by_text(f"Copied as {name.removeprefix('Copy ')}.").wait_for()
        return tab.clipboard()

    (tree,) = model().predict([TEXT], "dep", "isl")
    tags, entities = expected_labels("pos", "isl"), expected_labels("ner", "isl")
    lines = copied("Copy CoNLL-U").splitlines()
    assert lines[:2] == [f"# text = {TEXT}", "# language = isl"]
    rows = [line.split("\t") for line in lines if line[:1].isdigit()]
    assert [row[1] for row in rows] == WORDS
    assert [row[6] for row in rows] == [str(head) for head in tree.heads]
    assert [row[7] for row in rows] == list(tree.labels)
    assert [row[3] for row in rows] == tags
    assert [row[9].split("|")[0] for row in rows] == [f"ner={label}" for label in entities]
    assert rows[6][9].endswith("SpaceAfter=No")
    assert all(len(row) == 10 for row in rows)
    rows = [line.split("\t") for line in copied("Copy CoNLL").splitlines() if line]
    assert rows == [list(row) for row in zip(WORDS, tags, entities, strict=True)]
    (item,) = json.loads(copied("Copy JSON"))["items"]
    assert [one["task"] for one in item["predictions"]] == ["pos", "ner", "topic", "dep"]


def test_words_and_confidences_can_be_read_as_a_table(tab: Tab) -> None:
    tab.tasks("dep")
    tab.ask(f"{TEXT}\nthe cat")
    assert tab.page.locator("svg.tree").count() == 2  # each line is a text
    tab.page.locator("summary").first.focus()
    tab.page.keyboard.press("Enter")
    rows = tab.page.locator("details[open] tbody tr")
    rows.first.wait_for()
    assert rows.count() == len(WORDS)
    assert re.fullmatch(r"\d+\s%", rows.first.locator("td").last.inner_text())


def test_failures_are_said_in_sentences(tab: Tab) -> None:
    answers = iter([429, 503, 504, 500, None])

    def fail(route: Any) -> None:
        status = next(answers)
        if status is None:
            route.abort()
            return
        headers = {"Retry-After": "3"} if status == 429 else {}
        body = {"title": "", "status": status, "detail": "It broke."}
        route.fulfill(status=status, headers=headers, json=body)

    tab.page.route("**/v1/predict", fail)
    tab.page.fill("#text", TEXT)
    for sentence in (
        "busy. Try again in 3 seconds",
        "no room at the moment",
        "took too long",
        "failed: It broke",
        "does not answer",
    ):
        tab.page.click("#go")
        tab.page.locator("[role=alert]", has_text=sentence).wait_for()
    tab.page.unroute("**/v1/predict")
    tab.page.click("#go")
    tab.answered()
    assert tab.page.inner_text("#error") == ""


def test_what_is_missing_is_said_and_focused(tab: Tab) -> None:
    tab.page.click("#go")
    assert "text first" in tab.page.inner_text("[role=alert]")
    assert tab.focused()["id"] == "text"
    tab.tasks("nli")
    tab.page.fill("#text", TEXT)
    tab.page.click("#go")
    assert "second text" in tab.page.inner_text("[role=alert]")
    assert tab.focused()["id"] == "pair"
    tab.tasks("ner")
    tab.page.fill("#text", "a" * 10_001)
    tab.page.click("#go")
    tab.page.locator("[role=alert]", has_text="10000").wait_for()


def test_a_token_is_asked_for(browser: Any) -> None:
    with running(token="secret") as service:
        tab = Tab(browser, service.url)
        tab.page.locator("[role=alert]", has_text="needs a token").wait_for()
        tab.page.fill("#text", TEXT)
        tab.page.fill("#token", "other")
        tab.page.keyboard.press("Enter")
        tab.page.locator("[role=alert]", has_text="does not accept").wait_for()
        tab.page.fill("#token", "secret")
        tab.page.keyboard.press("Enter")
        tab.answered()
        tab.page.reload()
        tab.ready()
        tab.context.close()
        assert tab.errors == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_no_violation(browser: Any, service: Running, scheme: Any, width: int) -> None:
    viewport = {"width": width, "height": 740}
    tab = Tab(browser, service.url, color_scheme=scheme, viewport=viewport).ready()
    tab.tasks("pos", "ner", "dep", "topic")
    tab.choose("language", "Hebrew")
    tab.choose("second", "Faroese")
    tab.ask(f"{TEXT}\n{HEBREW}")
    tab.page.locator("summary").first.click()
    tab.page.fill("#language", "a")  # opens the list
    violations = Axe().run(tab.page)
    assert violations.violations_count == 0, violations.generate_report()
    tab.page.keyboard.press("Escape")
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.context.close()
    assert tab.errors == []


def test_no_request_leaves_the_host(tab: Tab, service: Running) -> None:
    tab.tasks("pos", "ner", "dep", "topic")
    tab.ask()
    assert len(tab.requests) > 8
    assert [url for url in tab.requests if not url.startswith(service.url)] == []
    response = service.client.get("/")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    for name in ("page.html", "..%2Fapp.py", "none.js", "%2Fetc%2Fpasswd"):
        assert service.client.get(f"/page/{name}").status_code == 404
