"""Computing in bf16: autocast, and what it makes of frozen weights, kept from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Precision = Literal["fp32", "bf16"]


@contextmanager
def arithmetic(device: str, precision: Precision) -> Iterator[None]:
    """Inside the block models compute in this precision.

    Args:
        device: its type, as in `torch.device.type`.
        precision: "fp32" leaves everything as it is.
    """
    if precision == "fp32":
        yield
    else:
        with torch.autocast(device, torch.bfloat16), KeptCasts():
            yield


class KeptCasts(TorchFunctionMode):
    """Inside the block linear maps use copies of their frozen parameters in autocast's precision.

    Autocast keeps what it casts of trained parameters alone, and only within one pass. The encoder
    does not change, so one copy will do (at half the memory once more); on a CPU the casts were
    measured to take a sixth of a training step. Every product stays the same to the last bit.
    """

    def __init__(self) -> None:
        super().__init__()
        # The parameters are held as well: an id may otherwise become another tensor's.
        self._kept: dict[int, tuple[Tensor, object, Tensor]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, with the copies where it is a linear map."""
        if func is F.linear:
            args = tuple(self._cast(value) for value in args)
        return func(*args, **(kwargs or {}))

    def _cast(self, value: Any) -> Any:
        """Return a frozen parameter's copy, and everything else as it is."""
        if not isinstance(value, nn.Parameter) or value.requires_grad:
            return value
        device = value.device.type
        if not torch.is_autocast_enabled(device):
            return value
        dtype = torch.get_autocast_dtype(device)
        made_of = (dtype, value.data_ptr(), value._version)
        kept = self._kept.get(id(value))
        if kept is None or kept[1] != made_of:
            kept = self._kept[id(value)] = (value, made_of, value.detach().to(dtype))
        return kept[2]
