from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from .conftest import Call, write_project


def test_a_recipe_is_shown_with_its_grid(call: Call, project: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml")
    assert code == 0, err
    assert "2/1/2" in out
    assert "unseen combination" in out
    assert "ner: spans, 2 labels: LOC PER" in out
    assert "nli: pairs, 2 labels: no yes" in out
    assert "No faults found." in out
    assert not (project / "runs" / "tiny").exists()


def test_encoding_on_request(call: Call, project: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml", "--encode")
    assert code == 0, err
    assert "at most 64" in out


def test_a_writing_that_the_encoder_does_not_know_is_told(call: Call, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    code, out, err = call("check", recipe, "--encode")
    assert (code, "unknown to the encoder" in out) == (0, False), err
    (tmp_path / "c.tsv").write_text("ߒߞߏ\tPROPN\tO\nAnna\tPROPN\tO\n", encoding="utf-8")
    code, out, err = call("check", recipe, "--encode")
    assert code == 0, err
    assert "% of the sub-words are unknown to the encoder" in out


def test_faults_of_the_data_are_told_at_once(call: Call, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    (tmp_path / "c.tsv").write_text("Anna\tPROPM\tB-PER\nand\tCCONJ\tB-TIME\n")
    code, _, err = call("check", recipe)
    assert code == 2
    assert f'{tmp_path}/c.tsv:1: word 1, "Anna", has the label "PROPM"' in err
    assert 'Did you mean "PROPN"?' in err
    assert '"B-TIME"' in err


def test_partial_overlap_warns_and_whole_overlap_is_refused(call: Call, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    train = (tmp_path / "a.tsv").read_text()
    (tmp_path / "c.tsv").write_text(train.replace("Oslo", "not"))
    code, out, _ = call("check", recipe)
    assert code == 0
    assert "Warning: pos:eng test: 1 of 2 examples" in out
    (tmp_path / "c.tsv").write_text(train)
    code, _, err = call("check", recipe)
    assert code == 2
    assert f"{tmp_path}/c.tsv" in err
    assert f"{tmp_path}/a.tsv" in err


def test_a_whole_run(call: Call, run: Path) -> None:
    code, out, err = call("check", run)
    assert code == 0, err
    assert "No faults found." in out
    assert "of step 3" in out


def test_faults_of_a_run_are_told_at_once(call: Call, run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name].flatten()[:1]
    save_file(tensors, run / "model.safetensors")
    (run / "embeddings.json").write_text("{}")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("isl:", "deu:"))
    code, out, err = call("check", run)
    assert code == 2
    assert out.count("faulty") == 4  # the checkpoint is compared with the model
    assert f"{name} has the shape" in err
    assert "ner:deu" in err
    assert "embeddings.json" in err


def test_a_model_of_another_version(call: Call, run: Path) -> None:
    model = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**model, "format_version": 99}))
    code, _, err = call("check", run)
    assert code == 2
    assert "format_version 99" in err


@pytest.mark.parametrize("arguments", [["--encode"], ["--set", "name=x"]])
def test_options_of_recipes_are_refused_for_runs(
    call: Call, trained: Path, arguments: list[str]
) -> None:
    assert "go with a recipe" in call("check", trained, *arguments).err


def test_a_run_to_start_from(call: Call, project: Path, trained: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml", "--set", f"start_from={trained}")
    assert code == 0, err
    assert "No faults found." in out
    few = ("--set", "only_tasks=[ner]", "--set", f"start_from={trained}")
    out = call("check", project / "tiny.yaml", *few).out
    assert any("fao" in row and "○" in row for row in out.splitlines())
    assert "of pos, topic, nli, dep is left behind" in out
    sizes = ("--set", "hypernet.bottleneck=8", "--set", f"start_from={trained}")
    code, _, err = call("check", project / "tiny.yaml", *sizes)
    assert code == 2
    assert "its hypernet.bottleneck is 4, here it is 8" in err
    code, _, err = call("check", project / "tiny.yaml", "--set", "start_from=./runs/none")
    assert code == 2
    assert f"there is no run {project}/runs/none" in err
