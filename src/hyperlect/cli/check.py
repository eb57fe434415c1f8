"""hyperlect check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..data.readers import SPLITS, Split
from ..errors import BackboneError, DataError, HyperlectError, Problems, RunError, counted, listed
from ..grid import Cell, Grid, Kind
from ..run_folder import (
    ADDED,
    CHECKPOINT,
    EMBEDDINGS,
    METRICS,
    MODEL,
    ORIGIN,
    RECIPE,
    REPORT,
    RESULTS,
    TRAINING,
    TRUST,
    VERSIONS,
    WEIGHTS,
    RunState,
    checkpoints,
    is_yaml,
    load_tensors,
    local_run,
    read_events,
    read_json,
    require_run,
    run_state,
)
from . import SetOption, err, grid_table, libraries, out, warn

if TYPE_CHECKING:
    from ..recipe import Recipe
    from ..recipe.corpora import Corpora


def check(
    place: Annotated[Path, typer.Argument(metavar="RECIPE|RUN")],
    overrides: SetOption = [],  # noqa: B006
    encode: bool = False,
    expect: bool = False,
    steps: Annotated[int | None, typer.Option("--rerun", min=1, metavar="STEPS")] = None,
) -> None:
    """Look for mistakes without training or running anything.

    A recipe: its settings, its data, its labels, and whether test data is among
    the training data; the grid is shown. A run: whether its files are whole and
    fit each other.

    \b
    Examples:
      hyperlect check recipes/mixed-small.yaml
      hyperlect check mine.yaml --set method=head --encode
      hyperlect check runs/mine --expect
      hyperlect check runs/mine --rerun 20

    Args:
        place: A recipe's YAML file, or a run folder.
        overrides: Change one setting of the recipe, as training.steps=200; repeatable.
        encode: Also load the backbone and split all words, as training does.
        expect: Of a run, also say what score to expect in cells without test data, by the model's
            confidence in sentences that the recipe has in the language. Runs the model.
        steps: Of a run, also train its first steps again, up to 20, and compare weights, losses and
            gradients with what it recorded.
    """
    if not is_yaml(place):
        place = local_run(place)
    if not place.is_dir():
        if expect or steps:
            raise HyperlectError("--expect and --rerun go with a run folder, not with a recipe.")
        check_recipe(place, overrides, encode)
    elif encode or (overrides and not (expect or steps)):
        raise HyperlectError("--set and --encode go with a recipe, not with a run folder.")
    else:
        check_run(require_run(place, recipe=expect or steps is not None))
        if expect:
            show_expected(place, overrides)
        if steps:
            show_rerun(place, steps, overrides)


def check_recipe(path: Path, overrides: Sequence[str], encode: bool) -> None:
    """Validate a recipe, read its data, and show the grid."""
    with libraries():
        from ..backbone import encoder_limits
        from ..data.typology import Typology
        from ..experiment import is_experiment
        from ..recipe import load_recipe
        from ..recipe.corpora import remarks
        from ..training import model_config, read_start
    if is_experiment(path):
        hint = f"To check it with all of its recipes: hyperlect experiment {path} --list"
        raise HyperlectError(f"{path} is an experiment's file. {hint}")
    recipe = load_recipe(path, overrides)
    console, grid = out(), recipe.grid()
    start, corpora = read_start(recipe)
    if start:
        grid = model_config(recipe, corpora, start).grid
        if left := [name for name in start.config.task_names if name not in recipe.tasks]:
            what = f"{', '.join(left)} of {recipe.start_from}"
            warn(f"{what} is not used: it is not in tasks", console)
    console.print(f"[bold]{recipe.name}[/]: method {recipe.method}, backbone {recipe.backbone}")
    console.print(check_table(recipe, corpora.counts(), grid))
    for task in corpora.tasks.values():
        labels = task.listed_labels
        known = f", {counted(len(labels), 'label')}: {listed(labels)}" if labels else ""
        console.print(f"{task.name}: {task.type}{known}", markup=False)
    console.print()
    _check_labels(corpora)
    notes = [str(overlap) for overlap in corpora.overlaps]
    unread = "cannot be read, so it was not compared with the evaluation data"
    notes += [f"{name} {unread}" for name in corpora.unchecked]
    longest = None
    try:
        layers, longest = encoder_limits(recipe.backbone, recipe.revision)
        recipe.hypernet.layers(layers)
    except BackboneError as error:
        notes.append(f"backbone: {error}")
    except ValueError as error:
        raise HyperlectError(f"{path}: hypernet.{error}.") from None
    if recipe.has_base and (source := recipe.typology()):
        table = Typology.read(source)
        languages = sorted({cell.language for _, cell in corpora.examples})
        if lacking := [code for code in languages if code not in table]:
            what = f"language_features: {source} lacks {', '.join(lacking)}"
            notes.append(f"{what}. Averages stand for them; or give a table that has them.")
    notes += [*remarks(corpora), *recipe.notes(longest)]
    for note in chain(notes, _encode(recipe, corpora) if encode else ()):
        warn(note, console)
    console.print("No mistakes found.", style="green")


def _check_labels(corpora: Corpora) -> None:
    """Raise `DataError` with every label of any split that its task does not know."""
    from ..data.labels import label_ids

    problems = Problems()
    for (_, cell), examples in corpora.examples.items():
        task = corpora.tasks[cell.task]
        if task.labels:
            with problems.collecting():
                label_ids(examples, task)
    problems.raise_if_any(DataError, "The data cannot be used as it stands:")


def _encode(recipe: Recipe, corpora: Corpora) -> Iterator[str]:
    """Encode everything, which fills the cache that training reads, and print what came out.

    Yields:
        A note on each language with sub-words that the encoder does not know.
    """
    with libraries():
        from ..backbone import load_backbone
        from ..data.subwords import unknown_share
        from ..evaluation.trust import MOST_UNKNOWN
    backbone = load_backbone(recipe.backbone, recipe.revision)
    longest = min(recipe.max_length, backbone.max_length)
    by_language: dict[str, list[list[int]]] = {}
    for (_, cell), data in corpora.encode(backbone.tokenizer, longest).items():
        by_language.setdefault(cell.language, []).extend(data["input_ids"])
    lengths = [len(ids) for rows in by_language.values() for ids in rows]
    examples = counted(sum(corpora.counts().values()), "example")
    inputs = f"{counted(len(lengths), 'input')} of {sum(lengths):,} sub-words"
    most = f"the longest has {max(lengths)} of at most {longest}"
    out().print(f"Encoded {examples} as {inputs}; {most}.")
    for code, rows in by_language.items():
        if (share := unknown_share(rows, backbone.tokenizer)) > MOST_UNKNOWN:
            what = f"the encoder does not know {share:.0%} of the sub-words"
            yield f"{code}: {what}, so it cannot read this writing well. Choose one that knows it"


def check_table(recipe: Recipe, counts: Mapping[tuple[Split, Cell], int], grid: Grid) -> Table:
    """Lay the grid out, one language a row and one task a column.

    Languages with labels come first, then those with raw text, then untouched ones.

    Args:
        recipe: what is shown.
        counts: the number of examples in each split of each cell.
        grid: what is trained; with a run to start from, more than the recipe says.

    Returns:
        A table that is readable at 80 columns. A cell reads ``● 600/60/200``: its kind's mark, and
        the examples to train on, to select by and to score; ``◐ 200`` if it is scored only.
    """
    cells: dict[Cell, str] = {}
    for cell in {cell for _, cell in counts}:
        shown = [_count(counts.get((split, cell))) for split in SPLITS]
        text = shown[2] if shown[:2] == ["–", "–"] else "/".join(shown)
        cells[cell] = f"{grid.kind(cell).mark} {text}"
    languages = {cell.language for cell in cells}
    labelled = languages & grid.labelled_languages
    with_text = languages & grid.text_languages - labelled
    groups = map(sorted, (labelled, with_text, languages - labelled - with_text))
    lines = ["train/dev/test examples, or test examples alone"]
    for kind in Kind:
        if number := sum(grid.kind(cell) is kind for cell in cells):
            lines.append(f"{kind.mark} {kind} ({counted(number, 'cell')})")
    headings = {task: task for task in recipe.tasks}
    return grid_table(cells, headings, groups, caption="\n".join(lines))


def _count(examples: int | None) -> str:
    if examples is None:
        return "–"
    return str(examples) if examples < 10_000 else f"{examples // 1000}k"


def check_run(run: Path) -> None:
    """Check the files of a run folder one by one, and show what each holds.

    Raises:
        RunError: files are missing, damaged, or do not fit each other; names all of them.
    """
    with libraries():
        from ..model import HyperX  # noqa: F401
    interrupted = run_state(run) is RunState.INTERRUPTED
    needed = {CHECKPOINT} if interrupted else {CHECKPOINT, MODEL}
    if any((run / name).is_file() for name in (RECIPE, VERSIONS)):
        needed |= {RECIPE, VERSIONS}  # of a run, not of a converted checkpoint or a saved model
    problems = Problems()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, describe_file in _CONTENTS.items():
        content = "[yellow]not written yet[/]" if interrupted and name == MODEL else ""
        try:
            if name in needed or (run / name).exists():
                content = describe_file(run / name)
            table.add_row("[green]✓[/]" if content else "–", name, content or "[dim]none[/]")
        except (HyperlectError, OSError, ValueError, LookupError, TypeError) as error:
            known = isinstance(error, HyperlectError | OSError)
            problems.add(f"{name}: {error}" if known else f"{name}: {error!r}")
            table.add_row("[red]✗[/]", name, "[red]faulty[/]")
    out().print(table)
    problems.raise_if_any(RunError, f"{run} is not whole:")
    if interrupted:
        out().print(f"Interrupted. Resume it: hyperlect train --resume {run}", style="yellow")
    else:
        out().print("No mistakes found.", style="green")


def show_expected(run: Path, overrides: Sequence[str]) -> None:
    """Show what score to expect in cells without training and test data."""
    with libraries():
        from ..evaluation import Trust, expect_untested
        from ..model import HyperX
        from ..recipe import load_recipe
    recipe = load_recipe(run / RECIPE, overrides, check_files=False)
    expected = expect_untested(HyperX.from_pretrained(run), recipe, Trust.read(run))
    if not expected:
        out().print("There is no cell without test data whose language has sentences here.")
        return
    cells = {cell: str(score) for cell, score in expected.items()}
    headings = {cell.task: f"{cell.task}\nexpected" for cell in cells}
    title = "scores to expect without test data, and ranges that hold four of five cells"
    out().print(grid_table(cells, headings, title=title, justify="right"))


def show_rerun(run: Path, steps: int, overrides: Sequence[str]) -> None:
    """Train the first steps of a run again, and say whether they are as they were."""
    with libraries():
        from ..recipe import load_recipe
        from ..training import rerun
    count = rerun(run, steps, err(), load_recipe(run / RECIPE, overrides))
    same = "the same weights, losses and gradients as in the run, to the last bit"
    out().print(f"{counted(count, 'step')} trained again: {same}.", style="green")


def _recipe(path: Path) -> str:
    from ..recipe import load_recipe

    recipe = load_recipe(path, check_files=False)
    trained, model = recipe.grid().trained, path.with_name(MODEL)
    if model.is_file():
        before = {Cell(*cell) for cell in read_json(model)["trained"]}
        # A run that was started from another one has cells of its own.
        if differing := trained - before if recipe.start_from else trained ^ before:
            shown = ", ".join(sorted(map(str, differing)))
            raise RunError(f"its training cells are not those of {MODEL}: {shown}")
    return f"{recipe.name}, method {recipe.method}, {counted(len(trained), 'cell')} trained"


def _model(path: Path) -> str:
    import torch

    from ..model import HyperX

    model = HyperX.from_pretrained(path.parent)
    weights = sum(parameter.numel() for parameter in model.own_parameters().values())
    names, vectors = model.language_vectors()
    embeddings = path.with_name(EMBEDDINGS)
    if names and embeddings.is_file():
        kept = read_json(embeddings)
        # Those with a base are computed, on another device perhaps.
        same = torch.allclose(torch.tensor(kept["vectors"]), vectors, rtol=1e-4, atol=1e-5)
        if kept["languages"] != names or not same:
            raise RunError(f"the language vectors are not those of {EMBEDDINGS}")
    tasks, languages = counted(len(model.tasks), "task"), counted(len(model.languages), "language")
    return f"{counted(weights, 'weight')}, {tasks}, {languages}"


def _origin(path: Path) -> str:
    data = read_json(path)
    return f"{counted(len(data['files']), 'file')} of {data['checkpoint']}"


def _metrics(path: Path) -> str:
    problems = Problems(str(path))
    events = list(read_events(path, problems))
    problems.raise_if_any(RunError, "The log of training is damaged:")
    if not events:
        raise RunError(f"{path} holds no event of training.")
    return counted(len(events), "event")


def _checkpoint(path: Path) -> str:
    from torch import nn, optim

    from ..training.checkpoint import load_checkpoint, read_checkpoint

    run = path.parent
    steps = [read_checkpoint(file)[0]["step"] for file in checkpoints(run)]
    if steps and (run / MODEL).is_file():
        weights = load_tensors(run / WEIGHTS).items()  # which MODEL was checked to fit
        parameters = {name: nn.Parameter(tensor) for name, tensor in weights}
        load_checkpoint(run, parameters, optim.AdamW(parameters.values()))
    return f"of step {' and '.join(f'{step:,}' for step in steps)}" if steps else ""


def _training(path: Path) -> str:
    data = read_json(path)
    for warning in data.get("warnings", ()):
        warn(warning, out())
    return "{steps:,} steps in {seconds:,.0f} s".format(**data)


def _trust(path: Path) -> str:
    from ..evaluation import Trust

    kept = Trust.read(path.parent)
    languages = counted(len(kept.pieces.frequent), "language")
    return f"{counted(len(kept.anchors), 'dev cell')}, sub-words of {languages}"


def _results(path: Path) -> str:
    from ..evaluation import read_results

    return f"scores of {counted(len(read_results(path.parent).cells), 'cell')}"


_LIBRARIES = "hyperlect {hyperlect}, torch {torch}, transformers {transformers}"
_CONTENTS: dict[str, Callable[[Path], str]] = {
    RECIPE: _recipe,
    MODEL: _model,
    VERSIONS: lambda path: _LIBRARIES.format(**read_json(path)),
    ORIGIN: _origin,
    TRAINING: _training,
    METRICS: _metrics,
    EMBEDDINGS: lambda path: counted(len(read_json(path)["vectors"]), "vector"),
    ADDED: lambda path: f"{counted(len(read_json(path)['languages']), 'language')} added",
    TRUST: _trust,
    CHECKPOINT: _checkpoint,
    RESULTS: _results,
    REPORT: lambda path: f"{path.stat().st_size / 1000:,.0f} kB",
}
"""The files that a run may hold, and how each is checked and described."""
