"""Which formats can hold which types of task, and which columns they must name."""

from __future__ import annotations

from ..errors import nearest
from ..tasks import TaskType
from .faults import Faults
from .placed import PlacedBlock

_TABLES = ("tsv", "csv", "jsonl", "hub")
_FORMATS = {
    TaskType.TAGGING: ("conllu", "columns", *_TABLES),
    TaskType.SPANS: ("conllu", "columns", *_TABLES),
    TaskType.PARSING: ("conllu", "columns", *_TABLES),
    TaskType.CLASSIFICATION: _TABLES,
    TaskType.PAIRS: _TABLES,
    TaskType.MLM: ("text", "conllu", "columns", *_TABLES),
}
_TABLE_FIELDS = {
    TaskType.TAGGING: ("words", "labels"),
    TaskType.SPANS: ("words", "labels"),
    TaskType.PARSING: ("words", "heads", "labels"),
    TaskType.CLASSIFICATION: ("text", "label"),
    TaskType.PAIRS: ("text", "pair", "label"),
    TaskType.MLM: ("text",),
}
_FIELDS = {"conllu": ("label",), "columns": ("word", "label"), "text": ()}
_TREE_FIELDS = {"conllu": ("head", "label"), "columns": ("word", "head", "label")}


def check_format(block: PlacedBlock, task_type: TaskType, faults: Faults) -> None:
    """Note a format that cannot hold the task, and fields that it does not have or lacks."""
    section, loc = block.section, block.loc
    if section.format not in _FORMATS[task_type]:
        fitting = ", ".join(_FORMATS[task_type])
        faults.add(
            (*loc, "format"),
            f"{section.format} cannot hold a task of type {task_type}; use one of {fitting}",
        )
        return
    by_format = _TREE_FIELDS if task_type is TaskType.PARSING else _FIELDS
    known = by_format.get(section.format, _TABLE_FIELDS[task_type])
    for field, column in section.fields.items():
        if field not in known:
            listed = ", ".join(known) or "none"
            faults.add(
                (*loc, "fields", field),
                f"{section.format} has no such field for {task_type}.{nearest(field, known)} "
                f"Known: {listed}.",
            )
        elif isinstance(column, int) != (section.format == "columns"):
            wanted = "number, counted from 1" if section.format == "columns" else "name"
            faults.add((*loc, "fields", field), f"must be the column's {wanted}, not {column}")
    missing = [field for field in known if field not in section.fields]
    needs_all = section.format in _TABLES or (section.format == "columns" and "head" in missing)
    if missing and needs_all and not faults.is_broken(*loc):
        faults.add(
            (*loc, "fields"),
            f"do not say which column holds the {' and the '.join(missing)}; "
            f"write fields: {{{', '.join(f'{field}: …' for field in known)}}}",
        )
