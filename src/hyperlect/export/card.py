"""The model card: what a model is, what it scores, and how to use it, as README.md for the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..backbone.builtin import BUILTIN_IDS
from ..errors import counted, listed
from ..evaluation.results import CellResult, Results
from ..grid import STRATA_MEANING, Cell, Kind
from ..languages import name, public_code
from ..methods import METHODS
from ..model.config import EncoderReference, HyperXConfig
from ..run_folder import RECIPE
from ..tasks import TaskType

TEMPLATE = Path(__file__).with_name("card.md")
# What the hub calls tasks and metrics.
PIPELINES = {"words": "token-classification", "raw": "fill-mask"}
METRICS = {TaskType.SPANS.metric: "f1", TaskType.PARSING.metric: "las"}


def model_card(
    hub_id: str,
    encoder: EncoderReference,
    config: HyperXConfig,
    *,
    results: Results | None = None,
    recipe: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    licence: str | None = None,
) -> str:
    """Write the card of a model.

    Args:
        hub_id: where it will lie.
        encoder, config: of the model.
        results: its test scores; without them the card says that there are none.
        recipe: as plain data, without names that only this machine knows.
        training, versions: the content of training.json and versions.json.
        licence: of the weights, in the hub's words (apache-2.0).

    Returns:
        Metadata as YAML, as `huggingface_hub.ModelCard` reads it, and the text in Markdown.
    """
    from huggingface_hub import ModelCard, ModelCardData

    tasks = list(config.tasks)
    labelled = [task for task in tasks if task.type is not TaskType.MLM] or tasks
    codes = sorted({*config.languages, *config.grid.languages})
    pipelines = dict.fromkeys(_pipeline(task.type) for task in labelled)
    base = BUILTIN_IDS.get(encoder.reference, encoder.reference)
    blocks: list[Mapping[str, Any]] = list((recipe or {}).get("data", []))
    on_hub = {str(b["dataset"]) for b in blocks if b["format"] == "hub" and "/" in b["dataset"]}
    scored = [cell for cell in results.cells if cell.scored] if results else []
    data = ModelCardData(
        language=sorted({code for code in map(public_code, codes) if code}),
        license=licence,
        library_name="hyperlect",
        base_model=base,
        base_model_relation="finetune" if METHODS[config.method].trains_encoder else "adapter",
        pipeline_tag=next(iter(pipelines)),
        tags=["hyperlect", "hyper-x", "multilingual", *{config.method} - {"hyperx"}],
        datasets=sorted(on_hub) or None,
        model_name=hub_id.rpartition("/")[2],
        eval_results=[_eval_result(cell, config) for cell in scored] or None,
    )
    names = {task.name for task in labelled}
    unseen = [c.cell for c in scored if c.kind is Kind.UNSEEN_COMBINATION and c.task in names]
    example = next(iter(unseen), Cell(labelled[0].name, codes[0] if codes else "eng"))
    reads_pairs = config.task(example.task).type.reads == "pair"
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        hub_id=hub_id,
        title=data.model_name,
        description=str((recipe or {}).get("description", "")).strip(),
        base=base,
        builtin=encoder.reference if encoder.reference in BUILTIN_IDS else "",
        config=config,
        languages=", ".join(f"{name(code)} (`{code}`)" for code in sorted(config.grid.languages)),
        example=example,
        example_input='("One text.", "Another.")' if reads_pairs else '"…"',
        results=results,
        name=name,
        listed=listed,
        counted=counted,
        strata=STRATA_MEANING if results and any(a.strata for a in results.averages) else "",
        blocks=blocks,
        recipe=recipe,
        training=training,
        versions=versions,
        recipe_file=RECIPE,
        version=__version__,
    )
    return f"{str(card).rstrip()}\n"


def _pipeline(task_type: TaskType) -> str:
    return PIPELINES.get(task_type.reads, "text-classification")


def _eval_result(cell: CellResult, config: HyperXConfig) -> Any:
    from huggingface_hub import EvalResult

    metric = f"{cell.metric} ({cell.kind}, {counted(cell.examples, 'example')})"
    return EvalResult(
        task_type=_pipeline(config.task(cell.task).type),
        task_name=cell.task,
        dataset_type=cell.task,
        dataset_name=f"{cell.task} in {name(cell.language)}",
        dataset_config=str(cell.cell),
        dataset_split="test",
        metric_type=METRICS.get(cell.metric, cell.metric),
        metric_name=metric,
        metric_value=round(cell.value, 2),
    )
