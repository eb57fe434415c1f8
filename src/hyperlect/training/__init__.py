"""The training loop, checkpoints, and the run folder."""

from .hardware import make_accelerator
from .run import EMBEDDINGS, RECIPE, TRAINING, VERSIONS, resume, start
from .stop import Interrupted
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
