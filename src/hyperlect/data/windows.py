"""Where to part what is too long for the encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def balanced_windows(lengths: Sequence[int], capacity: int) -> list[range]:
    """Part a sequence into the fewest runs that fit, and of those parts the most even one.

    Args:
        lengths: of each item, none above `capacity`.
        capacity: the greatest sum of one run.

    Returns:
        Runs of indices, in order; the greatest sum among them is the least possible. None for
        an empty sequence.
    """
    if not lengths:
        return []
    if sum(lengths) <= capacity:
        return [range(len(lengths))]
    fewest = len(_fill(lengths, capacity))
    low, high = max(*lengths, -(-sum(lengths) // fewest)), capacity
    while low < high:
        middle = (low + high) // 2
        if len(_fill(lengths, middle)) <= fewest:
            high = middle
        else:
            low = middle + 1
    return _fill(lengths, low)


def cut(lengths: Iterable[int], capacity: int) -> Iterator[int]:
    """Cut every length above the capacity into several, in order."""
    for length in lengths:
        for start in range(0, length, capacity):
            yield min(capacity, length - start)


def _fill(lengths: Sequence[int], capacity: int) -> list[range]:
    """Fill runs one after the other, which takes the fewest runs."""
    runs = []
    start = total = 0
    for index, length in enumerate(lengths):
        if total + length > capacity and index > start:
            runs.append(range(start, index))
            start, total = index, 0
        total += length
    return [*runs, range(start, len(lengths))]
