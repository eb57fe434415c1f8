"""Choosing where to compute."""

from __future__ import annotations

import torch

from .errors import HyperlectError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(device: str = "auto") -> str:
    """Resolve "auto" to CUDA, an Apple GPU (mps) or the CPU, in this order.

    Args:
        device: "auto", or one of the others by name.

    Raises:
        UnknownNameError: no such device.
        HyperlectError: the machine has no such device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    usable = [name for name, available in there.items() if available]
    if device == "auto":
        return usable[0]
    if device not in there:
        raise unknown("device", device, DEVICES)
    if device not in usable:
        raise HyperlectError(
            f'There is no device "{device}" on this machine. Usable: {", ".join(usable)}.'
        )
    return device
