"""Which trained languages a new one is like: by typology, by its raw sentences, or by both."""

from __future__ import annotations

import statistics

import torch

from ..data.typology import URIEL, Typology
from ..errors import DataError, HyperlectError
from ..model import HyperX
from .adapt import Rows, entropies, probabilities

NEAREST = 8
"""How many languages are weighed: with each of them the sentences are predicted once."""
SENTENCES = 50
"""Of how many sentences."""
SIMILARITY = 0.1
"""A difference of typological similarity (a cosine) that changes a weight by a factor of e."""
ENTROPY = 0.05
"""The same for a share of the entropy of predictions."""


def weigh_neighbours(
    model: HyperX, language: str, raw: Rows | None = None, typology: str | None = URIEL
) -> dict[str, float]:
    """Weigh trained languages for a mixture that stands for another one.

    The weights are a softmax over typological similarity (as in TIPA, which averages adapters so),
    and over the negated entropy of what each language's vector predicts on raw sentences (as in
    EMEA, Wang et al. 2021, which minimises it by gradient). Given both, they are multiplied.

    Args:
        model: its languages with a vector of their own are weighed.
        language: the language, which need not have one.
        raw: encoded raw sentences by task; None or empty for typology alone.
        typology: where similarity is read; None to leave it out.

    Returns:
        The weights of at most `NEAREST` languages; they sum to 1.

    Raises:
        HyperlectError: there is neither typology nor a sentence; or no language to weigh.
    """
    code = model.config.language_code(language)
    trained = [other for other in model.languages if other != code]
    if not trained:
        raise HyperlectError("The run has no other language with a vector of its own.")
    scores = dict.fromkeys(trained, 0.0)
    missing = ""
    try:
        table = Typology.read(typology) if typology else None
    except DataError as error:
        table, missing = None, str(error)
    if table is not None and code in table:
        nearest = table.nearest(code, trained, NEAREST)
        scores = {other: similarity / SIMILARITY for other, similarity in nearest}
    elif not any((raw or {}).values()):
        reason = missing or f"{typology} has no features of {code}."
        hint = "Or give sentences, or the languages that it is like."
        raise HyperlectError(f"No neighbours of {code} are known. {reason} {hint}")
    if raw and any(raw.values()):
        some = {task: [r for r in rows if r["example"] < SENTENCES] for task, rows in raw.items()}
        by_task = {other: entropies(probabilities(model, other, some)) for other in scores}
        means = {other: statistics.fmean(values.values()) for other, values in by_task.items()}
        least = max(min(means.values()), 1e-6)
        for other, value in means.items():
            scores[other] -= value / least / ENTROPY
        scores = dict(sorted(scores.items(), key=lambda item: -item[1])[:NEAREST])
    weights = torch.tensor([*scores.values()], dtype=torch.float64).softmax(dim=0)
    return dict(zip(scores, weights.tolist(), strict=True))
