from __future__ import annotations

import pytest

from hyperlect.grid import Cell, Grid
from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS, as_method, not_applicable, own_languages, reads


@pytest.mark.parametrize(
    ("method", "sources"),
    [
        ("hyperx", ("task", "language", "layer")),
        ("task-hypernet", ("task", "layer")),
        ("language-hypernet", ("language", "layer")),
    ],
)
def test_baselines_leave_a_source_out(method: str, sources: tuple[str, ...]) -> None:
    config = HypernetConfig(bottleneck=8)
    assert as_method(method, config) == HypernetConfig(bottleneck=8, sources=sources)
    assert [reads(method, config, source) for source in ("task", "language")] == [
        "task" in sources,
        "language" in sources,
    ]


def test_ordinary_adapters_know_the_task_and_heads_nothing() -> None:
    config = HypernetConfig()
    assert {m: reads(m, config, "task") for m in METHODS if not reads(m, config, "language")} == {
        "task-hypernet": True,
        "adapters": True,
        "finetune": False,
        "head": False,
    }


def test_something_has_to_be_left() -> None:
    with pytest.raises(ValueError, match="must hold task or language"):
        as_method("task-hypernet", HypernetConfig(sources=("language", "layer")))


GRID = Grid(
    [Cell("pos", "eng"), Cell("pos", "isl"), Cell("mlm", "eng"), Cell("mlm", "fao")], ["mlm"]
)


def test_language_adapters_are_for_the_languages_with_raw_text() -> None:
    assert own_languages("mad-x", GRID) == ["eng", "fao"]
    assert own_languages("hyperx", GRID) == ["eng", "fao", "isl"]


@pytest.mark.parametrize(
    ("cell", "applies"),
    [
        (("pos", "fao"), True), (("ner", "eng"), True), (("pos", "isl"), True),
        (("ner", "isl"), False), (("mlm", "isl"), False), (("pos", "dan"), False),
    ],
)  # fmt: skip
def test_madx_has_cells_as_it_was_trained_for_them(cell: tuple[str, str], applies: bool) -> None:
    own = own_languages("mad-x", GRID)
    assert (not_applicable("mad-x", own, GRID, Cell(*cell)) is None) == applies
    for method in METHODS:
        assert method == "mad-x" or not_applicable(method, own, GRID, Cell(*cell)) is None
