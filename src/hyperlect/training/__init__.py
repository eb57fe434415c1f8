"""The training loop, checkpoints, and the run folder."""

from .run import make_accelerator, model_config, read_start, resume, start
from .trainer import StopRequest, Trainer
