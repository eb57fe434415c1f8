"""Runs of version 0.1 stay usable: they load, predict, evaluate and resume as they did then.

tests/runs/v1 holds what that version wrote, with {PROJECT} in place of the folder: a finished run
of six tasks, one that was interrupted after 12 of 24 steps, and what that version made of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from hyperlect import HyperX
from hyperlect.evaluation import evaluate_run, read_results
from hyperlect.evaluation.results import read_examples
from hyperlect.grid import Cell, Stratum
from hyperlect.run_folder import RunState, load_tensors, run_state

from .project import go_on

KEPT = Path(__file__).with_name("runs") / "v1"
IDS = torch.tensor([[2, 9, 14, 7, 21, 30, 8, 25, 11, 3], [2, 12, 8, 19, 33, 6, 3, 0, 0, 0]])
MASK = torch.tensor([[1] * 10, [1] * 7 + [0] * 3])
WORDS = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 5, 6, -1], [0, 1, 2, 2, 3, 4, -1, -1, -1, -1]])

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*sub-words.*cut off"),
    pytest.mark.filterwarnings("ignore:.*the next version will not know the old name"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its own folder in place of the mark."""
    folder = Path(shutil.copytree(KEPT, tmp_path_factory.mktemp("old") / "v1"))
    for path in folder.glob("*/*"):
        if path.suffix in (".yaml", ".json"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("{PROJECT}", folder.as_posix()), encoding="utf-8")
    return folder


def test_the_kept_runs_are_small_and_hold_no_place_of_a_machine() -> None:
    files = [path for path in KEPT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
    for run in ("finished", "interrupted"):
        recipe = (KEPT / run / "recipe.yaml").read_text(encoding="utf-8")
        assert "{PROJECT}/backbone" in recipe


@torch.no_grad()
def test_the_model_gives_the_same_outputs(project: Path) -> None:
    model = HyperX.from_pretrained(project / "finished")
    kept = load_tensors(project / "outputs.safetensors")
    outputs = {
        "hidden": model(IDS, MASK, task="pos", language="eng").last_hidden_state,
        "adapter": model.adapter_weights("pos", "dan").up_weight,
    }
    for cell in ("pos:eng", "ner:isl", "topic:fao", "nli:dan", "mlm:fao"):
        task, language = cell.split(":")
        outputs[cell] = model(IDS, MASK, task=task, language=language).logits
    scores = model(IDS, MASK, task="dep", language="isl", words=WORDS).scores["dep"]
    outputs["dep:isl/arcs"] = scores.arcs.masked_fill(scores.arcs.isinf(), -1e9)
    outputs["dep:isl/relations"] = scores.relations[:]
    assert outputs.keys() == kept.keys()
    real = MASK.bool()
    for name, expected in kept.items():
        mine = outputs[name]
        if mine.shape[:2] == real.shape:
            mine, expected = mine[real], expected[real]
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6, msg=name)


def test_the_run_has_the_same_results(project: Path) -> None:
    run = project / "finished"
    assert run_state(run) is RunState.DONE
    kept, counts = read_results(run), read_examples(run)
    results = evaluate_run(run, device="cpu")
    assert len(results.cells) == len(kept.cells) == 11
    for mine, expected in zip(results.cells, kept.cells, strict=True):
        other = {"score", "details", "promised", "expected", "known_to_encoder", "related"}
        masked = expected.metric == "perplexity"  # other masks are drawn since
        other |= {"units"} if masked else set()
        assert mine.model_dump(exclude=other) == expected.model_dump(exclude=other)
        assert expected.stratum == Stratum()  # version 1 kept none
        assert mine.score == pytest.approx(expected.score, rel=0.2 if masked else 1e-4)
        assert mine.details == pytest.approx(expected.details)
    again = read_examples(run)
    assert again.keys() == counts.keys()
    assert all((again[cell] == counts[cell]).all() for cell in counts)
    assert (results.name, results.steps, results.seed) == (kept.name, kept.steps, kept.seed)


def test_an_interrupted_run_is_resumed(project: Path) -> None:
    """Its batches have one cell each, for which the loss is still computed in the same way."""
    run = project / "interrupted"
    assert run_state(run) is RunState.INTERRUPTED
    go_on(run)
    assert run_state(run) is RunState.TRAINED
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event["step"] for event in map(json.loads, lines) if event["event"] == "train"]
    assert steps == list(range(3, 25, 3))
    resumed, kept = (
        load_tensors(project / name)
        for name in ("interrupted/model.safetensors", "resumed.safetensors")
    )
    assert resumed.keys() == kept.keys()
    for name, expected in kept.items():
        torch.testing.assert_close(resumed[name], expected, rtol=1e-3, atol=1e-4, msg=name)
    model = HyperX.from_pretrained(run)
    assert model.grid.kind(Cell("ner", "isl")).value == "unseen combination"
    assert len(model.predict(["Anna sees Oslo"], "ner", "isl")[0].labels) == 3
