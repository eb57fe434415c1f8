"""The small trained layers that predict: one file a task type."""

from .factorised import FactorisedHead, Latents
from .mlm import MlmHead
from .parser import ParserHead, ParseScores
from .sequence import SequenceHead
from .token import Span, TokenHead, decode_spans, iob2_spans
from .trees import best_tree

__all__ = [
    "FactorisedHead",
    "Latents",
    "MlmHead",
    "ParseScores",
    "ParserHead",
    "SequenceHead",
    "Span",
    "TokenHead",
    "best_tree",
    "decode_spans",
    "iob2_spans",
]
