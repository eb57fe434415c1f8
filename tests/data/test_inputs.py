"""The forms of what is predicted for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hyperlect.data.inputs import checked_inputs
from hyperlect.errors import DataError
from hyperlect.tasks import Task, TaskType

POS = Task("pos", TaskType.TAGGING, ("NOUN",))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "people"))
NLI = Task("nli", TaskType.PAIRS, ("same", "other"))


@pytest.mark.parametrize(
    ("item", "task", "given"),
    [
        ("the cat!", POS, ["the", "cat", "!"]),
        (["the", "cat!"], POS, ["the", "cat!"]),
        (np.array(["the", "cat"]), POS, ["the", "cat"]),
        ("the cat!", TOPIC, "the cat!"),
        ("", TOPIC, ""),
        (("the", "cat"), TOPIC, "the cat"),
        (["the cat", "a dog"], NLI, ("the cat", "a dog")),
    ],
)
def test_each_task_gets_its_form(item: Any, task: Task, given: Any) -> None:
    assert checked_inputs([item], [task]) == [given]


def test_every_wrong_input_is_named_at_once() -> None:
    items = [["a", None], "the cat", None, "  ", [], ["a"], "ab", {"text": "a"}, b"a", 7]
    tasks = [POS, POS, TOPIC, POS, POS, NLI, NLI, TOPIC, POS, TOPIC]
    with pytest.raises(DataError) as caught:
        checked_inputs(items, tasks)
    assert str(caught.value).splitlines() == [
        "Some inputs cannot be used:",
        "  - input 0: None (NoneType) is not a text",
        "  - input 2: None (NoneType) is not a text",
        "  - input 3: it holds no word; leave empty lines out",
        "  - input 4: it holds no word; leave empty lines out",
        '  - input 5: the task "nli" takes two texts at a time',
        '  - input 6: the task "nli" takes two texts at a time',
        "  - input 7: {'text': 'a'} (dict) is not a text",
        "  - input 8: b'a' (bytes) is not a text",
        "  - input 9: 7 (int) is not a text",
    ]
