"""The unmodified library `adapters` loads exports and computes what hyperlect does.

`make peers` makes the exports (exports.py) and runs this in an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

adapters = pytest.importorskip("adapters", reason="run by make peers, in another environment")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

EXPORTS = Path(os.environ.get("HYPERLECT_PEERS", "build/peers"))
CASES = sorted(path.parent for path in EXPORTS.rglob("expected.safetensors"))
SENTENCE = ["Anna", "sees", "áþ", "river", "!"]
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def test_there_are_exports() -> None:
    assert len(CASES) > 80


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.relative_to(EXPORTS)))
def test_the_page_of_an_export_comes_to_our_scores(case: Path) -> None:
    tensors = safetensors.load_file(case / "expected.safetensors")
    inputs = {
        name.removeprefix("inputs."): tensors.pop(name)
        for name in list(tensors)
        if name.startswith("inputs.")
    }
    mask = inputs["attention_mask"].bool()
    (code,) = re.findall(r"```python\n(.*?)```", (case / "out/README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"inputs": inputs, "word_starts": tensors["word_starts"]}
    with torch.no_grad():
        exec(code.replace("FOLDER", str(case / "out")), names)
        hidden = names["model"].base_model(**inputs).last_hidden_state
    torch.testing.assert_close(hidden[mask], tensors["hidden"][mask], **TOLERANCE)
    if "logits" in tensors:
        logits, expected = names["logits"], tensors["logits"]
        if expected.dim() == 3:  # of sub-words; those of padding do not count
            logits, expected = logits[mask], expected[mask]
        torch.testing.assert_close(logits, expected, **TOLERANCE)
    if "arcs" in tensors:
        real = torch.isfinite(tensors["arcs"])  # (S, W, W + 1); the library has T words
        for ours, theirs in (("arcs", "arc_preds"), ("relations", "rel_preds")):
            scores = getattr(names["scores"], theirs)[:, : real.shape[1], : real.shape[2]]
            torch.testing.assert_close(scores[real], tensors[ours][real], **TOLERANCE)


def test_the_example_of_the_documents(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "export.md"
    examples = re.findall(r"```python skip\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (code,) = (example for example in examples if "import adapters" in example)
    folder = str(EXPORTS / "xlm-roberta/ner-isl/out")
    code = code.replace("out/ner-isl", folder)
    names: dict[str, Any] = {}
    exec(code, names)
    labels = re.findall(r"'(.*?)'", capsys.readouterr().out)
    assert len(labels) == len(names["words"])
    assert set(labels) <= {"O", "B-LOC", "I-LOC"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.relative_to(EXPORTS)))
def test_the_tokenizer_makes_our_pieces(case: Path) -> None:
    tensors = safetensors.load_file(case / "expected.safetensors")
    tokenizer = transformers.AutoTokenizer.from_pretrained(case / "out/encoder")
    pieces = tokenizer(SENTENCE, is_split_into_words=True)
    expected = {
        name.removeprefix("pieces."): tensor.tolist()
        for name, tensor in tensors.items()
        if name.startswith("pieces.")
    }
    assert dict(pieces) == expected


@pytest.mark.parametrize("use_safetensors", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.relative_to(EXPORTS)))
def test_every_tensor_finds_its_place(case: Path, use_safetensors: bool) -> None:
    model = load_encoder(case / "out/encoder")
    for config in (case / "out").rglob("adapter_config.json"):
        information: dict[str, Any] = {}
        folder = str(config.parent)
        model.load_adapter(folder, loading_info=information, use_safetensors=use_safetensors)
        assert information == {"missing_keys": [], "unexpected_keys": []}
        suffix = "safetensors" if use_safetensors else "bin"
        assert list(config.parent.glob(f"*adapter*.{suffix}"))


def test_a_wrong_name_is_seen_in_the_loading_information(tmp_path: Path) -> None:
    """Guard the test above."""
    shutil.copytree(EXPORTS / "bert/pos-deu/out", tmp_path / "out")
    file = tmp_path / "out/adapter.safetensors"
    tensors = safetensors.load_file(file)
    safetensors.save_file({name.replace("bert.", "best."): t for name, t in tensors.items()}, file)
    information: dict[str, Any] = {}
    model = load_encoder(tmp_path / "out/encoder")
    model.load_adapter(str(file.parent), loading_info=information, use_safetensors=True)
    assert len(information["missing_keys"]) == len(tensors)


def load_encoder(folder: Path) -> Any:
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    if kind != "modernbert":
        return adapters.AutoAdapterModel.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    adapters.init(model)
    return model
