"""Where to compute, and in which precision."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from .errors import HyperlectError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
Precision = Literal["fp32", "tf32", "bf16"]


def choose_device(device: str = "auto") -> str:
    """Resolve "auto" to CUDA, an Apple GPU (mps) or the CPU, in this order.

    Raises:
        UnknownNameError: there is no device of that name.
        HyperlectError: this machine has no such device.
    """
    import torch

    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    usable = [name for name, there in available.items() if there]
    if device == "auto":
        return usable[0]
    if device not in usable:
        raise HyperlectError(
            f'This machine has no device "{device}". Choose one of: {", ".join(usable)}.'
        )
    return device


@contextmanager
def arithmetic(device: str, precision: Precision) -> Iterator[None]:
    """Compute in one precision inside the block, whatever is set outside.

    Args:
        device: its type, as in `torch.device.type`.
        precision: "bf16" is autocast. "fp32" is exact. "tf32" lets an NVIDIA GPU round the inputs
            of matrix products to 10 bits, which is faster; on a CPU it is the same as fp32.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")  # of Linux, where the platform module knows no name
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
