"""Choosing where to compute."""

from __future__ import annotations

import pytest
import torch

from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.hardware import choose_device


def machine(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_first_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    machine(monkeypatch, cuda, mps)
    assert choose_device() == choose_device("auto") == chosen


def test_a_device_is_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    assert [choose_device(name) for name in ("cpu", "mps", "cuda")] == ["cpu", "mps", "cuda"]


def test_a_device_that_is_absent_or_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=False, mps=True)
    with pytest.raises(HyperlectError, match=r'no device "cuda".*mps, cpu'):
        choose_device("cuda")
    with pytest.raises(UnknownNameError, match=r'"cdua"\. Did you mean "cuda"'):
        choose_device("cdua")
