"""Data sets of the Hugging Face Hub (or folders laid out like one), through ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from typing import Any

from ...errors import UnreachableError
from ..cache import quiet
from ..examples import Example, Source
from .faults import Faults
from .records import columns_by_role, example, missing_columns

# Data sets that load by script only, which `datasets` has given up, and where the data is now.
_MOVED = {
    "wikiann": "unimelb-nlp/wikiann",
    "universal_dependencies": "commul/universal_dependencies",
}

# Where treebanks have the parts of speech, and CoNLL-U's sign for none, which marks there what is
# no word: multiword tokens.
_UPOS, _NONE = "upos", "_"


def read_hub(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read one split of a data set on the hub, or of a folder that ``load_dataset`` can read.

    Class numbers (``ClassLabel``) become the names of the classes; lists may be the words and
    labels of word-level data. Rows are counted from 1. Some treebanks there have the multiword
    tokens beside their words. As words these are left out, whatever the labels are: their part of
    speech, in the column ``upos``, is "_", and their head, where heads are read, "None".

    Rows without a label, or with words without one, are left out and counted in
    ``faults.unlabelled``: annotators did not agree, or labels are withheld (class number -1).
    """
    columns = columns_by_role(source, word_level, faults)
    if faults:
        return
    dataset = _load(source, faults)
    if dataset is None:
        return
    if missing := missing_columns(columns.values(), dataset.column_names):
        faults.whole(missing)
        return
    labels = columns.get("labels" if word_level else "label")
    tagged = word_level and _UPOS in dataset.column_names
    wanted = dict.fromkeys([*columns.values(), *([_UPOS] if tagged else [])])
    dataset = dataset.select_columns(list(wanted))
    names = {column: _class_names(feature) for column, feature in dataset.features.items()}
    for number, row in enumerate(dataset, start=1):
        record = {column: _named(value, names[column]) for column, value in row.items()}
        if tagged:
            _leave_out_multiword(record)
        if labels and _lacks_label(record[labels]):
            faults.unlabelled += 1
        elif made := example(record, columns, word_level, number, faults):
            yield made


def _load(source: Source, faults: Faults) -> Any:
    """Load the split; ``None`` (and a fault) where that fails.

    Raises:
        UnreachableError: there is no way to the hub, so that other splits would fail as well.
    """
    import datasets

    try:
        with quiet():
            loaded = datasets.load_dataset(
                source.location, name=source.config, revision=source.revision, split=source.split
            )
    except ConnectionError as error:
        raise UnreachableError(
            f"{source} cannot be read: {error}. Is there a network? Nothing more was asked for."
        ) from error
    # load_dataset passes on whatever its file readers and the network raise.
    except Exception as error:
        moved = _MOVED.get(source.location)
        hint = f' The data set has moved to "{moved}".' if moved else ""
        faults.whole(f"it could not be loaded: {type(error).__name__}: {error}{hint}")
        return None
    if isinstance(loaded, dict):
        faults.whole(f"split is not given; the data set has {', '.join(loaded)}")
        return None
    return loaded


def _class_names(feature: Any) -> list[str] | None:
    """The class names of a column of class numbers, or of lists of them."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return None if names is None else list(names)


def _named(value: Any, names: list[str] | None) -> Any:
    """Put class names in the place of class numbers; -1, which stands for none, becomes none."""
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if 0 <= value < len(names) else None


def _lacks_label(value: Any) -> bool:
    """Whether a label, or one of the labels of words, is none."""
    labels = value if isinstance(value, list) else [value]
    return any(label is None or (isinstance(label, str) and not label.strip()) for label in labels)


def _leave_out_multiword(record: dict[str, Any]) -> None:
    """Keep of the words, and of what goes with each, those that have a part of speech."""
    tags = record[_UPOS]
    if not isinstance(tags, list) or _NONE not in tags:
        return
    # A row that is not whole is left as it is, to be told of as it stands.
    if all(isinstance(value, list) and len(value) == len(tags) for value in record.values()):
        kept = [tag != _NONE for tag in tags]
        for column, value in record.items():
            record[column] = list(compress(value, kept))
