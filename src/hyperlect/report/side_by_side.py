"""The sections that put several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..evaluation.results import is_perplexity
from ..grid import Kind
from .comparison import Group, comparable
from .data import Run
from .markup import Html, join, tag
from .scales import Scale, count_of
from .sections import Section, figure, note
from .strips import Strip, strip_panel
from .tables import comparison_table, kinds_list, runs_table


def comparison_sections(
    runs: Sequence[Run], names: Sequence[str], scales: Mapping[bool, Scale]
) -> list[Section]:
    """What the runs are, and their averages over the cells that they share."""
    groups, left_out = comparable(runs)
    return [
        Section("runs", "The runs", runs_table(runs, names)),
        Section("compare", "Side by side", _averages(names, groups, left_out, scales)),
    ]


def _averages(
    names: Sequence[str], groups: Sequence[Group], left_out: int, scales: Mapping[bool, Scale]
) -> Html:
    if not groups:
        return note(
            "The runs have no cell in common: none of the same task, language, kind and metric "
            "with the same number of examples. Evaluate them on the same cells to compare them."
        )
    text = "Means over the cells that every run scored, as the same kind and on the same data. "
    if left_out:
        text += f"{count_of(left_out, 'cell')} for which that is not so "
        text += f"{'is' if left_out == 1 else 'are'} left out. "
    text += "A small difference of means may be chance: nothing here is tested for significance."
    kinds = [kind for kind in Kind if any(group.kind is kind for group in groups)]
    return join(
        [
            kinds_list(kinds),
            tag("p", text),
            comparison_table(groups, names),
            tag("div", *_panels(names, groups, scales), class_="panels"),
        ]
    )


def _panels(
    names: Sequence[str], groups: Sequence[Group], scales: Mapping[bool, Scale]
) -> list[Html]:
    figures = []
    for index, task in enumerate(dict.fromkeys(group.task for group in groups)):
        of_task = [group for group in groups if group.task == task]
        strips = [
            Strip(group.kind, cells, mean, label)
            for group in of_task
            for label, cells, mean in zip(names, group.cells, group.means, strict=True)
        ]
        metric = of_task[0].metric
        drawing = strip_panel(strips, scales[is_perplexity(metric)], f"compare{index}", task)
        figures.append(figure(task, metric, drawing))
    return figures
