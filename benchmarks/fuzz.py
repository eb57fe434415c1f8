"""Any bytes at all, in every reader, the recipe, requests and windows: a coverage-guided fuzzer.

    pip install atheris                                # not among the requirements of the tests
    python benchmarks/fuzz.py conllu --seconds 300 --corpus fuzz/conllu

What must hold is in `tests/anything.py`. The first input for which it does not hold is written to
the corpus folder as crash-*, timeout-* or oom-*, and ends the run; run it again with
`--replay FILE` to see the error. Inputs that reach new code are kept in the corpus folder, from
which the next run goes on. At the end the inputs tried and the seconds are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS, MOST_MEGABYTES, LONGEST = 10, 4096, 2048
"""Of one input: more is a hang, or a leak; and its length in bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", help="conllu, columns, tables, recipe, requests or windows")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="a folder; by default fuzz/TARGET")
    parser.add_argument("--replay", type=Path, help="try this input alone, without the fuzzer")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    if options.replay:
        from tests.anything import assert_holds

        assert_holds(options.target, options.replay.read_bytes())
        return
    import atheris

    with atheris.instrument_imports(include=["hyperlect"]):
        from tests.anything import SEEDS, TARGETS
    target = TARGETS[options.target]
    corpus = options.corpus or Path("fuzz") / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[options.target]):
        (corpus / f"seed-{number}").write_bytes(seed)
        target(seed)  # what is imported at the first call does not count as its time
    tried, begun = 0, time.perf_counter()

    def counted(data: bytes) -> None:
        nonlocal tried
        tried += 1
        target(data)
        if time.perf_counter() - begun > options.seconds:
            seconds = round(time.perf_counter() - begun)
            record = {"target": options.target, "seconds": seconds, "inputs": tried}
            print(json.dumps(record), flush=True)
            os._exit(0)  # libFuzzer does not come back

    arguments = [
        *(f"-timeout={MOST_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-max_len={LONGEST}"),
        *(f"-artifact_prefix={corpus}/", "-print_final_stats=1", str(corpus)),
    ]
    atheris.Setup([sys.argv[0], *arguments], counted)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
