from __future__ import annotations

import pytest

from hyperlect.errors import HyperlectError
from hyperlect.experiment.clock import Slice, seconds, shown


@pytest.mark.parametrize(
    ("text", "length"),
    [("600", 600), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("90s", 90), ("1H", 3600)],
)
def test_spans_are_read(text: str, length: int) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "0", "0m", "ten", "10 minutes", "-5", "1.5h"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(HyperlectError, match="write 10m"):
        seconds(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3600, "1 h 0 min"), (5399, "1 h 30 min")],
)
def test_spans_are_written(span: float, text: str) -> None:
    assert shown(span) == text


def test_a_slice_starts_nothing_late_and_stops_in_time() -> None:
    now = [100.0]
    slice_ = Slice(600, lambda: now[0])
    told = []
    for at in (0, 539, 541, 569, 571, 599, 601):
        now[0] = 100.0 + at
        told.append((at, slice_.may_start, slice_.must_stop, slice_.is_over))
    assert told == [
        (0, True, False, False), (539, True, False, False), (541, False, False, False),
        (569, False, False, False), (571, False, True, False), (599, False, True, False),
        (601, False, True, True),
    ]  # fmt: skip


def test_a_short_slice_keeps_a_tenth() -> None:
    assert Slice(60).margin == 6


def test_a_slice_may_have_begun_before() -> None:
    assert Slice(60, lambda: 50.0, began=10.0).left == 20


def test_without_a_slice_there_is_no_end() -> None:
    slice_ = Slice()
    assert slice_.may_start
    assert not slice_.must_stop
    assert not slice_.is_over
