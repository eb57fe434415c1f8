"""The formulas of docs/scaling.md, against models without memory."""

from __future__ import annotations

import pytest
from measures.sizes import SETTINGS, count
from scaling import PAGE, parameters, peak_bytes, predicted


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("tasks", "languages"), [(1, 10), (4, 7_000)])
def test_the_formula_counts_the_parameters_of_a_model(
    name: str, tasks: int, languages: int
) -> None:
    setting = SETTINGS[name]
    counted = count(setting, "hyperx", tasks, languages).trained
    assert parameters(setting.hidden, 12, setting.hypernet, tasks, languages) == counted


def test_gradients_or_activations_make_the_peak_whichever_are_more() -> None:
    assert peak_bytes(10, 100, 8, 2, 0) == 40 + 16 * 100
    assert peak_bytes(10, 100, 8, 2, 1_000) == 40 + 12 * 100 + 50 * 8 * 2 * 1_000


def test_the_page_has_the_table_of_the_formulas() -> None:
    assert predicted() in PAGE.read_text(encoding="utf-8")
