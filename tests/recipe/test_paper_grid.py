"""The paper's grid of experiments: every run of it is a good recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperlect.recipe import load_recipe
from hyperlect.recipe.document import read_document
from hyperlect.recipe.faults import Faults

FOLDER = Path(__file__).parents[2] / "recipes" / "paper"
SIZES = (5, 10, 20, 50, 100, 500)
DRAWS = (1, 2, 3)
SETTINGS = ("english-single", "english-multi", "mixed")


@pytest.fixture(scope="module")
def grid() -> dict[str, Any]:
    faults = Faults()
    found = read_document((FOLDER / "grid.yaml").read_text(encoding="utf-8"), faults)
    assert not faults.found
    assert isinstance(found, dict)
    return found


def runs(grid: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Setting, part, method and what is set, for all runs of one seed."""
    for name, setting in grid["settings"].items():
        for part, own in (setting.get("parts") or {"": {}}).items():
            for method in setting.get("methods", grid["methods"]):
                extra = grid.get("method_set", {}).get(method, {})
                yield name, part, method, {**extra, **setting.get("set", {}), **own}


def test_the_settings_of_the_paper_are_all_there(grid: dict[str, Any]) -> None:
    for backbone in ("", "xlmr-"):
        for setting in SETTINGS:
            for text in ("", "-mlm"):
                found = grid["settings"][f"{backbone}{setting}{text}"]
                assert (found.get("set", {}).get("backbone") is not None) is bool(backbone)
                assert ("mad-x" in found.get("methods", grid["methods"])) is bool(text)
    curves = {f"few-shot-{size}-{draw}" for size in SIZES for draw in DRAWS}
    assert curves == {name for name in grid["settings"] if name.startswith("few-shot")}
    assert len(grid["seeds"]) >= 3


def test_a_setting_says_the_size_and_draw_of_its_name(grid: dict[str, Any]) -> None:
    for size in SIZES:
        for draw in DRAWS:
            setting = grid["settings"][f"few-shot-{size}-{draw}"]
            assert setting["set"] == {"few_shot.examples": size, "few_shot.draw": draw}
            assert setting["after"] in grid["settings"]
            assert set(setting["methods"]) <= set(grid["methods"])
            assert set(setting["seeds"]) <= set(grid["seeds"])


def test_the_header_counts_the_runs(grid: dict[str, Any]) -> None:
    header = (FOLDER / "grid.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    long, short = map(int, re.findall(r"(\d+) (?:runs )?of (?:100,000|200)", header))
    counts = [0, 0]
    for name, *_ in runs(grid):
        seeds = grid["settings"][name].get("seeds", grid["seeds"])
        counts[name.startswith("few-shot")] += len(seeds)
    assert counts == [long, short]


def test_every_run_is_a_good_recipe(grid: dict[str, Any]) -> None:
    seen = set()
    for name, part, method, settings in runs(grid):
        changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        file = FOLDER / grid["settings"][name]["recipe"]
        recipe = load_recipe(file, (*changes, f"method={method}", "name=run"))
        trained = {cell.task for cell in recipe.cells("train")}
        if part:
            assert part.split("-")[0] in trained
        if not name.startswith("few-shot"):
            assert ("mlm" in trained) is ("-mlm" in name)
        seen.add(name)
    assert seen == grid["settings"].keys()
