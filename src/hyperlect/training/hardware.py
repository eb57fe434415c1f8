"""What a run is computed on, in which precision, and with which versions of the libraries."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ..hardware import choose_device

_SHOWN = {"no": "fp32"}
"""What recipes call a precision."""


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Choose device and precision; "auto" takes bf16 where the GPU computes with it.

    On a CPU it depends on the model: with AVX512_BF16 or AMX, bf16 saves more than a third of a
    step, without it costs time. So "auto" never takes it there.

    Raises:
        HyperlectError: the device asked for is not there.
    """
    device = choose_device(device)
    bf16 = precision == "bf16" or (
        precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    )
    # It keeps its first device and precision for the whole process; a later run may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if bf16 else "no")


def versions(accelerator: Accelerator) -> dict[str, str]:
    """Return what a result depends on besides the recipe."""
    packages = ("hyperlect", "torch", "transformers", "accelerate", "datasets", "tokenizers")
    found = {name: metadata.version(name) for name in packages}
    device = accelerator.device.type
    # What torch uses of a processor's instructions decides the last digits, too.
    host = f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
    name = torch.cuda.get_device_name() if device == "cuda" else host
    return {
        **found,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device}: {name}",
        "processes": str(accelerator.num_processes),
        "threads": str(torch.get_num_threads()),
        "precision": accelerator.mixed_precision,
    }


def processor() -> str:
    """Name the processor."""
    info = Path("/proc/cpuinfo")  # of Linux, where platform knows no name
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def changes(before: Mapping[str, object], now: Mapping[str, str]) -> str | None:
    """Say what a run goes on with that it had not before; None where that is nothing.

    Args:
        before, now: as `versions` gave them and gives them. What only one of them has is no
            change, nor is the system, whose name every update of it changes.
    """
    found = [
        f"{name} {_SHOWN.get(value, value)} (before: {_SHOWN.get(str(before[name]), before[name])})"
        for name, value in now.items()
        if name != "platform" and before.get(name, value) != value
    ]
    if not found:
        return None
    return (
        f"resumed with other hardware or libraries than before: {', '.join(found)}. Scores may "
        "differ slightly from those of a run without a break."
    )
