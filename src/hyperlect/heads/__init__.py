"""The small trained layers that predict: one file a task type."""

from .mlm import MlmHead
from .parser import PARSERS, ParserForm, ParserHead, ParseScores
from .sequence import SequenceHead
from .token import TokenHead, decode_spans
from .trees import best_tree

__all__ = [
    "PARSERS",
    "MlmHead",
    "ParseScores",
    "ParserForm",
    "ParserHead",
    "SequenceHead",
    "TokenHead",
    "best_tree",
    "decode_spans",
]
