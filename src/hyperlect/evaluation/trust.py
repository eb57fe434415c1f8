"""How far to trust a cell without test data: the score to expect, with a range.

A classifier's probabilities say how often it expects to be right: the mean probability of the
labels that it chose is its expected accuracy, and for spans there is an expected F1. This is the
*promised* score. It is too high where the model is overconfident, by about as much in one language
as in another. So a straight line through the logits of promised and true scores, fitted on
languages with test data, turns a promise into an expectation:

    logit(score) = intercept + slope · logit(promised) + shift

(Platt 1999, here over languages). Intercept and slope come from `benchmarks/trust.py` and ship in
`trust.json` beside this module, with the quantiles of what was left on languages that were left out
of the fit (Vovk et al. 2005), which make the range. The shift is the run's own: how its development
cells lie against the line while what stands for an untrained language stands in place of their
languages' vectors. Where these scatter much more than those of the fit, the range is wider.

Evidence must be gathered before a language's vector is adapted to the same sentences, since that
makes a model confident and not right.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..data.encoding import encode_inputs
from ..data.pieces import PieceTable
from ..data.subwords import unknown_share
from ..errors import RunError, counted
from ..grid import Cell
from ..hypernet import UNTRAINED
from ..model.hyperx import FEATURES
from ..predict import Prediction
from ..run_folder import TRUST, read_json, write_json
from ..tasks import Task
from .results import CellResult, Expected

FORMAT_VERSION = 1
FEWEST_SENTENCES = 10
"""Of fewer sentences nothing is said."""
MOST_UNKNOWN = 0.05
"""The share of unknown sub-words above which a language is unlike those of the fit."""
SCATTER = 1.75
FEWEST_ANCHORS = 3
UNANCHORED = 1.5
"""How much wider ranges are where a run has fewer development cells than those."""
PREDICTED_AGAIN = 100
_Z = 1.2816  # 80 % of a normal distribution lie within as many standard deviations
RELATIONS = Path(__file__).with_name("trust.json")


@dataclass(frozen=True)
class Evidence:
    """What a model says of itself on sentences without labels.

    Attributes:
        promised: the score that its probabilities let expect, in percent.
        error: the standard error of that, over sentences.
        sentences: how many there were.
        unknown: the share of sub-words that the encoder does not know.
    """

    promised: float
    error: float
    sentences: int
    unknown: float = 0.0

    @classmethod
    def of(cls, promised: Sequence[tuple[float, float]], unknown: float = 0.0) -> Evidence:
        """Sum up numerators and denominators, one pair a sentence (`heads.Answer.promised`)."""
        numerator, denominator = (math.fsum(column) for column in zip(*promised, strict=True))
        ratio = numerator / denominator if denominator else 0.0
        # The standard error of a ratio of sums (Cochran 1977, section 6.4).
        squares = math.fsum((hits - ratio * of) ** 2 for hits, of in promised)
        error = math.sqrt(squares) / denominator if denominator else 1.0
        return cls(100 * ratio, 100 * error, len(promised), unknown)


def evidence(model: Any, predictions: Sequence[Prediction]) -> Evidence:
    """Gather evidence from predictions for one cell; the encoder is not run again.

    Unless the vector of the language was fitted to sentences: then some are predicted once more
    without it.

    Args:
        model: the `HyperX` that made them.
        predictions: of one task in one language.
    """
    task, language = model.task(predictions[0].task), predictions[0].language
    inputs: list[Any] = [prediction.text for prediction in predictions]
    if task.type.reads_words:
        inputs = [list(prediction.words) for prediction in predictions]
    elif task.type.reads == "pair":
        inputs = [tuple(text.split("\t", 1)) for text in inputs]
    if is_fitted(model, language):
        inputs = inputs[:PREDICTED_AGAIN]
        with withheld(model, language):
            predictions = model.predict(inputs, task.name, language)
    rows = encode_inputs(inputs, task, model.tokenizer, model.max_length)
    unknown = unknown_share([row["input_ids"] for row in rows], model.tokenizer)
    return Evidence.of([p.promised for p in predictions], unknown)


def is_fitted(model: Any, language: str) -> bool:
    """Whether a language's vector was fitted after training, perhaps to its confidence."""
    return "fitted" in model.config.added.get(language, "")


@dataclass(frozen=True)
class Relation:
    """The line of one task type, and how far languages lay from it that it was not fitted on.

    Attributes:
        intercept, slope: of the logit of the score over that of the promised one.
        anchor: how far development cells lie above the line, in logits.
        spread: their standard deviation around that.
        below, above: the 10 % and 90 % quantiles of score less expectation, in points.
        error: the mean of its absolute value.
        cells, languages, runs: how many it was fitted on.
    """

    intercept: float
    slope: float
    anchor: float
    spread: float
    below: float
    above: float
    error: float
    cells: int
    languages: int
    runs: int


@lru_cache(maxsize=1)
def relations() -> Mapping[str, Relation]:
    """Return the lines that ship with the package, by task type."""
    data = read_json(RELATIONS, version=FORMAT_VERSION)
    return {name: Relation(**numbers) for name, numbers in data["relations"].items()}


@dataclass(frozen=True)
class Anchor:
    """A development cell of a run, scored as if its language had not been trained.

    Attributes:
        task, language: the cell.
        promised, score: in percent.
    """

    task: str
    language: str
    promised: float
    score: float


@dataclass(frozen=True)
class Trust:
    """What a run's expectations rest on.

    Attributes:
        anchors: its development cells, their vectors withheld. None for a run of an earlier
            version.
        pieces: the usual sub-words of its training languages; see `data.pieces.text_warning`.
    """

    anchors: tuple[Anchor, ...] = ()
    pieces: PieceTable = field(default_factory=PieceTable)

    @classmethod
    def read(cls, run: Path) -> Trust:
        """Read a run's trust.json; empty where there is none.

        Raises:
            RunError: it is malformed, or of another version.
        """
        path = Path(run) / TRUST
        if not path.is_file():
            return cls()
        data = read_json(path, version=FORMAT_VERSION)
        try:
            anchors = tuple(Anchor(**anchor) for anchor in data["anchors"])
            return cls(anchors, PieceTable(**data["pieces"]))
        except (LookupError, TypeError) as error:
            raise RunError(f"{path} is malformed ({error!r}). Remove it.") from None

    def write(self, run: Path) -> None:
        """Write trust.json into a run folder."""
        write_json(run / TRUST, {"format_version": FORMAT_VERSION, **asdict(self)}, indent=None)

    def expect(self, task: Task, evidence: Evidence) -> Expected | None:
        """Turn evidence into the score to expect, with a range that holds four of five cells.

        Returns:
            None with too few sentences, or for a type of task without a fitted relation.
        """
        relation = relations().get(str(task.type))
        if relation is None or evidence.sentences < FEWEST_SENTENCES:
            return None
        promised = logit(evidence.promised)
        score = expit(
            relation.intercept + relation.slope * promised + self.shift(task.name, relation)
        )
        # How much the score moves with the promise, for the error of few sentences.
        steepness = relation.slope * score * (100 - score)
        steepness /= max(evidence.promised * (100 - evidence.promised), 100.0)
        noise = _Z * steepness * evidence.error
        wider = self.widening(task.name, relation)
        low = score - wider * math.hypot(relation.below, noise)
        high = score + wider * math.hypot(relation.above, noise)
        return Expected(
            score=round(score, 2), low=round(max(low, 0.0), 2), high=round(min(high, 100.0), 2)
        )

    def sentence(self, task: Task, evidence: Evidence) -> str | None:
        """Say what score to expect and on what that rests; None where nothing can be said."""
        expected = self.expect(task, evidence)
        if expected is None:
            return None
        anchors = len(self._of(task.name))
        shifted = f"{counted(anchors, 'dev cell')} of this run"
        if anchors < FEWEST_ANCHORS:
            shifted += " (too few, so the range is wider)"
        languages = counted(relations()[str(task.type)].languages, "language")
        text = (
            f"Expected {task.type.metric}: {expected}. It rests on the model's confidence in "
            f"{counted(evidence.sentences, 'sentence')}, {languages} with test data, {shifted}."
        )
        if evidence.unknown > MOST_UNKNOWN:
            unknown = f"{evidence.unknown:.0%} of the sub-words"
            text += f" Do not rely on it: the encoder does not know {unknown}."
        return text

    def _of(self, task: str) -> list[Anchor]:
        return [anchor for anchor in self.anchors if anchor.task == task]

    def _rests(self, task: str, relation: Relation) -> list[float]:
        """How far each of the run's own cells lies above where a line has such cells."""
        above = relation.intercept + relation.anchor
        return [
            logit(anchor.score) - relation.slope * logit(anchor.promised) - above
            for anchor in self._of(task)
        ]

    def shift(self, task: str, relation: Relation) -> float:
        """How far the run's own cells lie above a line, in logits.

        Their mean is moved towards zero by its standard error (soft thresholding: Donoho 1995), so
        that chance moves nothing, and a task that is harder or easier does.
        """
        rests = self._rests(task, relation)
        if not rests:
            return 0.0
        error = relation.spread / math.sqrt(len(rests))
        mean = statistics.fmean(rests)
        return math.copysign(max(abs(mean) - error, 0.0), mean)

    def widening(self, task: str, relation: Relation) -> float:
        """How much wider ranges must be than in the fit: as much as the run's own cells scatter.

        Unless that may be chance: `SCATTER` is about the bound of an F test at 5 %.
        """
        rests = self._rests(task, relation)
        if len(rests) < FEWEST_ANCHORS:
            return UNANCHORED
        scatter = statistics.stdev(rests) / relation.spread
        return scatter if scatter > SCATTER else 1.0


def logit(percent: float) -> float:
    """Return the logit of a percentage, which is first kept between 1 and 99."""
    share = min(max(percent, 1.0), 99.0) / 100
    return math.log(share / (1 - share))


def expit(value: float) -> float:
    """Return the percentage of a logit."""
    return 100 / (1 + math.exp(-value))


@contextmanager
def withheld(model: Any, language: str) -> Iterator[None]:
    """Inside the block, replace a language's vector by what represents an untrained language.

    That is what its features say, if the model has a base, or zero, or the mean of the other
    languages' vectors; with mad-x no adapter.
    """
    index = model.config.language_index(language)
    tables = model.language_parameters() if index != UNTRAINED else {}
    tables = {name: t for name, t in tables.items() if not name.endswith(FEATURES)}
    kept = {name: table.detach()[index].clone() for name, table in tables.items()}
    base = getattr(getattr(model.adapters, "source", None), "base", None)
    config = model.config
    changed = tuple(c for c in config.changed if config.language_index(c.language) != index)
    model.config = replace(config, changed=changed)
    with torch.no_grad():
        for table in tables.values():
            if model.config.untrained_is_zero:
                table[index] = 0.0
            elif base is not None:
                place = torch.tensor([index], device=table.device)
                with base.in_use():
                    table[index] = base(table, base.features[place], place)[0]
            elif len(table) > 1:
                table[index] = (table.sum(dim=0) - table[index]) / (len(table) - 1)
    model.forget_weights([index])
    try:
        yield
    finally:
        model.forget_weights([index])
        model.config = config
        with torch.no_grad():
            for name, table in tables.items():
                table[index] = kept[name]


def anchors(results: Iterable[CellResult]) -> tuple[Anchor, ...]:
    """Make anchors of the results of development cells whose languages were withheld."""
    return tuple(
        Anchor(result.task, result.language, round(result.promised, 3), round(result.score, 3))
        for result in results
        if result.promised is not None and result.score is not None
    )


def count_pieces(rows: Mapping[Cell, Any], tokenizer: Any) -> PieceTable:
    """Count the sub-words of encoded training rows by language."""
    by_language: dict[str, list[Sequence[int]]] = {}
    for cell, encoded in rows.items():
        by_language.setdefault(cell.language, []).extend(encoded["input_ids"])
    return PieceTable.count(by_language, tokenizer.all_special_ids)
