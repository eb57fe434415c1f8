"""The small trained layers that predict: one file a task type.

To add a task type, add a row to `tasks.TASK_TYPES`, a file here, and a row to `HEADS`.
"""

from ..tasks import TaskType
from .base import Answer, Encoded, Head, HeadOptions
from .factorised import FactorisedHead, Latents
from .labels import ClassificationHead, MlmHead, SpanHead, TaggingHead, iob2_spans
from .parsing import ParserHead, ParseScores, best_tree

HEADS: dict[TaskType, type[Head]] = {
    TaskType.TAGGING: TaggingHead,
    TaskType.SPANS: SpanHead,
    TaskType.PARSING: ParserHead,
    TaskType.CLASSIFICATION: ClassificationHead,
    TaskType.PAIRS: ClassificationHead,
    TaskType.MLM: MlmHead,
}
"""The head of each task type."""
