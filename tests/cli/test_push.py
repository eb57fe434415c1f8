from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.hub import Hub, serving

from .conftest import Call


@pytest.fixture
def hub(run: Path, project: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub that has the run's encoder; the run names it by its id."""
    data = json.loads((run / "model.json").read_text())
    data["backbone"]["reference"] = "acme/bert"
    (run / "model.json").write_text(json.dumps(data))
    files = {path.name: path.read_bytes() for path in (project / "encoder").iterdir()}
    with serving(tmp_path / "cache") as server:
        server.repositories["acme/bert"] = {"main": files}
        yield server


def test_a_pushed_run_is_used_by_its_id(
    call: Call, run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = call("push", run, "acme/tiny", "--license", "apache-2.0")
    assert code == 0, err
    assert "acme/tiny/commit/" in out
    card = ModelCard(hub.repositories["acme/tiny"]["main"]["README.md"].decode())
    assert card.data.license == "apache-2.0"

    cell = ("--task", "pos", "--language", "isl")
    outs = [call("predict", r, *cell, stdin="the old dog\n" * 20) for r in (run, "acme/tiny")]
    assert [result.code for result in outs] == [0, 0], outs[1].err
    assert outs[0].out == outs[1].out
    assert "Expected accuracy" in outs[1].err

    test = tmp_path / "test.tsv"
    test.write_text("the\tDET\tO\n")
    for arguments in (("--test", f"pos:isl={test}"), ("--set", f"folder={run.parents[1]}")):
        code, out, err = call("evaluate", "acme/tiny", *arguments, "--device", "cpu")
        assert code == 0, err
        assert "results.json" not in hub.repositories["acme/tiny"]["main"]
    assert not list((tmp_path / "cache").rglob("results.json"))

    code, _, err = call("check", "acme/tiny")
    assert code == 0, err
    monkeypatch.chdir(tmp_path)
    code, _, err = call("add-language", "acme/tiny", "--language", "gla", "--like", "isl")
    assert code == 0, err
    assert (tmp_path / "runs" / "tiny-gla" / "model.json").is_file()
    assert call("check", "runs/tiny-gla").code == 0


def test_the_card_can_be_seen_before(call: Call, run: Path, hub: Hub) -> None:
    code, out, err = call("push", run, "acme/tiny", "--dry-run")
    assert code == 0, err
    assert ModelCard(out).data.library_name == "hyperlect"
    assert "model.safetensors" in err
    assert hub.repositories.keys() == {"acme/bert"}


def test_a_run_with_an_encoder_of_its_own_is_refused(call: Call, trained: Path) -> None:
    code, _, err = call("push", trained, "acme/tiny")
    assert code == 2
    assert "backbone.reference" in err


def test_a_report_of_a_model_on_the_hub_needs_a_place(
    call: Call, run: Path, hub: Hub, tmp_path: Path
) -> None:
    assert call("evaluate", run, "--device", "cpu").code == 0
    assert call("push", run, "acme/tiny").code == 0
    code, _, err = call("report", "acme/tiny")
    assert (code, "--out" in err) == (2, True)
    page = tmp_path / "page.html"
    code, _, err = call("report", "acme/tiny", "--out", page)
    assert code == 0, err
    assert page.is_file()
