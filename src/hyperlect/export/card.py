"""The model card: what a model is, what it scores, and how to use it, as README.md for the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
CITATION = """@inproceedings{ustun-etal-2022-hyper,
  title = "Hyper-{X}: A Unified Hypernetwork for Multi-Task Multilingual Transfer",
  author = {{\\"U}st{\\"u}n, Ahmet and Bisazza, Arianna and Bouma, Gosse and van Noord, Gertjan and
            Ruder, Sebastian},
  booktitle = "Proceedings of the 2022 Conference on Empirical Methods in Natural Language
               Processing",
  year = "2022",
  pages = "7934--7949",
  url = "https://arxiv.org/abs/2205.12148",
}"""
# What the hub calls tasks and metrics.
PIPELINES = {"words": "token-classification", "raw": "fill-mask"}
METRICS = {TaskType.SPANS.metric: "f1", TaskType.PARSING.metric: "las"}
SHOWN = 12


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
        method=config.method,
        tasks=[
            f"`{task.name}` ({task.type}): {listed(task.listed_labels, SHOWN)}"
            if task.labels
            else f"`{task.name}` ({task.type})"
            for task in tasks
        ],
        languages=", ".join(f"{name(code)} (`{code}`)" for code in codes),
        added={name(code): source for code, source in config.added.items()},
        example=example,
        example_input='("One text.", "Another.")' if reads_pairs else '"…"',
        averages=_averages(results),
        strata=STRATA_MEANING if results and any(a.strata for a in results.averages) else "",
        kinds=_kinds(results),
        ranges=_ranges(scored),
        data_table=_data(blocks),
        recipe_file=RECIPE,
        feature_licence=config.language_features.licence if config.language_features else "",
        cost=_cost(recipe, training, versions),
        max_length=config.max_length,
        version=__version__,
        citation=CITATION,
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


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 0) -> str:
    """Write a table in Markdown; the last columns, as many as `numbers`, are set to the right."""
    rule = ["---"] * (len(columns) - numbers) + ["--:"] * numbers
    lines = [list(columns), rule, *rows]
    cells = [[str(value).replace("|", r"\|") for value in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _averages(results: Results | None) -> str:
    if results is None:
        return ""
    rows = [
        (
            a.task,
            f"{a.kind}: {a.stratum}" if a.stratum else a.kind,
            a.metric,
            "n/a" if a.mean is None else f"{a.mean:.1f}",
            a.cells,
        )
        for average in results.averages
        for a in (average, *average.strata)
    ]
    return _table(("task", "kind of cell", "metric", "mean", "cells"), rows, numbers=2)


def _kinds(results: Results | None) -> list[tuple[Kind, str]]:
    """Lay the cells of each kind out, one language a row and one task a column."""
    tables = []
    for kind in results.kinds if results else ():
        assert results is not None
        cells = {cell.cell: cell for cell in results.cells if cell.kind is kind and cell.applicable}
        of_kind = {cell.task for cell in cells}
        tasks = {task: metric for task, metric in results.tasks.items() if task in of_kind}
        rows = []
        for code in sorted({cell.language for cell in cells}):
            of_row = [cells.get(Cell(task, code)) for task in tasks]
            texts = [f"{c.value:.1f} ({c.examples})" if c and c.scored else "" for c in of_row]
            rows.append((name(code), f"`{code}`", *texts))
        columns = ["language", "code", *(f"{task}, {metric}" for task, metric in tasks.items())]
        if rows:
            tables.append((kind, _table(columns, rows, numbers=len(tasks))))
    return tables


def _ranges(cells: Sequence[CellResult]) -> str:
    """Say how often scores lay in the range that was expected of them without labels."""
    ranged = [cell for cell in cells if cell.expected]
    inside = sum(cell.as_expected for cell in ranged)
    return f"{inside} of {counted(len(ranged), 'cell')}" if ranged else ""


def _data(blocks: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for block in blocks:
        source = str(block.get("dataset") or block.get("root") or "files")
        trained = [code for code, files in block["cells"].items() if files.get("train")]
        others = len(block["cells"]) - len(trained)
        shown = listed(trained, SHOWN)
        rows.append((block["task"], f"`{source}`", block["format"], shown, others))
    columns = ("task", "source", "format", "trained on", "languages for evaluation alone")
    return _table(columns, rows, numbers=1) if rows else ""


def _cost(
    recipe: Mapping[str, Any] | None,
    training: Mapping[str, Any] | None,
    versions: Mapping[str, Any] | None,
) -> list[str]:
    """List what training took, and on what; as far as it is known."""
    lines = []
    if training and recipe and "seconds" in training:
        settings = recipe["training"]
        batch = f"{settings['batch_size']} rows"
        if settings.get("tokens"):
            batch = f"{settings['tokens']} sub-words"
        steps = f"{counted(int(training['steps']), 'step')} of {batch}"
        lines.append(f"{steps} in {training['seconds'] / 60:,.1f} minutes, seed {settings['seed']}")
    if training and training.get("trained_parameters"):
        lines.append(f"{counted(int(training['trained_parameters']), 'trained parameter')}")
    if versions:
        processes = counted(int(versions.get("processes", 1)), "process")
        lines.append(f"{versions['device']}; {processes}, precision {versions['precision']}")
        libraries = ("hyperlect", "torch", "transformers")
        lines.append(", ".join(f"{library} {versions[library]}" for library in libraries))
    return lines
