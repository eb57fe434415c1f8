from __future__ import annotations

import pytest

from hyperlect.languages import resolve
from hyperlect.released.codes import usual_code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("als", "gsw"),
        ("bat-smg", "sgs"),
        ("be-x-old", "bel"),
        ("bh", "bho"),
        ("eml", "egl"),
        ("fiu-vro", "vro"),
        ("map-bms", "jav"),
        ("simple", "eng"),
        ("zh-classical", "lzh"),
        ("zh-min-nan", "nan"),
        ("zh-yue", "yue"),
        ("cbk-zam", "cbk"),
        ("sq", "als"),
        ("fo", "fao"),
        ("no", "nor"),
    ],
)
def test_names_mean_what_they_do_in_wikiann(name: str, code: str) -> None:
    assert resolve(usual_code(name, {})) == code


def test_a_given_code_comes_first() -> None:
    assert usual_code("als", {"als": "sqi"}) == "sqi"
