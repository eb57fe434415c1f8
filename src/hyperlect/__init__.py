"""hyperlect: one small network that writes the adapters of a frozen encoder.

from hyperlect import HyperX
model = HyperX.from_pretrained("runs/mixed")
model.predict(["…"], task="ner", language="fao")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["HyperX", "HyperXConfig", "__version__"]

if TYPE_CHECKING:
    from .model import HyperX, HyperXConfig


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: `hyperlect --help` must not wait for them.
    if name in __all__:
        from . import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
