"""HyperX, its configuration, and how both are saved and loaded."""

from .config import HyperXConfig
from .hyperx import HyperX, HyperXOutput
