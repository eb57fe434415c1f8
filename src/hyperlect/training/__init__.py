"""The training loop, checkpoints, and the run folder."""

from .run import make_accelerator, model_config, read_start, rerun, resume, start
from .trainer import TRACED, StopRequest, Trainer
