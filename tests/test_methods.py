from __future__ import annotations

import pytest

from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS, as_method, reads


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
        "head": False,
    }


def test_something_has_to_be_left() -> None:
    with pytest.raises(ValueError, match="must hold task or language"):
        as_method("task-hypernet", HypernetConfig(sources=("language", "layer")))
