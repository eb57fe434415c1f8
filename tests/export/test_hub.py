from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants

from hyperlect import push_to_hub
from hyperlect.errors import HyperlectError, RunError, UnreachableError
from hyperlect.evaluation import evaluate_run
from hyperlect.export.hub import CARD, public_files
from hyperlect.model import HyperX
from hyperlect.run_folder import PUBLIC, require_run
from tests.hub import Hub, put_on_hub, serving
from tests.project import train, write_project
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run whose encoder is on the hub as acme/bert."""
    folder = tmp_path_factory.mktemp("hub")
    recipe = write_project(folder / "mine", backbone="acme/bert")
    text = recipe.read_text(encoding="utf-8")
    absolute = folder / "mine" / "pos.isl.test"
    recipe.write_text(text.replace("test: pos.isl.test", f"test: {absolute}"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        put_on_hub("acme/bert", folder / "mine" / "backbone", folder / "cache", patch)
        run = train(recipe, folder / "runs" / "tiny")
        evaluate_run(run, device="cpu")
    return run


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run; its encoder is in the client's cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(trained.parents[1] / "cache"))
    return trained


@pytest.fixture
def hub(run: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub with the run's encoder."""
    encoder = run.parents[1] / "mine" / "backbone"
    with serving(tmp_path / "cache") as server:
        files = {path.name: path.read_bytes() for path in encoder.iterdir()}
        server.repositories["acme/bert"] = {"main": files}
        yield server


def test_a_pushed_run_comes_back_whole(run: Path, hub: Hub):
    push_to_hub(run, "acme/tiny")
    assert hub.commits == [("acme/tiny", "main", {*PUBLIC, CARD}, set())]
    folder = require_run(Path("acme/tiny"), finished=True)
    assert {path.name for path in folder.iterdir()} == set(PUBLIC)
    model = HyperX.from_pretrained("acme/tiny")
    original = HyperX.from_pretrained(run).own_parameters()
    assert model.own_parameters().keys() == original.keys()
    assert all(torch.equal(model.own_parameters()[n], p) for n, p in original.items())


def test_nothing_of_this_machine_is_pushed(run: Path):
    files = public_files(run, "acme/tiny")
    assert files.keys() == {*PUBLIC, CARD}
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        assert str(run.parents[1]).encode() not in data, name
        assert b"../" not in data, name
    recipe = yaml.safe_load(bytes(files["recipe.yaml"]))  # type: ignore[arg-type]
    assert recipe["data"][0]["cells"]["isl"]["test"] == ["pos.isl.test"]


def test_a_branch_and_a_private_repository(run: Path, hub: Hub):
    push_to_hub(run, "acme/tiny", private=True, revision="v2")
    assert hub.private == {"acme/tiny"}
    assert [commit[:2] for commit in hub.commits] == [("acme/tiny", "v2")]
    assert "model.json" not in hub.repositories["acme/tiny"]["main"]
    push_to_hub(run, "acme/tiny", private=True, revision="v2")  # again


def test_scores_of_another_model_do_not_stay(run: Path, hub: Hub):
    push_to_hub(run, "acme/tiny")
    hub.repositories["acme/tiny"]["main"]["plot.png"] = b""
    HyperX.from_pretrained(run).push_to_hub("acme/tiny", token="secret")
    assert hub.commits[-1][2] == {"model.json", "model.safetensors", CARD}
    names = set(hub.repositories["acme/tiny"]["main"])
    assert names == {"model.json", "model.safetensors", CARD, ".gitattributes", "plot.png"}
    card = ModelCard(hub.repositories["acme/tiny"]["main"][CARD].decode())
    assert card.data.eval_results is None


def test_other_repositories_stay_as_they_are(run: Path, hub: Hub):
    hub.repositories["acme/other"] = {"main": {"config.json": b"{}", "pytorch_model.bin": b""}}
    with pytest.raises(RunError, match=r"config\.json"):
        push_to_hub(run, "acme/other")
    hub.repositories["acme/public"] = {"main": {}}
    with pytest.raises(RunError, match="public"):
        push_to_hub(run, "acme/public", private=True)
    assert hub.commits == []


def test_without_token_or_right_nothing_is_pushed(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(RunError, match="no right"):
        push_to_hub(run, "others/tiny")
    with pytest.raises(RunError, match="hf auth login"):
        push_to_hub(run, "acme/tiny", token="expired")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RunError, match="HF_TOKEN"):
        push_to_hub(run, "acme/tiny")
    assert hub.repositories.keys() == {"acme/bert"}


def test_a_push_that_fails_changes_no_file(run: Path, hub: Hub):
    for path, status in ((r"/commit/", 500), (r"/blobs/", 403), (r"validate-yaml", 400)):
        hub.failing = {path: status}
        with pytest.raises(HyperlectError, match="acme/tiny"):
            push_to_hub(run, "acme/tiny")
        assert hub.commits == []
        assert hub.repositories["acme/tiny"]["main"].keys() == {".gitattributes"}


def test_a_hub_that_does_not_answer(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with serving(tmp_path) as hub:
        address = hub.address
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(UnreachableError):
        push_to_hub(run, "acme/tiny", token="secret")


def test_what_others_could_not_load_is_refused(run: Path, tmp_path: Path):
    save_tiny(tmp_path / "encoder")
    (tmp_path / "run").mkdir()
    for name in PUBLIC:
        (tmp_path / "run" / name).write_bytes((run / name).read_bytes())
    path = tmp_path / "run" / "model.json"
    data = json.loads(path.read_text())
    data["backbone"]["reference"] = "../encoder"
    data["language_features"] = {"typology": "../typology.csv"}
    path.write_text(json.dumps(data))
    with pytest.raises(RunError) as error:
        public_files(tmp_path / "run", "acme/tiny")
    keys = [problem.key for problem in error.value.problems]
    assert keys == ["backbone.reference", "language_features.typology"]
    with pytest.raises(HyperlectError, match="namespace/name"):
        public_files(run, "tiny")
    with pytest.raises(RunError, match=r"model\.json"):
        public_files(tmp_path, "acme/tiny")
