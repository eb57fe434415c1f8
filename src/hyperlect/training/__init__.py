"""The training loop, checkpoints, and the run folder."""

from .run import EMBEDDINGS, RECIPE, TRAINING, VERSIONS, make_accelerator, resume, start
from .trainer import Interrupted, Trainer

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
