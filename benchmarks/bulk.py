"""Run a big job: killed twice and restarted, its memory, and its speed here and on two Ray workers.

    HYPERLECT_DATA=… python benchmarks/bulk.py RUN                       # 2,000 sentences
    HYPERLECT_DATA=… python benchmarks/bulk.py RUN --sentences 200000    # the whole thing

The sentences are the words of the test parts of Universal Dependencies, in turn, until there are
enough, each with its language and a number. Half of them are in Parquet, half in JSON lines. Each
of three jobs is the command line in a process of its own:

- here: without a break. Its peak of resident memory is read when a quarter of the shards is done
  and at the end (VmHWM, Linux alone).
- killed: SIGKILL after a third and after two thirds of the shards, then once more to the end.
- ray: on a cluster of this machine with two workers.

Sentences a second are those between the first and the last shard, so that the start of processes
does not count; with it they stand beside. Every job must have each sentence once. Some sentences
are compared with the single prediction of the same model. Results: results/bulk/.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import RESULTS, machine
from rich.console import Console

from hyperlect.bulk import ABOUT
from hyperlect.data.readers import Source, read
from hyperlect.model import HyperX

OUT = RESULTS / "bulk"
HELD_OUT = ("fao", "hsb", "wol", "grn", "gug", "pcm")
"""Languages that no development may read."""
COMPARED = 40
JOBS = ("here", "killed", "ray")
out = Console()


def sentences(data: Path, count: int) -> list[dict[str, Any]]:
    """Return sentences with words, language and a number."""
    entries = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["entries"]
    pool = []
    for entry in entries:
        split = entry["splits"].get("test")
        if "pos" not in entry["task"] or not split or entry["iso639_3"] in HELD_OUT:
            continue
        if split["file"].endswith(".conllu"):
            examples = read(Source("conllu", str(data / split["file"])), False)
            pool += [(list(example.words), entry["iso639_3"]) for example in examples]
    random.Random(0).shuffle(pool)
    rows = enumerate(itertools.islice(itertools.cycle(pool), count))
    return [{"id": number, "words": words, "language": code} for number, (words, code) in rows]


def write(rows: list[dict[str, Any]], folder: Path, shard_rows: int) -> list[str]:
    """Write half of the rows as Parquet and half as JSON lines; return the patterns."""
    half = len(rows) // 2
    table = pa.Table.from_pylist(rows[:half])
    pq.write_table(table, folder / "a.parquet", row_group_size=shard_rows)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows[half:]]
    (folder / "b.jsonl").write_text("".join(lines), encoding="utf-8")
    return [str(folder / "*.parquet"), str(folder / "*.jsonl")]


def records(output: Path) -> list[Path]:
    return sorted((output / ABOUT).glob("0*.json"), key=lambda path: path.stat().st_mtime_ns)


def peak(process: int) -> float:
    """Return the peak of a process's resident memory until now, in MB; NaN if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    sizes = [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return sizes[0] if sizes else float("nan")


def carry_out(
    command: list[str], output: Path, until: int | None, watch: Callable[[int, int], None]
) -> float:
    """Run the command, perhaps until some shards are done; return the seconds it took."""
    began = time.monotonic()
    with (output.with_suffix(".log")).open("a", encoding="utf-8") as log:
        process = subprocess.Popen([*command, "--output", str(output)], stdout=log, stderr=log)
        while process.poll() is None:
            done = len(records(output))
            watch(process.pid, done)
            if until is not None and done >= until:
                process.kill()
                process.wait()
                return time.monotonic() - began
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(output.with_suffix(".log").read_text(encoding="utf-8"))
    return time.monotonic() - began


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows = []
    for file in sorted(output.glob("0*")):
        if file.suffix == ".parquet":
            rows += pq.read_table(file).to_pylist()
        else:
            with file.open(encoding="utf-8") as stream:
                rows += map(json.loads, stream)
    return rows


def speed(output: Path, seconds: float, rows: int) -> dict[str, float]:
    """Return sentences a second, with and without the start."""
    done = records(output)
    first, last = (done[end].stat().st_mtime for end in (0, -1))
    counts = [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in done]
    return {
        "seconds": round(seconds, 1),
        "sentences a second": round((rows - counts[0]) / (last - first), 1),
        "sentences a second, with the start": round(rows / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--shard-rows", type=int, help="default: a fortieth, at most 2000")
    parser.add_argument("--tasks", default="pos,ner")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    count, tasks = options.sentences, options.tasks
    size = options.shard_rows or max(1, min(2000, count // 40))
    rows = sentences(Path(os.environ["HYPERLECT_DATA"]), count)
    languages = len({row["language"] for row in rows})
    out.print(f"{count} sentences in {languages} languages, tasks {tasks}, shards of {size}")
    result: dict[str, Any] = {
        "machine": machine(),
        "load before": round(os.getloadavg()[0], 1),
        "run": options.run.name,
        "sentences": count,
        "languages": languages,
        "words": sum(len(row["words"]) for row in rows),
        "tasks": tasks,
        "precision": options.precision,
        "shard rows": size,
        "repetitions": 1,
    }
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "hyperlect.cli", "predict", str(options.run)]
        for pattern in write(rows, folder, size):
            command += ["--input", pattern]
        command += ["--task", tasks, "--language-column", "language", "--shard-rows", str(size)]
        command += ["--precision", options.precision]
        outputs = {name: folder / name for name in JOBS if name in options.jobs}

        shards = -(-(count // 2) // size) + -(-(count - count // 2) // size)
        peaks = {"a quarter": 0.0, "the end": 0.0}

        def watch(process: int, done: int) -> None:
            size = peak(process)
            if size == size:
                peaks["the end"] = size
                peaks["a quarter"] = size if done <= shards / 4 else peaks["a quarter"]

        if "here" in outputs:
            seconds = carry_out(command, outputs["here"], None, watch)
            result["here"] = speed(outputs["here"], seconds, count)
            result["peak memory, MB"] = {place: round(size) for place, size in peaks.items()}
            out.print("here:", result["here"], result["peak memory, MB"])

        if "killed" in outputs:
            stops, times, sizes = [], [], []
            for until in (shards // 3, 2 * shards // 3, None):
                times.append(carry_out(command, outputs["killed"], until, watch))
                stops.append(len(records(outputs["killed"])))
                sizes.append(round(peaks["the end"]))
            result["killed"] = {
                "shards": shards,
                "done at each end": stops,
                "peak memory at each end, MB": sizes,
                "seconds": [round(time) for time in times],
                "sentences a second, with the starts": round(count / sum(times), 1),
            }
            out.print("killed:", result["killed"])

        if "ray" in outputs:
            on_ray = [*command, "--ray", "local", "--workers", "2"]
            seconds = carry_out(on_ray, outputs["ray"], None, lambda *_: None)
            result["ray, two workers"] = speed(outputs["ray"], seconds, count)
            out.print("ray:", result["ray, two workers"])

        first = next(iter(outputs))
        plain = rows_of(outputs[first])
        for name, output in outputs.items():
            written = rows_of(output) if name != first else plain
            counts = Counter(row["id"] for row in written)
            result[f"{name}: sentences"] = {
                "once": sum(times == 1 for times in counts.values()),
                "twice or more": sum(times > 1 for times in counts.values()),
                "missing": len({row["id"] for row in rows} - counts.keys()),
                "errors": sum(row["error"] is not None for row in written),
            }
            if name != first:
                apart = labels_apart(written, plain)
                result[f"{name}: sentences"][f"labels other than {first}"] = apart
            out.print(f"{name}:", result[f"{name}: sentences"])
        model = HyperX.from_pretrained(options.run, device="cpu")
        chosen = random.Random(1).sample(plain, min(COMPARED, count))
        apart = 0
        for row in chosen:
            for task, predicted in row["prediction"]["tasks"].items():
                (single,) = model.predict(
                    [row["words"]], task, row["language"], precision=options.precision
                )
                apart += predicted["labels"] != list(single.labels)
        result["compared with single predictions"] = {"sentences": len(chosen), "apart": apart}
        out.print("single:", result["compared with single predictions"])
    result["load after"] = round(os.getloadavg()[0], 1)
    if not options.dry:
        OUT.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (OUT / f"sentences-{count}.json").write_text(f"{text}\n", encoding="utf-8")


def labels_apart(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> int:
    """Return how many sentences have other labels in one job than in another."""

    def labels(row: dict[str, Any]) -> dict[str, list[str]]:
        return {name: task["labels"] for name, task in row["prediction"]["tasks"].items()}

    by_id = {row["id"]: labels(row) for row in others if row["prediction"]}
    return sum(by_id.get(row["id"]) != labels(row) for row in rows if row["prediction"])


if __name__ == "__main__":
    main()
