from __future__ import annotations

from pathlib import Path

from ..released.folders import checkpoint
from .conftest import Call


def test_from_checkpoint_to_labels(call: Call, tmp_path: Path) -> None:
    checkpoint(tmp_path)
    run = tmp_path / "run"
    options = ("--arguments", tmp_path / "arguments.json", "--out", run)
    code, out, err = call("convert-checkpoint", tmp_path / "old", *options)
    assert code == 0, err
    assert f"{run} holds adapters and heads: ner, pos, mlm in eng, tur, fao." in out
    assert f"hyperlect predict {run} --task ner --language eng" in out
    assert "hyperx_args.bin is a pickle and was not read" in err
    code, out, err = call("check", run)
    assert code == 0, err
    assert "3 tasks, 3 languages" in out
    assert f"3 files of {tmp_path / 'old'}" in out
    code, out, err = call(
        "predict", run, "--task", "pos", "--language", "fo", stdin="the cat sees\n"
    )
    assert code == 0, err
    assert "unseen combination" in err or "text only" in err
    assert out.count("/") == 3


def test_evaluate_says_that_there_is_no_recipe(call: Call, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    code, _, err = call("evaluate", tmp_path)
    assert code == 2
    assert str(tmp_path) in err
    assert "hyperlect predict" in err


def test_without_arguments_the_pickle_is_named(call: Call, tmp_path: Path) -> None:
    checkpoint(tmp_path)
    code, _, err = call("convert-checkpoint", tmp_path / "old", "--set", "adaptor_dim=4")
    assert code == 2
    assert '"adapter_dim"' in err
    assert f"{tmp_path / 'old' / 'hyperx_args.bin'}" in err
    assert "--arguments FILE" in err
