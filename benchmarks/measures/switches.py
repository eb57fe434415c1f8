"""What the switches of a recipe save: adapters in some layers only, activations computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .bench import SMALL, Bench, Step
from .memory import MIB, peak
from .rows import Row, timed_row
from .steps import CELLS, shape, sizes

TOP = 4


def against_plain(bench: Bench, name: str, other: Step, plain: Step) -> Iterator[Row]:
    """Compare time and peak memory of a step with those of the same one as it comes."""
    steps = {"switched": other, "plain": plain}
    against = "the same without"
    about = shape(plain.batches)
    times = bench.times(steps)
    yield timed_row(name, against, None, times, ("switched", "plain"), extra=True, **about)
    peaks = {which: peak(bench, step) / MIB for which, step in steps.items()}
    ratio = peaks["switched"] / peaks["plain"]
    details = {"mebibytes": peaks, **about}
    yield Row(f"peak memory of a {name}", against, ratio, None, 1, True, details)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module; casts and compiling (minutes) on a GPU alone."""
    batches = bench.batches(CELLS[:1])
    plain = Step(bench, bench.model("hyperx", SMALL), batches)
    top = Step(bench, bench.model("hyperx", replace(SMALL, top_layers=TOP)), batches)
    name = f"training step, {sizes(SMALL)}"
    yield from against_plain(bench, f"{name}, adapters in the top {TOP} layers", top, plain)
    again = Step(bench, bench.model("hyperx", SMALL), batches)
    again.model.checkpoint_activations()
    again.model.backbone.eval()
    yield from against_plain(bench, f"{name}, activations computed again", again, plain)
    if bench.cuda:
        cast = Step(bench, bench.model("hyperx", SMALL), batches, keep=False)
        yield from against_plain(bench, f"{name}, frozen weights cast in every pass", cast, plain)
        compiled = Step(bench, bench.model("hyperx", SMALL), batches)
        compiled.model.backbone.compile_encoder(print)
        yield from against_plain(bench, f"{name}, encoder compiled", compiled, plain)
