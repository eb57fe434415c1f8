"""Batches: what the rows of any cells look like side by side, and what is masked in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.data.batching import (
    Batch,
    Drawn,
    WordIndex,
    _ordinary_tokens,
    collate,
    load_rows,
    mask_rows,
    mask_tokens,
)
from hyperlect.data.encoding import encode, encode_inputs
from hyperlect.grid import Cell
from hyperlect.tasks import Task, TaskType
from tests.data.made import corpus, parsed, tagged
from tests.tiny import (
    FAMILY_NAMES,
    byte_tokenizer,
    tiny_backbone,
    tiny_tokenizer,
    wordpiece_tokenizer,
)

POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN"))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "places"))
MLM = Task("mlm", TaskType.MLM)
DEP = Task("dep", TaskType.PARSING, ("det", "root"))
TASKS = {task.name: task for task in (POS, TOPIC, MLM, DEP)}
POS_ENG, TOPIC_ENG, MLM_ENG, DEP_ENG = (Cell(name, "eng") for name in TASKS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_batch(
    encoded: Mapping[Cell, Any], drawn: Sequence[Drawn], tokenizer: Any, seed: int = 0
) -> Batch:
    """Load rows, mask them and collate them, as training does."""
    rows, cells = load_rows(encoded, drawn), [cell for cell, _ in drawn]
    masked = mask_rows(rows, cells, TASKS, tokenizer, generator(seed))
    return collate(masked, cells, TASKS, tokenizer, [index for _, index in drawn])


def positions_of(batch: Batch, task: str) -> list[tuple[int, int]]:
    """Row and column of every position that the head of a task reads."""
    positions = batch.tasks[task].positions
    assert positions is not None
    width = batch.input_ids.shape[1]
    return [divmod(position, width) for position in positions.tolist()]


def test_a_batch_of_words(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    encoded = encode(tagged("the/DET cats/NOUN", "dog/NOUN", "a/DET"), POS, tokenizer, 64, tmp_path)
    batch = make_batch({POS_ENG: encoded}, [(POS_ENG, 2), (POS_ENG, 0)], tokenizer)
    pad = tokenizer.pad_token_id
    assert (batch.cells, batch.indices) == ([POS_ENG, POS_ENG], (2, 0))
    assert batch.input_ids.tolist() == [
        [*encoded[2]["input_ids"], pad, pad], encoded[0]["input_ids"],
    ]  # fmt: skip
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.tokens == batch.to("cpu").tokens == 8
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [[0] * 5] * 2
    assert batch.tasks.keys() == {"pos"}
    rows = batch.tasks["pos"]
    assert rows.rows.tolist() == [0, 1]
    assert (rows.counts, rows.examples, rows.units) == ((1, 2), 2, 3)
    assert positions_of(batch, "pos") == [(0, 1), (1, 1), (1, 2)]
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 0, 1]
    for tensor in (batch.input_ids, batch.attention_mask, rows.labels, rows.positions):
        assert tensor.dtype == torch.int64


def test_labels_follow_positions_row_by_row(tmp_path: Path):
    tokenizer = byte_tokenizer()
    sentences = ["xyz/NOUN the/DET", "a/DET cat/NOUN dogs/NOUN a/DET", "the/DET " * 40]
    encoded = encode(tagged(*sentences), POS, tokenizer, 24, tmp_path)
    drawn = [(POS_ENG, row) for row in range(len(encoded))]
    batch = make_batch({POS_ENG: encoded}, drawn, tokenizer)
    rows = batch.tasks["pos"]
    assert batch.token_type_ids is None
    assert rows.labels.tolist() == [label for row in encoded for label in row["labels"]]
    read = batch.input_ids.flatten()[rows.positions]
    assert tokenizer.convert_ids_to_tokens(read)[1:4] == ["Ġthe", "Ġa", "Ġcat"]


def test_a_batch_of_texts(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    texts = corpus([{"text": "a cat", "label": "animals"}, {"text": "Oslo", "label": "places"}])
    encoded = encode(texts, TOPIC, tokenizer, 64, tmp_path)
    batch = make_batch({TOPIC_ENG: encoded}, [(TOPIC_ENG, 1), (TOPIC_ENG, 0)], tokenizer)
    rows = batch.tasks["topic"]
    assert rows.positions is None
    assert rows.labels.tolist() == [1, 0]
    assert (rows.counts, rows.units) == ((1, 1), 2)


def test_rows_with_the_same_sub_words_are_known():
    tokenizer = wordpiece_tokenizer()
    inputs = [["the", "cat"], ["a"], ["the", "cat"], ["a", "a"], ["a"]]
    rows = encode_inputs(inputs, POS, tokenizer, 64)
    batch = collate(rows, [POS_ENG] * 5, TASKS, tokenizer)
    assert batch.distinct is not None
    assert batch.copies is not None
    assert batch.distinct.tolist() == [0, 1, 3]
    assert batch.copies.tolist() == [0, 1, 0, 2, 1]
    assert torch.equal(batch.input_ids[batch.distinct][batch.copies], batch.input_ids)
    plain = collate(rows[:2], [POS_ENG] * 2, TASKS, tokenizer)
    assert (plain.distinct, plain.copies) == (None, None)


def test_a_batch_without_labels():
    tokenizer = wordpiece_tokenizer()
    encoded = encode_inputs([["a", "cat"]], POS, tokenizer, 64)
    batch = collate(encoded, [POS_ENG], TASKS, tokenizer)
    rows = batch.tasks["pos"]
    assert rows.labels is None
    assert rows.units == 0
    assert batch.indices == (0,)
    assert len(rows.positions) == 2
    trees = collate(encode_inputs([["a"]], DEP, tokenizer, 64), [DEP_ENG], TASKS, tokenizer)
    assert (trees.tasks["dep"].labels, trees.tasks["dep"].heads) == (None, None)


def test_rows_of_several_cells_share_a_batch(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    pos_isl = Cell("pos", "isl")
    data = {
        POS_ENG: (tagged("the/DET cats/NOUN", "a/DET"), POS),
        pos_isl: (tagged("dog/NOUN river/NOUN"), POS),
        TOPIC_ENG: (corpus([{"text": "Oslo", "label": "places"}]), TOPIC),
        MLM_ENG: (corpus([{"text": "the old cat sees a river"}]), MLM),
    }
    encoded = {
        cell: encode(rows, task, tokenizer, 64, tmp_path) for cell, (rows, task) in data.items()
    }
    drawn = [(POS_ENG, 1), (MLM_ENG, 0), (pos_isl, 0), (TOPIC_ENG, 0), (POS_ENG, 0), (POS_ENG, 1)]
    batch = make_batch(encoded, drawn, tokenizer)
    assert list(zip(batch.cells, batch.indices, strict=True)) == drawn
    rows = {name: of_task.rows.tolist() for name, of_task in batch.tasks.items()}
    assert rows == {"pos": [0, 2, 4, 5], "mlm": [1], "topic": [3]}
    assert batch.tasks["pos"].labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert batch.tasks["topic"].labels.tolist() == [1]
    expected = []
    for place, (cell, row) in enumerate(drawn):
        source, length = encoded[cell][row], int(batch.attention_mask[place].sum())
        assert length == len(source["input_ids"])
        if cell.task == "mlm":
            chosen = [column for _, column in positions_of(batch, "mlm")]
            assert chosen
            hidden = torch.tensor(source["input_ids"])[chosen]
            assert batch.tasks["mlm"].labels.tolist() == hidden.tolist()
        else:
            assert batch.input_ids[place, :length].tolist() == source["input_ids"]
            if cell.task == "pos":
                expected += [(place, column) for column in source["positions"]]
    assert positions_of(batch, "pos") == expected


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_reads_a_batch(family: str):
    backbone = tiny_backbone(family)
    rows = encode_inputs([["the", "cat"], ["Anna"] * 70], POS, backbone.tokenizer, 64)
    batch = collate(rows, [POS_ENG] * len(rows), TASKS, backbone.tokenizer).to("cpu")
    hidden, _ = backbone(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    assert hidden.shape == (*batch.input_ids.shape, 32)
    assert hidden.isfinite().all()


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor of a batch, of the dataclasses inside it too."""
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else getattr(value, "__dict__", {}).values()
    return [tensor for one in inner for tensor in tensors_of(one)]


def test_moving_a_batch_moves_every_tensor_and_keeps_the_rest(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    encoded = {
        DEP_ENG: encode(parsed("the/2/det cats/0/root"), DEP, tokenizer, 16, tmp_path),
        POS_ENG: encode(tagged("a/DET"), POS, tokenizer, 16, tmp_path),
    }
    batch = make_batch(encoded, [(DEP_ENG, 0), (POS_ENG, 0)], tokenizer)
    assert len(tensors_of(batch)) == 3 + 6 + 3
    moved = batch.to("meta")
    assert {tensor.device.type for tensor in tensors_of(moved)} == {"meta"}
    assert {tensor.device.type for tensor in tensors_of(batch)} == {"cpu"}
    assert (moved.cells, moved.indices, moved.tokens) == (batch.cells, batch.indices, batch.tokens)
    assert moved.tasks["dep"].counts == batch.tasks["dep"].counts


# --- trees


def test_sentences_to_parse_beside_others(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    long = " ".join(f"xyz/{i}/{'det' if i else 'root'}" for i in range(9))
    trees = encode(parsed("the/2/det cats/0/root", long), DEP, tokenizer, 16, tmp_path)
    tags = encode(tagged("a/DET", "dog/NOUN"), POS, tokenizer, 16, tmp_path)
    drawn = [(DEP_ENG, 0), (POS_ENG, 1), (DEP_ENG, 1)]
    batch = make_batch({DEP_ENG: trees, POS_ENG: tags}, drawn, tokenizer)
    windows = len(trees[1]["windows"])
    assert windows == 3
    assert batch.cells == [DEP_ENG, POS_ENG, *[DEP_ENG] * windows]
    assert batch.indices == (0, 1, *[1] * windows)
    dep, pos = batch.tasks["dep"], batch.tasks["pos"]
    assert dep.rows.tolist() == [0, 2, 3, 4]
    assert (dep.examples, dep.counts, dep.units) == (2, (2, 9), 11)
    assert dep.positions is None
    assert dep.heads.tolist() == [2, 0, *range(9)]
    assert dep.labels.tolist() == [0, 1, 1, *[0] * 8]
    assert (pos.examples, pos.labels.tolist()) == (1, [1])
    assert positions_of(batch, "pos") == [(1, 1)]
    # Every sub-word of a word is gathered once, in order, with its word.
    words = dep.words
    assert words.lengths == (2, 9)
    gathered = batch.input_ids.flatten()[words.subwords].tolist()
    expected, slots = [], []
    for sentence, row in enumerate(trees):
        for token, word in zip(row["input_ids"], row["words"], strict=True):
            if word >= 0:
                expected.append(token)
                slots.append(sentence * 10 + word)
    assert gathered == expected
    assert words.slots.tolist() == slots
    assert words.sizes.tolist() == [[1, 1, 2, *[0] * 7], [1, *[3] * 9]]


def test_the_words_of_some_rows_of_a_batch():
    words = torch.tensor([[0, 1, 1, -1], [-1, 2, -1, -1], [0, 1, 2, -1]])
    index = WordIndex.of(words, torch.tensor([4, 5, 1]))
    assert index.lengths == (2, 2)
    assert index.subwords.tolist() == [16, 17, 18, 21, 4, 5, 6]
    assert index.slots.tolist() == [0, 1, 1, 2, 3, 4, 5]
    assert index.sizes.tolist() == [[1, 2, 1], [1, 1, 1]]


# --- masks


def test_masked_rows_of_a_batch(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    lines = corpus([{"text": "the old cat sees the river " * 5}, {"text": "Anna"}])
    encoded = encode(lines, MLM, tokenizer, 64, tmp_path)
    drawn = [(MLM_ENG, 0), (MLM_ENG, 1)]
    batch, again, other = (
        make_batch({MLM_ENG: encoded}, drawn, tokenizer, seed) for seed in (5, 5, 6)
    )
    unlabelled = [{**row, "labels": []} for row in encoded]
    plain = collate(unlabelled, [TOPIC_ENG] * 2, TASKS, tokenizer).input_ids
    places = positions_of(batch, "mlm")
    assert batch.tasks["mlm"].labels.tolist() == [plain[place].item() for place in places]
    unchanged = torch.ones_like(plain, dtype=torch.bool)
    for place in places:
        assert batch.attention_mask[place] == 1
        unchanged[place] = False
    assert torch.equal(batch.input_ids[unchanged], plain[unchanged])
    assert {row for row, _ in places} == {0, 1}
    assert torch.equal(batch.input_ids, again.input_ids)
    assert not torch.equal(batch.input_ids, other.input_ids)


def test_each_row_is_masked_the_same_however_the_batch_is_divided(tmp_path: Path):
    """The whole batch is masked before it is divided."""
    tokenizer = wordpiece_tokenizer()
    texts = [{"text": "the old dog and a river " * n} for n in (1, 4, 2, 3)]
    encoded = {
        MLM_ENG: encode(corpus(texts), MLM, tokenizer, 64, tmp_path),
        POS_ENG: encode(tagged("the/DET cat/NOUN"), POS, tokenizer, 64, tmp_path),
    }
    drawn = [(MLM_ENG, 0), (POS_ENG, 0), (MLM_ENG, 1), (MLM_ENG, 2), (MLM_ENG, 3)]
    rows, cells = load_rows(encoded, drawn), [cell for cell, _ in drawn]
    masked = mask_rows(rows, cells, TASKS, tokenizer, generator(2))
    assert masked[1] is rows[1]
    whole = collate(masked, cells, TASKS, tokenizer)
    for division in ([[0, 1], [2, 3, 4]], [[0, 2, 4], [1, 3]]):
        units = 0
        for numbers in division:
            batch = collate(
                [masked[n] for n in numbers], [cells[n] for n in numbers], TASKS, tokenizer
            )
            for place, number in enumerate(numbers):
                length = int(batch.attention_mask[place].sum())
                assert torch.equal(
                    batch.input_ids[place, :length], whole.input_ids[number, :length]
                )
            units += batch.tasks["mlm"].units
        assert units == whole.tasks["mlm"].units
    without = mask_rows(
        [rows[n] for n in (0, 2, 3, 4)], [MLM_ENG] * 4, TASKS, tokenizer, generator(2)
    )
    assert without == [masked[n] for n in (0, 2, 3, 4)]


def many_rows(tokenizer: Any, rows: int = 400, width: int = 50) -> Tensor:
    """Draw rows of ordinary sub-words between special ones, with padding at the end."""
    special = torch.tensor(sorted(set(tokenizer.all_special_ids)))
    ids = _ordinary_tokens(torch.Size((rows, width)), len(tokenizer), special, generator(1))
    first, *_, last = tokenizer("the")["input_ids"]
    ids[:, 0], ids[:, -6], ids[:, -5:] = first, last, tokenizer.pad_token_id
    return ids


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_masks_have_the_published_rates(family: str):
    tokenizer = tiny_tokenizer(family)
    ids = many_rows(tokenizer)
    hidden, chosen = mask_tokens(ids, tokenizer, generator())
    assert chosen.sum() / (400 * 43) == pytest.approx(0.15, abs=0.012)
    masked = hidden[chosen] == tokenizer.mask_token_id
    kept = hidden[chosen] == ids[chosen]
    assert masked.float().mean() == pytest.approx(0.8, abs=0.025)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(hidden[~chosen], ids[~chosen])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_special_tokens_are_neither_chosen_nor_drawn(family: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hyperlect.data.batching.MASK_RATE", 1.0)
    tokenizer = tiny_tokenizer(family)
    special = torch.tensor(tokenizer.all_special_ids)
    ids = many_rows(tokenizer)
    ids[:, 7] = tokenizer.unk_token_id or tokenizer.mask_token_id
    hidden, chosen = mask_tokens(ids, tokenizer, generator())
    assert not chosen[torch.isin(ids, special)].any()
    assert chosen[~torch.isin(ids, special)].all()
    drawn = hidden[chosen & (hidden != tokenizer.mask_token_id)]
    assert not torch.isin(drawn, special).any()


def test_every_row_has_a_position_to_predict():
    tokenizer = wordpiece_tokenizer()
    ids = torch.tensor([[2, 9, 3, 0], [2, 9, 10, 3], [2, 1, 3, 0]])
    for seed in range(50):
        _, chosen = mask_tokens(ids, tokenizer, generator(seed))
        assert chosen[0].tolist() == [False, True, False, False]
        assert chosen[1].sum() >= 1
        assert not chosen[2].any()  # nothing but special and unknown tokens


def test_all_ordinary_tokens_are_drawn_and_no_other():
    drawn = _ordinary_tokens(torch.Size((5000,)), 12, torch.tensor([0, 3, 4, 11, 99]), generator())
    assert drawn.unique().tolist() == [1, 2, 5, 6, 7, 8, 9, 10]
    assert torch.bincount(drawn).max() < 5000 / 8 * 1.2
