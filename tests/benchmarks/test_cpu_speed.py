import json

import pytest
from common import machine
from cpu_speed import FILE, LIBRARY, OURS, interval, section
from measures.page import PREDICTING
from measures.rows import timed_row


def results():
    row = {
        "words_a_second": {"mean": 1500.0, "low": 1400.0, "high": 1600.0},
        "words_a_processor_second": {"mean": 1000.0, "low": 990.0, "high": 1010.0},
        "faster_than_one_by_one": [3.0, 3.1, 3.2],
    }
    about = {"sentences": 10, "words": 2000, "languages": ["eng"], "repetitions": 3}
    times = {"hyperlect": [1.0, 1.0], "peft": [2.0, 2.0]}
    peft = timed_row("a", "b", None, times, ("hyperlect", "peft"), numbers=dict.fromkeys(times, 9))
    speeds = {"mean": 1000.0, "low": 900.0, "high": 1100.0}
    engine = {
        "words_a_processor_second": speeds,
        "sub_words_a_processor_second": speeds,
        "against_hyperlect": [0.4, 0.5, 0.6],
    }
    engines = {
        "batches": [[32, 9], [32, 12]],
        **dict.fromkeys(("words", "sub_words", "repetitions"), 3),
        "library": {"adapters": "1.3.0"},
        "largest_difference_of_logits": {LIBRARY: 0.25},
        "machine": machine() | {"onnxruntime": "1"},
        "rows": {what: {OURS: engine, LIBRARY: engine} for what in ("inference", "training")},
    }
    cells = [
        {"run": "r", "task": "pos", "language": "eng", "units": 50, "fp32": 90.0, "bf16": after}
        for after in (89.0, 90.5)
    ]
    return {
        "speed": {
            "adapters in 12 of 12 layers, 2 threads": {
                **about,
                "machine": machine(),
                "rows": {"tags": row},
            }
        },
        "scores": {"examples": 50, "cells": cells},
        "engines": engines,
        "peft": peft.to_dict(machine()),
    }


def test_the_section_tells_speeds_scores_and_ratios():
    text = section(results())
    assert "| tags | 1,000 (990 – 1,010) | 1,500 (1,400 – 1,600) | 3.10 |" in text
    assert "| pos | 1 | 2 | 100 | -0.250 | -1.00 | +0.50 | 1 |" in text
    assert "takes 0.50 times as long" in text
    assert "the same 64 sentences" in text
    assert f"| inference | {OURS} | 1,000 (900 – 1,100) | 1,000 |  |  |" in text
    assert (
        f"| inference | {LIBRARY} | 1,000 (900 – 1,100) | 1,000 | 0.50 (0.40 – 0.60) | 0.25 |"
        in text
    )
    assert f"| training | {LIBRARY} | 1,000 (900 – 1,100) | 1,000 | 0.50 (0.40 – 0.60) |  |" in text


def test_an_interval_is_that_of_student():
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(
        {"mean": 2, "low": -0.484, "high": 4.484}, abs=1e-3
    )


def test_the_section_in_the_repository_is_that_of_the_results():
    written = PREDICTING.read_text(encoding="utf-8") if PREDICTING.exists() else None
    measured = json.loads(FILE.read_text("utf-8")) if FILE.exists() else None
    assert written == (section(measured) if measured else None)
