from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.data.batching import collate, make_batch
from hyperlect.data.encoding import encode, encode_inputs
from hyperlect.grid import Cell
from hyperlect.tasks import Task, TaskType
from tests.data.made import corpus, parsed, tagged
from tests.tiny import FAMILY_NAMES, byte_tokenizer, tiny_backbone, wordpiece_tokenizer

POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN"))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "places"))
MLM = Task("mlm", TaskType.MLM)
DEP = Task("dep", TaskType.PARSING, ("det", "root"))
TASKS = {task.name: task for task in (POS, TOPIC, MLM, DEP)}
POS_ENG, TOPIC_ENG, MLM_ENG, DEP_ENG = (Cell(name, "eng") for name in TASKS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_word_level_batch(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    encoded = encode(tagged("the/DET cats/NOUN", "dog/NOUN", "a/DET"), POS, tokenizer, 64, tmp_path)
    batch = make_batch({POS_ENG: encoded}, [(POS_ENG, 2), (POS_ENG, 0)], TASKS, tokenizer)
    pad = tokenizer.pad_token_id
    assert (batch.cells, batch.rows) == ([POS_ENG, POS_ENG], [2, 0])
    assert (batch.tasks, batch.languages) == (["pos", "pos"], ["eng", "eng"])
    assert batch.input_ids.tolist() == [
        [*encoded[2]["input_ids"], pad, pad], encoded[0]["input_ids"],
    ]  # fmt: skip
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.tokens == batch.to("cpu").tokens == 8
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [[0] * 5] * 2
    assert batch.positions.tolist() == [
        [False, True, False, False, False], [False, True, True, False, False],
    ]  # fmt: skip
    assert {task: labels.tolist() for task, labels in batch.labels.items()} == {"pos": [0, 0, 1]}
    for tensor in (batch.input_ids, batch.attention_mask, batch.labels["pos"]):
        assert tensor.dtype == torch.int64


def test_labels_follow_positions_in_row_major_order(tmp_path: Path):
    tokenizer = byte_tokenizer()
    sentences = ["xyz/NOUN the/DET", "a/DET cat/NOUN dogs/NOUN a/DET", "the/DET " * 40]
    encoded = encode(tagged(*sentences), POS, tokenizer, 24, tmp_path)
    drawn = [(POS_ENG, row) for row in range(len(encoded))]
    batch = make_batch({POS_ENG: encoded}, drawn, TASKS, tokenizer)
    assert batch.token_type_ids is None
    flat = [label for row in encoded for label in row["labels"]]
    assert batch.labels["pos"].tolist() == flat
    read = batch.input_ids[batch.positions]
    assert tokenizer.convert_ids_to_tokens(read)[1:4] == ["Ġthe", "Ġa", "Ġcat"]


def test_sentence_level_batch(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    texts = corpus([{"text": "a cat", "label": "animals"}, {"text": "Oslo", "label": "places"}])
    encoded = encode(texts, TOPIC, tokenizer, 64, tmp_path)
    batch = make_batch({TOPIC_ENG: encoded}, [(TOPIC_ENG, 1), (TOPIC_ENG, 0)], TASKS, tokenizer)
    assert not batch.positions.any()
    assert batch.labels["topic"].tolist() == [1, 0]


def test_unlabelled_batch():
    tokenizer = wordpiece_tokenizer()
    rows = encode_inputs([["a", "cat"]], POS, tokenizer, 64)
    batch = collate(rows, [POS_ENG], TASKS, tokenizer)
    assert batch.labels == {}
    assert batch.rows == [0]
    assert batch.positions.sum() == 2


def test_masked_batch(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    lines = corpus([{"text": "the old cat sees the river " * 5}, {"text": "Anna"}])
    encoded = encode(lines, MLM, tokenizer, 64, tmp_path)
    drawn = [(MLM_ENG, 0), (MLM_ENG, 1)]
    batch, again = (
        make_batch({MLM_ENG: encoded}, drawn, TASKS, tokenizer, generator(5)) for _ in range(2)
    )
    unlabelled = [{**row, "labels": []} for row in encoded]
    plain = collate(unlabelled, [TOPIC_ENG] * 2, TASKS, tokenizer).input_ids
    assert batch.labels["mlm"].tolist() == plain[batch.positions].tolist()
    assert torch.equal(batch.input_ids[~batch.positions], plain[~batch.positions])
    assert batch.positions.any(dim=1).all()
    assert not batch.positions[batch.attention_mask == 0].any()
    assert torch.equal(batch.input_ids, again.input_ids)


def test_rows_of_several_cells_share_a_batch(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    data = {
        POS_ENG: (tagged("the/DET cats/NOUN", "a/DET"), POS),
        Cell("pos", "isl"): (tagged("dog/NOUN river/NOUN"), POS),
        TOPIC_ENG: (corpus([{"text": "Oslo", "label": "places"}]), TOPIC),
        MLM_ENG: (corpus([{"text": "the old cat sees a river"}]), MLM),
    }
    encoded = {
        cell: encode(rows, task, tokenizer, 64, tmp_path) for cell, (rows, task) in data.items()
    }
    pos_isl = Cell("pos", "isl")
    drawn = [(POS_ENG, 1), (MLM_ENG, 0), (pos_isl, 0), (TOPIC_ENG, 0), (POS_ENG, 0), (POS_ENG, 1)]
    batch = make_batch(encoded, drawn, TASKS, tokenizer, generator())
    assert list(zip(batch.cells, batch.rows, strict=True)) == drawn
    assert {task: labels.tolist() for task, labels in batch.labels.items() if task != "mlm"} == {
        "pos": [0, 1, 1, 0, 1, 0], "topic": [1],
    }  # fmt: skip
    for place, (cell, row) in enumerate(drawn):
        given, length = encoded[cell][row], int(batch.attention_mask[place].sum())
        marked = batch.positions[place].nonzero().flatten().tolist()
        assert length == len(given["input_ids"])
        if cell == MLM_ENG:
            hidden = torch.tensor(given["input_ids"])[marked]
            assert batch.labels["mlm"].tolist() == hidden.tolist()
            assert marked
        else:
            assert batch.input_ids[place, :length].tolist() == given["input_ids"]
            assert marked == list(given["positions"] if cell.task == "pos" else [])
    # The masks of the raw text do not depend on what else there is.
    alone = make_batch(encoded, [(MLM_ENG, 0)], TASKS, tokenizer, generator())
    assert torch.equal(alone.labels["mlm"], batch.labels["mlm"])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_reads_a_batch(family: str):
    backbone = tiny_backbone(family)
    rows = encode_inputs([["the", "cat"], ["Anna"] * 70], POS, backbone.tokenizer, 64)
    batch = collate(rows, [POS_ENG] * len(rows), TASKS, backbone.tokenizer).to("cpu")
    hidden, _ = backbone(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    assert hidden.shape == (*batch.input_ids.shape, 32)
    assert hidden.isfinite().all()


def test_moving_a_batch_keeps_the_rest():
    tokenizer = wordpiece_tokenizer()
    rows = [{**row, "labels": [1]} for row in encode_inputs([["a"]], POS, tokenizer, 64)]
    batch = collate(rows, [POS_ENG], TASKS, tokenizer, None, [7])
    moved = batch.to("meta")
    assert moved.input_ids.device.type == "meta"
    assert moved.positions.device.type == "meta"
    assert moved.labels["pos"].device.type == "meta"
    assert (moved.cells, moved.rows) == ([POS_ENG], [7])
    assert batch.labels["pos"].tolist() == [1]
    assert batch.input_ids.device.type == "cpu"


def test_sentences_to_parse_beside_others(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    long = " ".join(f"xyz/{i}/{'det' if i else 'root'}" for i in range(9))
    trees = encode(parsed("the/2/det cats/0/root", long), DEP, tokenizer, 16, tmp_path)
    tags = encode(tagged("a/DET", "dog/NOUN"), POS, tokenizer, 16, tmp_path)
    drawn = [(DEP_ENG, 0), (POS_ENG, 1), (DEP_ENG, 1)]
    batch = make_batch({DEP_ENG: trees, POS_ENG: tags}, drawn, TASKS, tokenizer)
    windows = len(trees[1]["windows"])
    assert windows == 3
    assert batch.cells == [DEP_ENG, POS_ENG, *[DEP_ENG] * windows]
    assert batch.rows == [0, 1, *[1] * windows]
    assert batch.drawn == {"dep": 2, "pos": 1}
    assert batch.to("cpu").drawn == batch.drawn
    assert batch.words is not None
    assert batch.words.shape == batch.input_ids.shape == batch.attention_mask.shape
    assert batch.words[0, :6].tolist() == [0, 1, 2, 2, -1, -1]
    assert (batch.words[1] == -1).all()
    assert batch.positions.sum(dim=1).tolist() == [0, 1, 0, 0, 0]
    assert batch.heads["dep"].tolist() == [2, 0, *range(9)]
    assert batch.labels["dep"].tolist() == [0, 1, 1, *[0] * 8]
    assert batch.labels["pos"].tolist() == [1]
    joined = [
        (token, word)
        for ids, words, mask in zip(
            batch.input_ids[2:], batch.words[2:], batch.attention_mask[2:], strict=True
        )
        for token, word in zip(ids[mask.bool()].tolist(), words[mask.bool()].tolist(), strict=True)
    ]
    assert joined == list(zip(trees[1]["input_ids"], trees[1]["words"], strict=True))
    moved = batch.to("meta")
    assert moved.words is not None
    assert {moved.words.device.type, moved.heads["dep"].device.type} == {"meta"}


def test_a_batch_without_trees_has_no_words(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    rows = encode_inputs([["a"]], POS, tokenizer, 64)
    assert collate(rows, [POS_ENG], TASKS, tokenizer).words is None
    trees = collate(encode_inputs([["a"]], DEP, tokenizer, 64), [DEP_ENG], TASKS, tokenizer)
    assert (trees.labels, trees.heads) == ({}, {})
