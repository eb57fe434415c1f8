"""hyperlect: one small network that writes the adapters of a frozen encoder.

from hyperlect import HyperX
model = HyperX.from_pretrained("runs/mixed")
model.predict(["…"], task="ner", language="fao")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["HyperX", "HyperXConfig", "Prediction", "__version__", "push_to_hub"]

if TYPE_CHECKING:
    from .export import push_to_hub
    from .model import HyperX, HyperXConfig
    from .predict import Prediction


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: `hyperlect --help` must not wait for them.
    if name in __all__:
        from . import export, model, predict

        home: Any = {"Prediction": predict, "push_to_hub": export}.get(name, model)
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
