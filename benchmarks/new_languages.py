"""What bringing in a language is worth, with ever more sentences in it.

For each run and each language that it never saw: the score without training; of mixtures of other
languages' vectors; with the vector fitted to raw sentences; and with a few labelled ones. Methods
without language vectors are fine-tuned on the same sentences, at the rates of
recipes/small/grid.yaml. What is done is not repeated, so the script can be stopped and started
again.

    HYPERLECT_DATA=… python benchmarks/new_languages.py runs/hyperx-1 runs/adapters-1 …
    python benchmarks/new_languages.py --page    # summary.md and summary.json from the scores

Sentences to fit to come from the train part of a corpus (or its dev part, or else every other one
of its only file), 200 raw or 5 to 100 labelled ones. Scores are of at most 100 others: --split dev
for choosing, test for what is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine

from hyperlect.data.corpus import read_corpus
from hyperlect.data.encoding import encode
from hyperlect.evaluation import fill
from hyperlect.grid import Cell
from hyperlect.hardware import fast_precision
from hyperlect.languages import languages_in
from hyperlect.model import HyperX
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.transfer import Settings, adapt, unlabelled_rows, weigh_neighbours
from hyperlect.transfer.adapt import Fitter, Rows, certainty_loss, distributions

OUT = RESULTS / "new-languages"
# No run of recipes/mixed-small.yaml has training data in them. Whether a language of their branch
# has labelled data there; families would be too wide.
LANGUAGES = {
    "bam": "unrelated", "twi": "unrelated", "luo": "unrelated", "mos": "unrelated",
    "ibo": "related", "nya": "related", "zul": "related", "glv": "related", "myv": "related",
    "lij": "related", "yue": "unrelated", "bar": "related", "heb": "related", "tel": "related",
    "afr": "related", "hye": "unrelated", "kmr": "unrelated", "xho": "related", "mar": "unrelated",
}  # fmt: skip
KNOWN = languages_in(["xlm-r"])
"""The languages that XLM-R was pretrained on, and so e5, the encoder of the runs."""
TASKS = ("pos", "ner", "topic")
SCORED, RAW = 100, 200
LABELLED = (5, 10, 20, 50, 100)
MIXTURES = {
    "mean": "all, equally",
    "like-typology": "nearest by typology (TIPA)",
    "like-entropy": "by the entropy of predictions (EMEA)",
    "like-both": "by both",
}
VARIANTS = ("none", *MIXTURES, "raw", "entropy", "entropy-norms", *map(str, LABELLED))
STEPS = 60
"""Of fine-tuning, of 8 sentences each, as in the few-shot curves of recipes/small/grid.yaml."""
RATES = {"finetune": 3e-5, "adapters": 3e-4}
HEAD_RATE = 3e-3


@dataclass
class Data:
    """The sentences of one cell.

    Attributes:
        scored, pool: encoded rows that scores are of, and that may be fitted to.
        sentences: those of the pool, without labels.
    """

    scored: list[dict[str, Any]]
    pool: list[dict[str, Any]]
    sentences: list[Any]


def read(recipe: Recipe, model: HyperX, cell: Cell, split: str) -> Data | None:
    """Read the sentences of a cell; None without enough of them."""
    sources = recipe.cells("test").get(cell)
    if cell.task not in model.tasks or not sources:
        return None
    task = recipe.as_marked(model.task(cell.task))

    def examples(name: str) -> Any:
        files = [(source, Path(source.location)) for source in sources]
        moved = [(s, f.with_name(f.name.replace("test", name))) for s, f in files]
        present = [replace(s, location=str(f)) for s, f in moved if f.is_file()]
        return read_corpus(present, task.type.reads_words) if present else []

    scored = examples(split) or examples("test")
    pool = examples("train") or (examples("dev") if split == "test" else [])
    if not pool:
        # Every other one: the two halves of a file may be of different texts.
        scored, pool = (scored.select(range(start, len(scored), 2)) for start in (0, 1))
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(1)).tolist()
    pool = pool.select(order[:RAW])
    scored = scored.select(range(0, len(scored), max(1, len(scored) // SCORED))[:SCORED])
    if len(pool) < max(5, min(LABELLED)) * 4 or len(scored) < 20:
        return None
    rows = [list(encode(each, task, model.tokenizer, model.max_length)) for each in (scored, pool)]
    return Data(rows[0], rows[1], list(pool["words" if task.type.reads_words else "text"]))


@contextmanager
def untouched(model: HyperX) -> Iterator[None]:
    """Restore a model at the end of the block, whatever was added or trained in it."""
    config = model.config
    state = {name: p.detach().clone() for name, p in model.own_parameters().items()}
    yield
    for name in model.own_parameters():
        folder, _, leaf = name.rpartition(".")
        if name not in state:
            setattr(model.get_submodule(folder), leaf, None)
        elif (parameter := model.get_parameter(name)).shape == state[name].shape:
            parameter.data.copy_(state[name])
        else:
            setattr(model.get_submodule(folder), leaf, torch.nn.Parameter(state[name]))
    model.config = config


def fine_tune(model: HyperX, language: str, rows: Rows) -> None:
    """Train everything that training trains on labelled rows."""
    parameters = model.own_parameters()
    heads = [p for name, p in parameters.items() if name.startswith("heads.")]
    others = [p for name, p in parameters.items() if not name.startswith("heads.")]
    rate = RATES[model.config.method]
    optimizer = torch.optim.AdamW(
        [{"params": heads, "lr": HEAD_RATE}, {"params": others, "lr": rate}], weight_decay=0.0
    )
    losses = Fitter(model, language, Settings()).labelled_losses(rows, 1)
    model.train()
    with model.backbone.arithmetic("auto"):
        _descend(optimizer, losses, STEPS)
    model.eval()


def minimise_entropy(model: HyperX, language: str, raw: Rows, norms: bool) -> None:
    """Make predictions of ordinary adapters certain: all their weights, or LayerNorms alone."""
    chosen = [
        parameter
        for name, parameter in model.own_parameters().items()
        if name.startswith("adapters.") and (not norms or "after_" in name)
    ]
    optimizer = torch.optim.Adam(chosen, lr=1e-3 if norms else RATES["adapters"])

    def losses() -> Iterator[torch.Tensor]:
        for batch in Fitter(model, language, Settings()).batches(raw, 1):
            ((task, scored),) = batch.tasks.items()
            logs = distributions(model.run(batch).scores[task], scored)
            yield certainty_loss(logs, logs.detach().exp().mean(dim=0), 0.0)

    _descend(optimizer, losses(), Settings().raw_steps)


def _descend(optimizer: torch.optim.Optimizer, losses: Iterator[Any], steps: int) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        optimizer.zero_grad()
        loss = next(losses)
        with torch.autocast("cpu", enabled=False):
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def prepare(
    model: HyperX, language: str, data: Mapping[str, Data], variant: str
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what a variant does, each with the task that it is for; "" for all tasks."""
    reads = bool(model.language_parameters())
    raw: dict[str, Any] = {}
    for task in unlabelled_rows(model, []):
        if task in data:
            raw |= unlabelled_rows(model, data[task].sentences, [task])

    def mix(like: Mapping[str, float]) -> None:
        model.add_language(language, like, variant)

    def fit(rows: Rows, sentences: Rows) -> Any:
        model.add_language(language, {}, variant)
        return adapt(model, language, rows, sentences)

    if variant == "none":
        yield "", lambda: None
    elif variant == "mean" and reads:
        yield "", lambda: mix({code: 1 / len(model.languages) for code in model.languages})
    elif variant.startswith("like-") and reads and (raw or variant == "like-typology"):
        rows = {} if variant == "like-typology" else raw
        typology = None if variant == "like-entropy" else "uriel"
        yield "", lambda: mix(weigh_neighbours(model, language, rows, typology))
    elif variant == "raw" and reads and raw:
        yield "", lambda: fit({}, raw)
    elif variant.startswith("entropy") and model.config.method == "adapters" and raw:
        norms = variant == "entropy-norms"
        yield "", lambda: minimise_entropy(model, language, raw, norms)
    elif variant.isdigit():
        for task, of_task in data.items():
            few = [row for row in of_task.pool if row["example"] < int(variant)]
            if len({row["example"] for row in few}) == int(variant):
                tune = fit if reads else lambda rows, _: fine_tune(model, language, rows)
                yield task, lambda tune=tune, rows={task: few}: tune(rows, {})


def measure(options: argparse.Namespace) -> None:
    """Write a line for every score that is not there yet."""
    path = options.out / "scores.jsonl"
    key = itemgetter("run", "language", "variant", "task")
    done = set(map(key, read_lines(path)))
    for run in options.runs:
        recipe = load_recipe(run / "recipe.yaml", check_files=False)
        model = HyperX.from_pretrained(run)
        for language in options.languages:
            wanted = {
                variant: [t for t in options.tasks if (run.name, language, variant, t) not in done]
                for variant in options.variants
            }
            cells = [Cell(task, language) for task in {*chain(*wanted.values())}]
            read_now = {c.task: d for c in cells if (d := read(recipe, model, c, options.split))}
            for variant, tasks in wanted.items():
                data = {task: read_now[task] for task in tasks if task in read_now}
                for fitted, act in prepare(model, language, data, variant) if data else ():
                    with untouched(model):
                        started = time.monotonic()
                        result = act()
                        seconds = time.monotonic() - started
                        scored_tasks = [fitted] if fitted else list(data)
                        rows = {Cell(task, language): data[task].scored for task in scored_tasks}
                        for scored in fill(model, rows, precision=fast_precision("cpu")):
                            line = {
                                "run": run.name,
                                "method": recipe.method,
                                "seed": recipe.training.seed,
                                "split": options.split,
                                "language": language,
                                "variant": variant,
                                "fitted": fitted,
                                "task": scored.task,
                                "score": scored.score,
                                "units": scored.units,
                                "seconds": round(seconds, 1),
                                "steps": getattr(result, "steps", None),
                                "reason": getattr(result, "reason", None),
                            }
                            with path.open("a", encoding="utf-8") as stream:
                                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                            print(*line.values(), flush=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the scores so far."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


STRATA: dict[str, Callable[[str], bool]] = {
    "all": lambda code: True,
    "encoder knows it": lambda code: code in KNOWN,
    "encoder does not": lambda code: code not in KNOWN,
    "related": lambda code: LANGUAGES[code] == "related",
    "unrelated": lambda code: LANGUAGES[code] == "unrelated",
}


def gains(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """Return (method, variant, task) → language → gain over none, each seed's."""
    none = {
        (row["run"], row["language"], row["task"]): row["score"]
        for row in lines
        if row["variant"] == "none"
    }
    table: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in lines:
        before = none.get((row["run"], row["language"], row["task"]))
        if before is None or row["score"] is None or row["variant"] == "none":
            continue
        key = (row["method"], row["variant"], row["task"])
        table[key][row["language"]].append(row["score"] - before)
    return table


def page(folder: Path) -> None:
    """Write summary.json and summary.md."""
    lines = read_lines(folder / "scores.jsonl")
    rows = []
    for (method, variant, task), by_language in sorted(gains(lines).items()):
        for stratum, holds in STRATA.items():
            chosen = {code: values for code, values in by_language.items() if holds(code)}
            if not chosen:
                continue
            seeds = max(map(len, chosen.values()))
            # Languages that a seed lacks would count as a difference between seeds.
            complete = [values for values in chosen.values() if len(values) == seeds]
            by_seed = [statistics.fmean(seed) for seed in zip(*complete, strict=True)]
            means = {code: round(statistics.fmean(v), 2) for code, v in chosen.items()}
            rows.append(
                {
                    "method": method,
                    "variant": variant,
                    "task": task,
                    "stratum": stratum,
                    "languages": len(chosen),
                    "seeds": seeds,
                    "gain": round(statistics.fmean(map(statistics.fmean, chosen.values())), 2),
                    "spread": round(statistics.stdev(by_seed), 2) if seeds > 1 else None,
                    "lowest": min(means.items(), key=lambda item: item[1]),
                    "highest": max(means.items(), key=lambda item: item[1]),
                }
            )
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in lines:
        seconds[f"{row['method']} {row['variant']}"].append(row["seconds"])
    times = {name: round(statistics.median(values), 1) for name, values in seconds.items()}
    summary = {"machine": machine(), "gains": rows, "median_seconds": times}
    text = json.dumps(summary, ensure_ascii=False, indent=1)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    (folder / "summary.md").write_text("\n".join(markdown(lines, rows, times)), encoding="utf-8")


def markdown(
    lines: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    times: Mapping[str, float],
) -> Iterator[str]:
    """Yield the lines of the page."""
    runs = sorted({row["run"] for row in lines})
    yield "# New languages"
    yield ""
    yield f"Gains over the score without training, in points. Runs: {', '.join(runs)}."
    yield ""
    yield "Of each stratum the mean over languages, ± its standard deviation over seeds (of the"
    yield "languages that all seeds have), then the languages of the lowest and highest gain."
    yield "Seconds are medians, of one thread on a shared machine whose load varied: they do not"
    yield "compare."
    for task in TASKS:
        of_task = [row for row in rows if row["task"] == task]
        if not of_task:
            continue
        yield ""
        yield f"## {task}"
        yield ""
        yield "| method | variant | languages | seeds | seconds | " + " | ".join(STRATA) + " |"
        yield "|---|---|--:|--:|--:|" + "--:|" * len(STRATA)
        order = {name: place for place, name in enumerate(VARIANTS)}
        keys = sorted(
            {(row["method"], row["variant"]) for row in of_task},
            key=lambda key: (key[0] != "hyperx", key[0], order.get(key[1], 99)),
        )
        for method, variant in keys:
            cells = {
                r["stratum"]: r for r in of_task if (r["method"], r["variant"]) == (method, variant)
            }
            whole = cells["all"]
            shown = []
            for stratum in STRATA:
                if stratum not in cells:
                    shown.append("–")
                    continue
                row = cells[stratum]
                spread = "" if row["spread"] is None else f" ± {row['spread']:.1f}"
                (low, least), (high, most) = row["lowest"], row["highest"]
                shown.append(f"{row['gain']:+.1f}{spread} ({low} {least:+.1f}, {high} {most:+.1f})")
            yield (
                f"| {method} | {variant} | {whole['languages']} | {whole['seeds']} "
                f"| {times[f'{method} {variant}']:.0f} | " + " | ".join(shown) + " |"
            )
    yield ""
    yield "## Without training"
    yield ""
    yield "Means over the seeds of runs with the same settings."
    yield ""
    none: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in lines:
        if row["variant"] == "none" and row["score"] is not None:
            settings = row["run"].rpartition("-")[0] or row["run"]
            none[settings, row["task"], row["language"]].append(row["score"])
    columns = sorted({key[:2] for key in none})
    yield f"| language | encoder | {' | '.join(' '.join(column) for column in columns)} |"
    yield "|---|---|" + "--:|" * len(columns)
    for language in sorted(LANGUAGES, key=KNOWN.__contains__, reverse=True):
        scores = [none.get((*column, language)) for column in columns]
        if any(scores):
            shown = [f"{statistics.fmean(of):.1f}" if of else "–" for of in scores]
            knows = "knows it" if language in KNOWN else "does not"
            yield f"| {language} | {knows} | " + " | ".join(shown) + " |"
    yield ""


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--languages", nargs="*", default=[*LANGUAGES])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    measure(options)
    if options.page:
        page(options.out)


if __name__ == "__main__":
    main()
