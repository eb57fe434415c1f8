"""Counts of parameters are those of real models."""

from __future__ import annotations

import pytest

from hyperlect.accounting import FORMULAS, Sizes, count
from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS, Method
from tests.hypernet import twin
from tests.model.made import MLM, NER, POS, TOPIC, make

HEADS = ("heads.",)


def counted(method: Method, **settings: object) -> tuple[int, int]:
    """Of a tiny model: its parameters beside heads, and those of its encoder."""
    model = make(method=method, **settings)  # type: ignore[arg-type]
    own = sum(p.numel() for n, p in model.own_parameters().items() if not n.startswith(HEADS))
    return own, sum(p.numel() for p in model.backbone.encoder.parameters())


@pytest.mark.parametrize("variant", twin.VARIANTS)
@pytest.mark.parametrize("method", ["hyperx", "adapters"])
def test_every_variant(method: Method, variant: str) -> None:
    hypernet = twin.VARIANTS[variant]
    own, encoder = counted(method, hypernet=hypernet)
    found = count(method, twin.small(**hypernet), Sizes(32, 2, encoder), 4, 3)
    assert found.total == own


@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_what_one_more_adds(method: Method) -> None:
    labelled = (POS, NER, TOPIC)
    mlm = () if method == "mad-x" else (MLM,)  # which needs no adapter of its own there
    own, encoder = counted(method)
    found = count(method, twin.small(), Sizes(32, 2, encoder), len(labelled + mlm), 3)
    assert found.total == own
    fewer, _ = counted(method, tasks=(POS, NER, MLM), trained=())
    assert own - fewer == found.another_task
    less, _ = counted(method, languages=("eng", "isl"), trained=())
    assert own - less == found.another_language
    assert method in FORMULAS


@pytest.mark.parametrize(("projection", "published"), [(192, 76_460_288), (32, 13_105_248)])
def test_the_published_sizes(projection: int, published: int) -> None:
    config = HypernetConfig(projection=projection)
    found = count("hyperx", config, Sizes(768, 12, 177_853_440), tasks=2, languages=8)
    assert (found.total, found.another_language) == (published, 64)


@pytest.mark.parametrize("method", METHODS)
def test_the_formulas_are_the_counts(method: Method) -> None:
    """The texts, read as arithmetic, at the published size."""
    names = {"T": 2, "N": 8, "L": 12, "e": 64, "p": 192, "E": 1000, "h": 768, "b": 256}
    names["A"] = eval("2 * h * b + b + 3 * h", {}, names)
    expected = count(method, HypernetConfig(), Sizes(768, 12, 1000), 2, 8).total
    assert eval(FORMULAS[method].replace("·", "*"), {}, names) == expected
