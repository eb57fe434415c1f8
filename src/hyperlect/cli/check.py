"""hyperlect check."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from ..data.readers import SPLITS, Split
from ..errors import BackboneError, DataError, HyperlectError, Problems, RunError, counted
from ..grid import Cell, Grid, Kind
from ..languages import name as language_name
from ..run_folder import (
    CHECKPOINT_STATE,
    EMBEDDINGS,
    METRICS,
    MODEL,
    ORIGIN,
    RECIPE,
    REPORT,
    RESULTS,
    TRAINING,
    VERSIONS,
    WEIGHTS,
    RunState,
    checkpoint_folder,
    load_tensors,
    read_json,
    require_run,
    run_state,
)
from . import SetOption, libraries, out, warn

if TYPE_CHECKING:
    from ..recipe import Recipe
    from ..recipe.corpora import Corpora
    from ..tasks import Task

TABLE_WIDTH = 80
"""The columns that the table should fit."""
SHOWN_LABELS = 40
MOST_UNKNOWN = 0.05
"""The share of unknown sub-words in a language above which there is a warning."""


def check(
    place: Annotated[
        Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe's YAML file, or a run folder.")
    ],
    overrides: SetOption = [],  # noqa: B006
    encode: Annotated[
        bool,
        typer.Option(
            "--encode", help="Also load the backbone and split all words, as training does."
        ),
    ] = False,
) -> None:
    """Look for mistakes without training or running anything.

    A recipe: its settings, its data, its labels, and whether test data is among
    the training data; the grid is shown. A run: whether its files are whole and
    fit each other.

    \b
    Examples:
      hyperlect check recipes/mixed-small.yaml
      hyperlect check mine.yaml --set method=head --encode
      hyperlect check runs/mine
    """
    if place.is_dir():
        if overrides or encode:
            raise HyperlectError("--set and --encode go with a recipe, not with a run folder.")
        check_run(require_run(place, recipe=False))
    else:
        check_recipe(place, overrides, encode)


def check_recipe(path: Path, overrides: Sequence[str], encode: bool) -> None:
    """Validate a recipe, read its data, and show the grid."""
    with libraries():
        from ..backbone import encoder_limits
        from ..experiment import is_experiment
        from ..recipe import load_recipe
        from ..recipe.corpora import read_corpora, remarks
    if is_experiment(path):
        raise HyperlectError(
            f"{path} is an experiment's file. To check it with all of its recipes: "
            f"hyperlect experiment {path} --list"
        )
    recipe = load_recipe(path, overrides)
    corpora, grid = _with_start(recipe) if recipe.start_from else (read_corpora(recipe), None)
    console = out()
    console.print(f"[bold]{recipe.name}[/]: method {recipe.method}, backbone {recipe.backbone}")
    console.print(check_table(recipe, corpora.counts(), grid))
    for task in corpora.tasks.values():
        console.print(describe(task), markup=False)
    console.print()
    _check_labels(corpora)
    for overlap in corpora.overlaps:
        warn(str(overlap), console)
    for name in corpora.unchecked:
        warn(f"{name} cannot be read, so it was not compared with the evaluation data", console)
    layers, longest = None, None
    try:
        layers, longest = encoder_limits(recipe.backbone, recipe.revision)
    except BackboneError as error:
        warn(f"backbone: {error}", console)
    if layers is not None:
        try:
            recipe.hypernet.layers(layers)
        except ValueError as error:
            raise HyperlectError(f"{path}: hypernet.{error}.") from None
    for note in (*remarks(corpora), *recipe.notes(layers, longest)):
        warn(note, console)
    if encode:
        text, unreadable = _encoded(recipe, corpora)
        console.print(text)
        for note in unreadable:
            warn(note, console)
    console.print("No mistakes found.", style="green")


def _with_start(recipe: Recipe) -> tuple[Corpora, Grid]:
    """Read the data of a recipe that starts from a run, and the grid it will have.

    Raises:
        RunError: there is no such run, or it does not fit.
    """
    with libraries():
        from ..training.run import model_config, read_start
    start, corpora = read_start(recipe)
    tasks = start.config.tasks if start else ()
    left = [task.name for task in tasks if task.name not in recipe.tasks]
    if left:
        warn(f"{', '.join(left)} of {recipe.start_from} is not used: it is not in tasks", out())
    return corpora, model_config(recipe, corpora, start).grid


def describe(task: Task) -> str:
    """Return a task's labels on one line; of spans, the entity types."""
    if not task.labels:
        return f"{task.name}: {task.type}"
    labels = task.listed_labels
    shown = " ".join(labels[:SHOWN_LABELS])
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    return f"{task.name}: {task.type}, {counted(len(labels), 'label')}: {shown}{more}"


def _check_labels(corpora: Corpora) -> None:
    """Raise `DataError` with every label of any split that its task does not know."""
    from ..data.labels import label_ids

    problems = Problems()
    for (_, cell), examples in corpora.examples.items():
        task = corpora.tasks[cell.task]
        if task.labels:
            try:
                label_ids(examples, task)
            except DataError as error:
                problems.extend(error)
    problems.raise_if_any(DataError, "The data cannot be used as it stands:")


def _encoded(recipe: Recipe, corpora: Corpora) -> tuple[str, list[str]]:
    """Encode everything, which fills the cache that training reads, and sum it up.

    Returns:
        A summary, and a warning for each language that the encoder cannot read well.
    """
    with libraries():
        from ..backbone import load_backbone
        from ..data.subwords import unknown_share
    backbone = load_backbone(recipe.backbone, recipe.revision)
    longest = min(recipe.max_length, backbone.max_length)
    rows = corpora.encode(backbone.tokenizer, longest)
    by_language: dict[str, list[list[int]]] = {}
    for (_, cell), data in rows.items():
        by_language.setdefault(cell.language, []).extend(data["input_ids"])
    lengths = [len(ids) for rows in by_language.values() for ids in rows]
    examples = sum(corpora.counts().values())
    text = (
        f"Encoded {counted(examples, 'example')} as {counted(len(lengths), 'input')} of "
        f"{sum(lengths):,} sub-words; the longest has {max(lengths)} of at most {longest}."
    )
    shares = {code: unknown_share(ids, backbone.tokenizer) for code, ids in by_language.items()}
    return text, [
        f"{code}: the encoder does not know {share:.0%} of the sub-words, so it cannot read this "
        "writing well. Choose an encoder that knows it"
        for code, share in shares.items()
        if share > MOST_UNKNOWN
    ]


def check_table(
    recipe: Recipe, counts: Mapping[tuple[Split, Cell], int], grid: Grid | None = None
) -> Table:
    """Lay the grid out, one language a row and one task a column.

    Languages with labels come first, then those with raw text, then untouched ones.

    Args:
        recipe: what is shown.
        counts: the number of examples in each split of each cell.
        grid: what is trained, where it is more than the recipe's: with a run to start from.

    Returns:
        A table that is readable at 80 columns. A cell reads ``● 600/60/200``: its kind's mark, and
        the examples to train on, to select by and to score; ``◐ 200`` if it is scored only.
    """
    grid = grid or recipe.grid()
    parts = {split: set(recipe.cells(split)) for split in SPLITS}
    cells = set().union(*parts.values())

    def numbers(cell: Cell) -> str:
        if cell not in cells:
            return ""
        shown = [_count(counts[s, cell]) if cell in parts[s] else "–" for s in SPLITS]
        text = shown[2] if shown[:2] == ["–", "–"] else "/".join(shown)
        return f"{grid.kind(cell).mark} {text}"

    def group(language: str) -> int:
        if language in grid.labelled_languages:
            return 0
        return 1 if language in grid.text_languages else 2

    ordered = sorted({cell.language for cell in cells}, key=lambda code: (group(code), code))
    rows = [[numbers(Cell(task, language)) for task in recipe.tasks] for language in ordered]
    widths = [max(map(len, column)) for column in zip(recipe.tasks, *rows, strict=True)]
    room = TABLE_WIDTH - len("code") - sum(widths) - 2 * (len(widths) + 1)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    lines = ["train/dev/test examples, or test examples alone"]
    for kind in Kind:
        if number := sum(grid.kind(cell) is kind for cell in cells):
            lines.append(f"{kind.mark} {kind} ({counted(number, 'cell')})")
    table.caption, table.caption_justify = "\n".join(lines), "left"
    for heading in ("code", "language", *recipe.tasks):
        table.add_column(heading, no_wrap=True)
    for language, following, row in zip(ordered, [*ordered[1:], None], rows, strict=True):
        last = following is not None and group(following) != group(language)
        written, space = language_name(language), max(len("language"), room)
        short = written if len(written) <= space else f"{written[: space - 1].rstrip()}…"
        table.add_row(language, short, *row, end_section=last)
    return table


def _count(examples: int) -> str:
    return str(examples) if examples < 10_000 else f"{examples // 1000}k"


def check_run(run: Path) -> None:
    """Check the files of a run folder one by one, and show what each holds.

    Raises:
        RunError: files are missing, damaged, or do not fit each other; names all of them.
    """
    problems = Problems()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    interrupted = run_state(run) is RunState.INTERRUPTED
    with libraries():
        from ..model import HyperX  # noqa: F401
    for name, read in _READERS.items():
        try:
            if interrupted and name.startswith(MODEL):
                content = "[yellow]not written yet[/]"
            else:
                content = read(run)
            table.add_row("[green]✓[/]" if content else "–", name, content or "[dim]none[/]")
        except (HyperlectError, OSError, ValueError, LookupError, TypeError) as error:
            known = isinstance(error, HyperlectError | OSError)
            problems.add(f"{name}: {'' if known else f'{type(error).__name__}: '}{error}")
            table.add_row("[red]✗[/]", name, "[red]faulty[/]")
    out().print(table)
    problems.raise_if_any(RunError, f"{run} is not whole:")
    if interrupted:
        out().print(f"Interrupted. Resume it: hyperlect train --resume {run}", style="yellow")
    else:
        out().print("No mistakes found.", style="green")


def _check_recipe(run: Path) -> str:
    from ..recipe import load_recipe

    if not _trained_here(run):
        return ""
    recipe = load_recipe(run / RECIPE, check_files=False)
    trained = recipe.grid().trained
    if (run / MODEL).is_file():
        before = {Cell(*cell) for cell in read_json(run / MODEL)["trained"]}
        # A run that was started from another one has cells of its own.
        if differing := trained - before if recipe.start_from else trained ^ before:
            shown = ", ".join(sorted(map(str, differing)))
            raise RunError(f"its training cells are not those of {MODEL}: {shown}")
    return f"{recipe.name}, method {recipe.method}, {counted(len(trained), 'cell')} trained"


def _check_model(run: Path) -> str:
    from ..model import HyperX

    model = HyperX.from_pretrained(run)
    weights = sum(parameter.numel() for parameter in model.own_parameters().values())
    names, vectors = model.language_vectors()
    if names and (run / EMBEDDINGS).is_file():
        kept = read_json(run / EMBEDDINGS)
        if kept["languages"] != names or kept["vectors"] != vectors.tolist():
            raise RunError(f"the language vectors are not those of {EMBEDDINGS}")
    tasks, languages = counted(len(model.tasks), "task"), counted(len(model.languages), "language")
    return f"{counted(weights, 'weight')}, {tasks}, {languages}"


def _check_versions(run: Path) -> str:
    data = read_json(run / VERSIONS) if _trained_here(run) else {}
    return ", ".join(f"{n} {data[n]}" for n in ("hyperlect", "torch", "transformers") if data)


def _check_metrics(run: Path) -> str:
    import json

    path = run / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return _amount([json.loads(line)["event"] for line in lines], "event")


def _check_checkpoint(run: Path) -> str:
    import torch

    from ..model import HyperX
    from ..training.checkpoint import FILES, load_checkpoint

    folder = checkpoint_folder(run)
    if folder is None:
        return ""
    if (run / MODEL).is_file():
        parameters = HyperX.from_pretrained(run).own_parameters().items()
        trained = {name: value for name, value in parameters if value.requires_grad}
        load_checkpoint(run, trained, torch.optim.AdamW(trained.values()))
    else:
        for name in FILES:
            load_tensors(folder / name)
    return f"of step {read_json(folder / CHECKPOINT_STATE)['step']:,}"


def _check_results(run: Path) -> str:
    from ..evaluation import read_results

    path = run / RESULTS
    return f"scores of {_amount(read_results(run).cells, 'cell')}" if path.is_file() else ""


def _check_report(run: Path) -> str:
    path = run / REPORT
    return f"{path.stat().st_size / 1000:,.0f} kB" if path.is_file() else ""


def _trained_here(run: Path) -> bool:
    """Whether it is a run, and not a converted checkpoint or a model that was saved."""
    return any((run / name).is_file() for name in (RECIPE, VERSIONS))


def _amount(items: Collection[object], noun: str) -> str:
    return counted(len(items), noun) if items else ""


def _of_json(name: str, describe: Callable[[dict[str, Any]], str]) -> Callable[[Path], str]:
    return lambda run: describe(read_json(run / name)) if (run / name).is_file() else ""


_READERS: dict[str, Callable[[Path], str]] = {
    RECIPE: _check_recipe,
    f"{MODEL}, {WEIGHTS}": _check_model,
    VERSIONS: _check_versions,
    ORIGIN: _of_json(ORIGIN, lambda d: f"{_amount(d['files'], 'file')} of {d['checkpoint']}"),
    TRAINING: _of_json(TRAINING, lambda d: f"{d['steps']:,} steps in {d['seconds']:,.0f} s"),
    METRICS: _check_metrics,
    EMBEDDINGS: _of_json(EMBEDDINGS, lambda d: _amount(d["vectors"], "vector")),
    "checkpoint": _check_checkpoint,
    RESULTS: _check_results,
    REPORT: _check_report,
}
