"""HyperX, its configuration, and how both are saved and loaded."""

from .config import FORMAT_VERSION, HyperXConfig
from .hyperx import CONFIG_FILE, WEIGHTS_FILE, HyperX
from .output import HyperXOutput

__all__ = [
    "CONFIG_FILE",
    "FORMAT_VERSION",
    "WEIGHTS_FILE",
    "HyperX",
    "HyperXConfig",
    "HyperXOutput",
]
