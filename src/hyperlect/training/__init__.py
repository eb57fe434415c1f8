"""The training loop, checkpoints, and the run folder."""

from ..errors import Interrupted
from .hardware import make_accelerator
from .run import EMBEDDINGS, RECIPE, TRAINING, VERSIONS, resume, start
from .trainer import Trainer

__all__ = [
    "EMBEDDINGS",
    "RECIPE",
    "TRAINING",
    "VERSIONS",
    "Interrupted",
    "Trainer",
    "make_accelerator",
    "resume",
    "start",
]
