"""Kill trainings, an experiment and a big job at random moments, and compare the ends.

    OMP_NUM_THREADS=1 python benchmarks/chaos.py                 # 50, 10 and 10 kills
    OMP_NUM_THREADS=1 python benchmarks/chaos.py --kills 5 2 2 --dry

Everything runs on the sample corpus and a random encoder, 4 layers deep and 64 wide, through the
command line, each attempt in a process of its own. (So that an attempt takes seconds, it is forked
from one that has imported the libraries, and the encoder is small: nothing that is written depends
on what it learned.) It gets SIGKILL at a random moment: while it starts, or some random number of
steps or files later and a random time after that. Then the same is called again, or `--resume`.
When enough were killed, the last attempt runs to its end.

- training: saves every second step. A training that ends before there were enough kills is followed
  by another one.
- experiment: two methods, trained and evaluated in turn.
- prediction: a job of many shards; followed by another one likewise.

What must be equal to the undisturbed run, bit for bit: the weights and the losses of every step of
a training; the weights and scores of each run of an experiment; every file of output of a job. What
is not, or what ends with an error, counts as lost. Result: results/chaos.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from common import RESULTS, machine
from rich.console import Console

from hyperlect.cli.quickstart import RECIPE
from hyperlect.experiment.runner import last_step
from hyperlect.run_folder import LOG, METRICS, WEIGHTS, checkpoints
from hyperlect.run_folder import RESULTS as SCORES

SETTINGS = {
    "training.steps": 120, "training.warmup": 3, "training.save_every": 2, "training.log_every": 1,
    "evaluation.examples": 4,
}  # fmt: skip
METHODS = ("hyperx", "adapters")
SENTENCES, SHARD_ROWS = 240, 8
CLOCKS = ("seconds", "tokens_per_second")
LOOK = 0.05
"""Seconds between looks at how far a process is."""
out = Console()
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(
    ["hyperlect.bulk", "hyperlect.experiment", "hyperlect.training", "datasets", "pandas",
     "torch.utils.tensorboard", "transformers.models.bert.modeling_bert"]
)  # fmt: skip


def make_encoder(folder: Path) -> None:
    """Write a random BERT, with a vocabulary of the characters of the sample corpus."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    pieces = BertWordPieceTokenizer(lowercase=False)
    pieces.train(list(map(str, RECIPE.parent.glob("*.train.tsv"))), vocab_size=1000)
    BertTokenizerFast(tokenizer_object=pieces._tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=pieces.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def command_line(arguments: Sequence[str], log: Path) -> None:
    """Be the command line in a new process."""
    from hyperlect.cli.__main__ import main

    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    import sys

    sys.argv = ["hyperlect", *arguments]
    main()


class Attempts:
    """Calls something again and again, and kills it.

    Args:
        folder: for the output of the processes.
        seed: of the moments of the kills.

    Attributes:
        kills: how many processes were killed.
        calls: how many were started.
        seconds: how long they ran, all together.
        first, whole, unit: the seconds of an undisturbed call until its first step or file, of all
            of it, and of a step or file.
        errors: the arguments of those that ended with an error.
        left: what the kills left: how many left a part of a file, or no checkpoint yet.
        repeated: steps of training that were done again.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.log = folder / "output.log"
        self.random = random.Random(seed)
        self.kills = self.calls = self.repeated = 0
        self.seconds = self.first = self.whole = self.unit = 0.0
        self.errors: list[str] = []
        self.left: Counter[str] = Counter()

    def call(self, arguments: Sequence[str], progress: Callable[[], int], most: int | None) -> bool:
        """Call the command line, perhaps kill it; return whether it ended by itself.

        Args:
            arguments: of the command line.
            progress: how many steps or files there are.
            most: how many more it makes at most before it is killed; None to let it be.
        """
        process = forkserver.Process(target=command_line, args=(arguments, self.log))
        base, began = progress(), time.monotonic()
        units = self.random.randint(0, most or 0)
        wait = self.random.uniform(0, self.unit if units else self.first)
        process.start()
        while process.exitcode is None and most is not None and progress() < base + units:
            process.join(LOOK)
        process.join(wait if most is not None else None)
        is_over = process.exitcode is not None
        if not is_over:
            process.kill()
            process.join()
        self.calls += 1
        self.seconds += time.monotonic() - began
        self.kills += not is_over
        if is_over and process.exitcode:
            self.errors.append(" ".join(arguments))
        return is_over

    def until_done(
        self,
        arguments: Callable[[], list[str]],
        progress: Callable[[], int],
        most: int,
        kills: int,
        look: Callable[[], None],
    ) -> None:
        """Call until it ends by itself; kill it at random moments, as long as kills are left."""
        while not self.call(arguments(), progress, most if self.kills < kills else None):
            look()

    def undisturbed(self, arguments: Sequence[str], progress: Callable[[], int]) -> None:
        """Call without a kill; note the seconds until the first progress, and those of all."""
        process = forkserver.Process(target=command_line, args=(arguments, self.log))
        start = time.monotonic()
        process.start()
        while process.exitcode is None and not progress():
            process.join(LOOK)
        self.first = time.monotonic() - start
        process.join()
        if process.exitcode:
            raise SystemExit(self.log.read_text(encoding="utf-8"))
        self.whole = time.monotonic() - start
        self.unit = (self.whole - self.first) / max(1, progress())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def losses(run: Path) -> list[dict[str, Any]]:
    """Return the events of a training without times."""
    events = [json.loads(line) for line in (run / METRICS).read_text("utf-8").splitlines()]
    return [
        {key: value for key, value in event.items() if key not in CLOCKS}
        for event in events
        if event["event"] != "start"
    ]


def scores(run: Path) -> list[Any]:
    cells: list[Any] = json.loads((run / SCORES).read_text("utf-8"))["cells"]
    return cells


def overrides(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def steps_of(folder: Path) -> int:
    """Return how many steps a run, or those of an experiment, have done; scores count as ten."""
    runs = [path.parent for place in ("", "*/*/*/") for path in folder.glob(place + METRICS)]
    return sum(last_step(run) + 10 * (run / SCORES).is_file() for run in runs)


def summary(attempts: Attempts, ends: int, lost: int) -> dict[str, Any]:
    return {
        "kills": attempts.kills,
        "calls": attempts.calls,
        "ends": ends,
        "lost": lost + len(attempts.errors),
        "errors": attempts.errors,
        "left behind": dict(attempts.left),
        "seconds until the first step or file, undisturbed": round(attempts.first, 1),
        "seconds, undisturbed": round(attempts.whole, 1),
        "seconds, killed": round(attempts.seconds, 1),
        "seconds lost a kill": round(
            (attempts.seconds - ends * attempts.whole) / max(1, attempts.kills), 1
        ),
    }


def training(folder: Path, kills: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Kill trainings."""
    attempts = Attempts(folder, seed=1)
    plain = folder / "plain"

    def start(run: Path) -> list[str]:
        return ["train", str(RECIPE), "--out", str(run), "--device", "cpu", *overrides(settings)]

    attempts.undisturbed(start(plain), lambda: steps_of(plain))
    ends = lost = damaged = 0
    while attempts.kills < kills:
        run = folder / f"killed-{ends}"

        def arguments(run: Path = run) -> list[str]:
            begun = (run / "recipe.yaml").is_file()
            return ["train", "--resume", str(run), "--device", "cpu"] if begun else start(run)

        def look(run: Path = run) -> None:
            saved = [int(path.stem) for path in checkpoints(run)]
            attempts.left["a part of a file"] += bool(list(run.rglob("*.partial")))
            attempts.left["no checkpoint"] += not saved
            attempts.repeated += max(0, last_step(run) - max(saved, default=0))

        attempts.until_done(arguments, lambda run=run: steps_of(run), 30, kills, look)
        same = digest(run / WEIGHTS) == digest(plain / WEIGHTS) and losses(run) == losses(plain)
        lost += not same
        damaged += (run / LOG).read_text("utf-8").count("damaged")
        ends += 1
        out.print(f"training {ends}: {attempts.kills} kills, {'same' if same else 'OTHER'} bits")
    more = {"steps done again": attempts.repeated, "damaged checkpoints met": damaged}
    return summary(attempts, ends, lost) | more


def experiment(folder: Path, kills: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Kill an experiment."""
    attempts = Attempts(folder, seed=2)
    file = folder / "grid.yaml"
    config = {
        "format_version": 1, "name": "chaos", "seeds": [1], "methods": list(METHODS),
        "settings": {"sample": {"recipe": str(RECIPE), "set": settings}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    plain, killed = folder / "plain", folder / "killed"

    def start(place: Path) -> list[str]:
        return ["experiment", str(file), "--out", str(place), "--device", "cpu"]

    attempts.undisturbed(start(plain), lambda: steps_of(plain))

    def look() -> None:
        attempts.left["a part of a file"] += bool(list(killed.rglob("*.partial")))

    attempts.until_done(lambda: start(killed), lambda: steps_of(killed), 40, kills, look)
    runs = sorted(path.parent.relative_to(plain) for path in plain.rglob(WEIGHTS))
    lost = sum(
        digest(plain / run / WEIGHTS) != digest(killed / run / WEIGHTS)
        or scores(plain / run) != scores(killed / run)
        for run in runs
    )
    out.print(f"experiment: {attempts.kills} kills, {len(runs) - lost} of {len(runs)} runs same")
    return summary(attempts, 1, lost) | {"runs": len(runs)}


def prediction(folder: Path, kills: int, run: Path) -> dict[str, Any]:
    """Kill big jobs."""
    attempts = Attempts(folder, seed=3)
    words = [
        line.split("\t")[0]
        for path in sorted(RECIPE.parent.glob("*.test.tsv"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("# ")
    ]
    rows = [words[5 * number % len(words) :][:12] for number in range(SENTENCES)]
    inputs = folder / "input.jsonl"
    lines = (f"{json.dumps({'id': n, 'words': row})}\n" for n, row in enumerate(rows))
    inputs.write_text("".join(lines), encoding="utf-8")
    plain = folder / "plain"

    def start(place: Path) -> list[str]:
        about = ["--task", "pos,ner", "--language", "swh", "--shard-rows", str(SHARD_ROWS)]
        places = ["--input", str(inputs), "--output", str(place)]
        return ["predict", str(run), *places, *about, "--device", "cpu"]

    def files(place: Path) -> dict[str, str]:
        return {path.name: digest(path) for path in place.glob("0*.jsonl")}

    attempts.undisturbed(start(plain), lambda: len(files(plain)))
    first, ends, lost = files(plain), 0, 0
    while attempts.kills < kills:
        killed = folder / f"killed-{ends}"

        def look(killed: Path = killed) -> None:
            attempts.left["a part of a file"] += bool(list(killed.rglob("*.partial")))

        def arguments(killed: Path = killed) -> list[str]:
            return start(killed)

        attempts.until_done(arguments, lambda killed=killed: len(files(killed)), 5, kills, look)
        second = files(killed)
        lost += sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())
        ids = [json.loads(line)["id"] for name in sorted(second) for line in (killed / name).open()]
        lost += ids != list(range(SENTENCES))
        ends += 1
        out.print(f"prediction {ends}: {attempts.kills} kills, {len(first)} files, {lost} lost")
    return summary(attempts, ends, lost) | {"files": len(first), "sentences": SENTENCES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, nargs=3, default=[50, 10, 10])
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": machine(),
        "load before": round(os.getloadavg()[0], 1),
        "settings": SETTINGS,
    }
    with TemporaryDirectory() as temporary:
        folders = {name: Path(temporary) / name for name in ("train", "experiment", "predict")}
        for folder in folders.values():
            folder.mkdir()
        make_encoder(Path(temporary) / "encoder")
        settings = {**SETTINGS, "backbone": str(Path(temporary) / "encoder")}
        trains, experiments, predictions = options.kills
        result["training"] = training(folders["train"], trains, settings)
        out.print(result["training"])
        result["experiment"] = experiment(folders["experiment"], experiments, settings)
        out.print(result["experiment"])
        run = folders["train"] / "plain"
        result["prediction"] = prediction(folders["predict"], predictions, run)
        out.print(result["prediction"])
    result["load after"] = round(os.getloadavg()[0], 1)
    if not options.dry:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (RESULTS / "chaos.json").write_text(f"{text}\n", encoding="utf-8")
    if lost := sum(result[name]["lost"] for name in ("training", "experiment", "prediction")):
        raise SystemExit(f"{lost} lost")


if __name__ == "__main__":
    main()
