"""The small trained layers that predict: one file a task type."""

from .mlm import MlmHead
from .sequence import SequenceHead
from .token import TokenHead, decode_spans

__all__ = ["MlmHead", "SequenceHead", "TokenHead", "decode_spans"]
