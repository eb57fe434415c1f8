"""Where to compute, and in which precision."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Literal

from .errors import HyperlectError, listed, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
Precision = Literal["fp32", "tf32", "bf16"]
Arithmetic = Literal["auto", Precision]
"""A precision, or "auto": the one that `fast_precision` says."""
_ARITHMETIC = re.compile(r"(ATEN_|CUBLAS|CUDNN_|DNNL_|KMP_|MKL_|NVIDIA_TF32|OMP_|ONEDNN)")
"""How names of environment variables begin that decide how torch computes."""


def choose_device(device: str = "auto") -> str:
    """Resolve "auto" to CUDA, an Apple GPU (mps) or the CPU, in this order.

    Raises:
        UnknownNameError: there is no device of that name.
        HyperlectError: this machine has no such device.
    """
    import torch

    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    usable = [*(name for name, is_there in gpus.items() if is_there), "cpu"]
    if device == "auto":
        return usable[0]
    if device not in usable:
        hint = f"Choose one of: {listed(usable)}."
        raise HyperlectError(f'This machine has no device "{device}". {hint}')
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


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside the block, let torch use only operations that give equal bits each time.

    Sets CUBLAS_WORKSPACE_CONFIG, without which NVIDIA's matrix products are not among them.

    Args:
        wanted: whether; if not, nothing changes.

    Raises:
        RuntimeError: from torch, in the block: an operation has no such form on the device.
    """
    import torch

    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    variable = "CUBLAS_WORKSPACE_CONFIG"
    setting = os.environ.get(variable)
    os.environ[variable] = setting or ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        if setting is None:
            del os.environ[variable]
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def fast_precision(device: str) -> Precision:
    """Return bf16 where the hardware computes with it much faster, else fp32."""
    import torch

    if device == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if supported else "fp32"
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bf16" if device == "cpu" and has_bf16 and has_bf16() else "fp32"


def free_memory(device: str) -> int:
    """Return how many bytes of memory are free on a device; a guess, 1 GiB, where nobody says.

    In a container on Linux, that is what its limit leaves.
    """
    import torch

    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    info = Path("/proc/meminfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.is_file() and used.is_file():
        most = limit.read_text(encoding="utf-8").strip()
        if most.isdigit():  # "max" is no limit
            free.append(max(0, int(most) - int(used.read_text(encoding="utf-8"))))
    return min(free, default=2**30)


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")  # of Linux, where the platform module knows no name
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def versions(device: str, precision: Precision, processes: int = 1) -> dict[str, str]:
    """Return what a result depends on besides the recipe: libraries, hardware, precision.

    ``source`` is a digest of this package, which tells copies of one version apart that differ.

    Args:
        device: its type, as in `torch.device.type`.
        precision: of the arithmetic.
        processes: how many train together.
    """
    import torch

    packages = ("hyperlect", "torch", "transformers", "accelerate", "datasets", "tokenizers")
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source.update(path.read_bytes())
    # The processor's instructions that torch uses decide the last digits, too.
    cpu = f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    settings = [f"{n}={v}" for n, v in sorted(os.environ.items()) if _ARITHMETIC.match(n)]
    return {
        **{name: metadata.version(name) for name in (*packages, "numpy")},
        "source": source.hexdigest()[:12],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device}: {torch.cuda.get_device_name() if device == 'cuda' else cpu}",
        **({"cuda": f"{torch.version.cuda}, cuDNN {cudnn}"} if device == "cuda" else {}),
        "processes": str(processes),
        "threads": str(torch.get_num_threads()),
        "precision": precision,
        "environment": " ".join(settings),
    }


def version_changes(before: Mapping[str, object], now: Mapping[str, str]) -> list[str]:
    """Say which hardware or libraries differ: ``torch 2.13.0 (before: 2.12.1)``.

    Args:
        before, now: as `versions` returned them then and returns them now. An entry of only one of
            them is not a change, nor is the system, whose name changes with every update.
    """
    old = {**now, **before}
    if old["precision"] == "no":  # earlier versions called fp32 so
        old["precision"] = "fp32"
    changed = [name for name in now if now[name] != old[name] and name != "platform"]
    return [f"{name} {now[name] or 'empty'} (before: {old[name] or 'empty'})" for name in changed]
