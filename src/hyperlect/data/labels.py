"""Labels: from those in the data to the label set of a task."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import DataError, Problems, counted, listed, nearest
from ..tasks import OUTSIDE, Task, TaskType, label_set
from .corpus import arrow_column, list_lengths, places

if TYPE_CHECKING:
    from datasets import Dataset

Ids = NDArray[np.int64]

IGNORED = -100
"""The id of a word without a label, where the task says that such words are ignored."""
_UNKNOWN = -1

_TWINS = {"true": "True", "false": "False", "True": "true", "False": "false"}
"""One value as JSON and as Python write it."""
_OTHER_SCHEMES = re.compile(r"[MELSU]-.+")
_OTHER_TAGS = re.compile(r"(?:([BIESLU])[_:/](.+)|(.+)[-_:/]([BIESLU]))")


class _Labels:
    """The labels of a corpus, one after the other.

    Attributes:
        examples: the corpus.
        distinct: every label that occurs, in order of first occurrence; an empty text for none.
        codes: (labels,), each an index into `distinct`.
        rows: (labels,), the example of each.
        starts: (examples + 1,), where the labels of each example begin.
    """

    def __init__(self, examples: Dataset, task: Task) -> None:
        if task.type.reads_words:
            counts = list_lengths(examples, "labels")
            labels = pc.list_flatten(arrow_column(examples, "labels"))
        else:
            counts = np.ones(len(examples), np.int64)
            labels = arrow_column(examples, "label").fill_null("")
        encoded = labels.combine_chunks().dictionary_encode()
        self.examples = examples
        self.distinct: list[str] = encoded.dictionary.to_pylist()
        self.codes: Ids = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        self.rows: Ids = np.repeat(np.arange(len(counts)), counts)
        self.starts: Ids = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def note(self, problems: Problems, at: int, what: str, task: Task | None = None) -> None:
        """Note a label: ``word 3, "Anna", has the label "I-PER" (7 times), which …``.

        Args:
            problems: takes the note.
            at: the place of the label among all.
            what: is said about it.
            task: of which it is no label: how often it occurs, and what may be meant, is added.
        """
        row, label = int(self.rows[at]), self.distinct[self.codes[at]]
        ((file, line),) = places(self.examples, [row])
        words, word = self.examples[row]["words"], int(at - self.starts[row])
        times = int((self.codes == self.codes[at]).sum())
        often = f" ({times:,} times)" if times > 1 and task else ""
        has = f'has the label "{label}"{often}, which {what}' if label else f"has no label{often}"
        named = f'word {word + 1}, "{words[word]}",' if words else "the text"
        hint = _hint(label, task) if label and task else ""
        problems.add(f"{named} {has}.{hint}", line, file=file)


def label_ids(examples: Dataset, task: Task) -> tuple[Ids, Ids]:
    """Look up every label of a corpus in the label set of a task, after the task's label map.

    Spans are turned into IOB2 from the scheme that the task names. In IOB2 data an ``I-X`` that
    continues no span of type X is read as ``B-X``, as conlleval reads it: such tags occur in
    published corpora. A warning counts them.

    Args:
        examples: rows as `corpus.read_corpus` gives them.
        task: any but raw text.

    Returns:
        All label ids one after the other (`IGNORED` for a word without a label), and where those
        of each example begin (one more entry than examples).

    Raises:
        DataError: examples without labels, or labels that the task does not know, each with file
            and line.
    """
    labels = _Labels(examples, task)
    known = {label: index for index, label in enumerate(task.labels)}
    mapped = [task.map_label(label) for label in labels.distinct]
    table = [known.get(label, known.get(_TWINS.get(label, label), _UNKNOWN)) for label in mapped]
    if task.unlabelled == "ignore" and "" in labels.distinct:
        table[labels.distinct.index("")] = IGNORED
    ids = np.array(table, np.int64)[labels.codes]
    if task.type is TaskType.SPANS:
        begins = [known.get(f"B{tag[1:]}", _UNKNOWN) if tag[:2] == "I-" else 0 for tag in mapped]
        strays = _stray_tags(labels, task, np.array([tag != OUTSIDE for tag in mapped], bool))
        ids[strays] = np.array(begins, np.int64)[labels.codes[strays]]
    if ignored := int((ids == IGNORED).sum()):
        without = f"{ignored:,} of {counted(len(ids), 'word')} have no label"
        file = examples[0]["file"]
        warnings.warn(f"{file}: {without}, so they are not trained or scored.", stacklevel=2)
    _check(labels, task, ids)
    return ids, labels.starts


def label_set_of(corpora: Iterable[Dataset], task: Task) -> tuple[str, ...]:
    """Gather the label set of a task from the corpora of all its training cells.

    Args:
        corpora: rows as `corpus.read_corpus` gives them.
        task: its type, label map and scheme count.

    Returns:
        The mapped labels in the order of `tasks.label_set`.

    Raises:
        DataError: a label of a span task is not a tag of its scheme; each is named with the file
            and line where it first occurs. Or there is no label, or one alone, but for parsing,
            whose trees are learned without any.
    """
    mapped: set[str] = set()
    least = {TaskType.MLM: 0, TaskType.PARSING: 1}.get(task.type, 2)
    problems = Problems()
    for examples in corpora if least else ():
        labels = _Labels(examples, task)
        for code, label in enumerate(labels.distinct):
            if label and task.type is TaskType.SPANS and task.split_tag(label) is None:
                at = int(np.argmax(labels.codes == code))
                labels.note(problems, at, f"is not a tag of the scheme {task.scheme}", task)
            elif label:
                mapped.add(task.map_label(label))
    if not problems and len(mapped) < least:
        which = f'no label but "{mapped.pop()}"' if mapped else "no label"
        hint = "so there is nothing to learn. Name the column that holds the labels"
        problems.add(f"its training data has {which}, {hint}", key=f"tasks.{task.name}")
    problems.raise_if_any(DataError, f"The task {task.name} cannot be learned:")
    return label_set(task.type, mapped)


def _stray_tags(labels: _Labels, task: Task, kept: NDArray[np.bool_]) -> Ids:
    """Return where an inside tag begins a span, and warn where the scheme has no such tags.

    Args:
        labels, task: of spans.
        kept: of each distinct label, whether its entity type is not dropped.
    """
    tags = [task.split_tag(label) or ("", label) for label in labels.distinct]
    # Words without a label are skipped: what stands before and after them is one sequence.
    has_label = np.array([label != "" for label in labels.distinct], bool)
    labelled = np.flatnonzero(has_label[labels.codes])
    codes, rows = labels.codes[labelled], labels.rows[labelled]
    inside, ends = (
        np.array([prefix in prefixes for prefix, _ in tags], bool)[codes]
        for prefixes in (("I", "M", "E", "L"), ("", "E", "L", "S", "U"))
    )
    entities = np.unique([entity for _, entity in tags], return_inverse=True)[1][codes]
    begins = np.ones(len(codes), bool)
    begins[1:] = (rows[1:] != rows[:-1]) | (entities[1:] != entities[:-1]) | ends[:-1]
    strays: Ids = labelled[begins & inside]
    odd = strays[kept[labels.codes[strays]]]
    if len(odd) and task.scheme in ("iob2", "bioes"):
        first, what = Problems(), "continues no such span and is read as B-, the beginning of one"
        labels.note(first, int(odd[0]), what)
        count = f"{counted(len(odd), 'such tag')} in {counted(len(labels.starts) - 1, 'sentence')}"
        warnings.warn(f"{first.items[0]} Found {count}.", stacklevel=3)
    return strays


def _check(labels: _Labels, task: Task, ids: Ids) -> None:
    """Raise one error for all examples without labels and all labels that the task lacks."""
    problems = Problems()
    if task.type.reads_words:
        sizes, lengths = list_lengths(labels.examples, "words"), np.diff(labels.starts)
        rows = np.flatnonzero(lengths != sizes)
        for row, (file, line) in zip(rows, places(labels.examples, rows), strict=True):
            count = f"{counted(lengths[row], 'label')} for {counted(sizes[row], 'word')}"
            problems.add(count if lengths[row] else "no label", line, file=file)
    unknown = np.flatnonzero(ids == _UNKNOWN)
    firsts = np.sort(unknown[np.unique(labels.codes[unknown], return_index=True)[1]])
    if any(labels.distinct[code] for code in labels.codes[firsts]):
        kinds = ", as entity types without B- and I-" if task.type is TaskType.SPANS else ""
        hint = f"Fix the others in the data, map them (label_map), or list them here{kinds}"
        known = f"the labels are {listed(task.labels)}"
        problems.add(f"{known}. {hint}", key=f"tasks.{task.name}.labels")
    for at in firsts:
        labels.note(problems, int(at), f"the task {task.name} does not know", task)
    problems.raise_if_any(DataError, f"The labels of the task {task.name} cannot be used:")


def _hint(label: str, task: Task) -> str:
    """Say what a label that the task does not know is probably meant to be, and what to do."""
    if task.type is not TaskType.SPANS:
        return nearest(task.map_label(label), task.labels)
    if tag := task.split_tag(label):  # of another entity type
        close = nearest(task.map_entity(tag[1]), {known[2:] for known in task.labels} - {""})
        return close if label == tag[1] else close.replace('"', f'"{tag[0]}-', 1)
    if label in ("0", "o", "-", "_"):
        return f' Write the letter O, or map it: label_map: {{"{label}": O}}.'
    if _OTHER_SCHEMES.fullmatch(label):
        return f" Are the tags BIOES? Write scheme: bioes under tasks.{task.name}."
    if len(label.rstrip("-")) == 1:
        return f' Map it to a tag with an entity type: label_map: {{"{label}": {label[0]}-TYPE}}.'
    if match := _OTHER_TAGS.fullmatch(label):
        meant = f"{match[1] or match[4]}-{match[2] or match[3]}"
        return f' Did you mean "{meant}"? Map it: label_map: {{"{label}": {meant}}}.'
    close = nearest(label, task.labels) if "-" in label else ""
    return close or f" Do the tags lack B- and I-? Write scheme: io under tasks.{task.name}."
