"""hyperlect add-language."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import HyperlectError
from ..languages import name, resolve
from ..run_folder import MODEL, read_json, require_run
from ..tasks import task_type
from . import (
    DeviceOption,
    RunArgument,
    RunOption,
    err,
    libraries,
    named_files,
    out,
    remark,
    warn,
    weights,
)

if TYPE_CHECKING:
    from ..transfer import Added

Trained = Literal["adapter", "vector", "source", "all"]


def add_language(
    run: RunArgument,
    language: Annotated[str, typer.Option(metavar="LANGUAGE")],
    text: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
    labels: Annotated[list[str], typer.Option(metavar="TASK=FILE")] = [],  # noqa: B006
    like: Annotated[str, typer.Option(metavar="LANGUAGES")] = "",
    train: Annotated[Trained | None, typer.Option()] = None,
    target: RunOption = None,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N")] = 1,
    device: DeviceOption = "auto",
) -> None:
    """Add a language to a run after training, in about a minute.

    This makes a new run and leaves the old one as it is. The adapters of the
    language are fitted to raw sentences, to a few labelled ones, or to both. With
    neither, its vector comes from typology (the extra "typology"). Some labelled
    sentences are held out: where they show no clear gain, nothing is changed.

    \b
    Examples:
      hyperlect add-language runs/mine --language gla --labels pos=few.conllu
      hyperlect add-language runs/mine --language gla --text gaelic.txt
      hyperlect add-language runs/mine --language gla --like gle,eng
      hyperlect add-language runs/mine --language gla

    Args:
        run: The folder that training made, or a model's id on the hub.
        language: Its code or name, as gla or Gaelic.
        text: Raw sentences, one a line. 200 are enough.
        labels: Labelled sentences for a task, in the format of the run's data for it; repeatable.
        like: The languages whose mean the vector starts from, as isl,dan or isl=2,dan=1; auto
            weighs the nearest. Default: what stands for any untrained language, or auto where
            there are no sentences.
        train: adapter: a change of the adapter of each cell that has sentences; all other cells
            stay as they are. vector: the language's vector alone. source: the vector, and the
            projection that all languages share. all: everything, with the run's training data.
            Default: adapter.
        target: The run folder to make. Default: RUN-LANGUAGE; for a model of the hub in runs/.
        steps: The most steps of fitting. Default: 30, with raw sentences alone 18.
        seed: Decides the order of the sentences.
    """
    named, run = run, require_run(run, finished=True, recipe=False)
    code = resolve(language)
    files = named_files("--labels", "TASK=FILE", labels)
    with libraries():
        from ..transfer import Settings
        from ..transfer import add_language as add
    settings = Settings(seed=seed)
    if steps and train == "all":
        raise HyperlectError("--steps is for sentences alone; --train all takes the recipe's.")
    if steps:
        settings = replace(settings, steps=steps, raw_steps=steps)
    beside = named if run == named else Path("runs") / named.name
    target = target or beside.with_name(f"{named.name}-{code}")
    with err().status(f"Fitting {name(code)} …"):
        added = add(
            run,
            code,
            target,
            text=text,
            labels=files,
            like=weights(like),
            trained=train,
            settings=settings,
            device=device,
            console=err(),
        )
    _describe(added, list(files), text)


def _describe(added: Added, tasks: list[str], text: Path | None) -> None:
    """Say what the new run holds, what it is worth, and what to do next."""
    for note in added.notes:
        warn(note)
    console = out()
    console.print(f"[bold]{added.run}[/] has {name(added.language)} ({added.language}).")
    console.print(f"  vector: {added.source}", markup=False)
    if added.expected:
        scores = "; ".join(f"{task} {score}" for task, score in added.expected.items())
        console.print(f"  expected without labels, before fitting: {scores}", markup=False)
    if fit := added.adaptation:
        kept = "" if fit.steps else "Nothing was changed: "
        console.print(f"  {kept}{fit.reason} ({fit.seconds:.0f} seconds).", markup=False)
    for cell, (before, after) in added.dev.items():
        console.print(f"  {cell}, development data: {before:.1f} → {after:.1f}", markup=False)
    tasks += [
        task["name"]
        for task in read_json(added.run / MODEL)["tasks"]
        if task_type(task["type"]).reads in ("words", "text")
    ]
    if tasks:  # without a file, predict reads what is typed
        file = [] if text is None else [str(text)]
        words = [str(added.run), "--task", tasks[0], "--language", added.language, *file]
        remark(f"Next: hyperlect predict {shlex.join(words)}")
