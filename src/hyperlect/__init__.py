"""hyperlect: one small network that writes the adapters of a frozen encoder.

from hyperlect import HyperX
model = HyperX.from_pretrained("runs/mixed")
model.predict(["…"], task="ner", language="fao")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["HyperX", "HyperXConfig", "Prediction", "__version__", "push_to_hub"]

if TYPE_CHECKING:
    from .export import push_to_hub
    from .model import HyperX, HyperXConfig
    from .predict import Prediction

_HOMES = {
    **{"HyperX": "model", "HyperXConfig": "model", "Prediction": "predict"},
    "push_to_hub": "export",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: `hyperlect --help` must not wait for them.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
