"""Every measure runs, on an encoder so small that the numbers mean nothing."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from measures import (
    adding,
    gpu,
    inference,
    languages,
    memory,
    skewed,
    steps,
    switches,
    throughput,
)
from measures.bench import DATA_VARIABLE, Bench
from torch.autograd import DeviceType

from tests.tiny import tiny_backbone

TABLE = {
    steps: [
        ("training step, b = 64, p = 32", "≤ 1.05"),
        ("training step, b = 256, p = 192", "≤ 1.30"),
    ],
    throughput: [("training throughput in real tokens per second, mixed batches", "≥ 10")],
    inference: [
        ("inference of one cell, cached", "≤ 1.02"),
        ("a batch of 8 sentences from 8 distinct cells", "≤ 1.25"),
        ("a batch of 8 sentences from 8 distinct cells", "≤ 0.5"),
    ],
    memory: [
        ("peak memory of a training step, b = 256, p = 192", "≤ 1.10"),
    ],
    skewed: [],
    switches: [],
    languages: [],
    adding: [],
    gpu: [],
}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr(throughput, "STEPS", 4)
    monkeypatch.setattr(languages, "COUNTS", (5, 6, 8))
    monkeypatch.setattr(skewed, "LANGUAGES", 5)
    monkeypatch.setattr(switches, "TOP", 1)
    bench = Bench(torch.device("cpu"), repetitions=1, sentences=8)
    bench.__dict__["backbone"] = tiny_backbone()  # in place of the cached property
    return bench


@pytest.mark.parametrize("measure", TABLE, ids=lambda module: module.__name__.split(".")[-1])
def test_every_measure_gives_its_rows_of_the_table(bench, measure):
    rows = list(measure.measure(bench))
    assert [(row.measure, row.goal) for row in rows if not row.extra] == TABLE[measure]
    assert all(row.ratio > 0 for row in rows)


def test_skewed_batches_hold_the_same_rows(bench):
    skew, even = (skewed.batches(bench)[name] for name in ("skewed", "even"))
    assert torch.equal(skew.input_ids, even.input_ids)
    counts = Counter(skew.cells)
    assert max(counts.values()) == skewed.LARGE
    assert len(counts) == len(set(even.cells)) == skewed.LANGUAGES
    assert len(skew.cells) == skewed.LARGE + skewed.OTHERS
    assert set(Counter(even.cells).values()) == {80}


def test_adding_a_language_trains_what_it_says_and_nothing_else(bench):
    row = bench.languages.index(adding.new_language(bench).language)
    for name, (method, trained) in adding.TRAINED.items():
        model = adding.model(bench, method, trained)
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        steps.Step(bench, model, adding.batches(bench))()
        after = dict(model.named_parameters())
        moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
        assert moved, name
        assert all(key.startswith(trained) for key in moved), name
        if name == "its vector alone (hyperx)":
            (table,) = moved
            changed = (before[table] != after[table]).any(dim=1).nonzero().flatten()
            assert changed.tolist() == [row]
            assert adding.parameters(model, method) == 64


def test_the_peak_of_a_step_is_exact(bench):
    step = steps.Step(bench, bench.model("adapters"), bench.batches(steps.CELLS[:1]))
    first = memory.peak(bench, step)
    assert first == memory.peak(bench, step)
    assert first > memory.kept(step) > memory.size(step.model.parameters())


def test_base_hyper_x_is_measured_on_a_random_encoder(bench):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    encoder = gpu.encoder(bench.device, **sizes, intermediate_size=64)
    (row,) = gpu.training(bench, encoder, sentences=2)  # a CPU's peak is not known
    assert row.details["tokens_per_second"].keys() == {"hypernetwork", "ordinary adapters"}
    for named in row.details["kernel_milliseconds"].values():
        assert len(named) == gpu.COSTLIEST
        assert all(spent > 0 for spent in named.values())
    assert gpu.device_peak("NVIDIA H100 80GB HBM3") == pytest.approx(989.4e12)
    assert gpu.device_peak("another") is None


def test_kernels_are_told_from_what_launches_them():
    def event(key, device, milliseconds, annotation=False):
        return SimpleNamespace(
            key=key,
            device_type=device,
            is_user_annotation=annotation,
            self_device_time_total=1000 * milliseconds if device is DeviceType.CUDA else 0,
            self_cpu_time_total=0 if device is DeviceType.CUDA else 1000 * milliseconds,
        )

    long = "void at::native::multi_tensor_apply_kernel" + "<" * 80
    events = [
        event("cudaLaunchKernel", DeviceType.CPU, 50),
        event("step", DeviceType.CUDA, 60, annotation=True),
        event(f"{long} adamw", DeviceType.CUDA, 3),
        event(f"{long} norm", DeviceType.CUDA, 2),
        event(f"{long} norm", DeviceType.CUDA, 2),
    ]
    assert gpu.costliest(events, cuda=True) == {f"{long} norm": 4, f"{long} adamw": 3}
    assert gpu.costliest(events[:1], cuda=False) == {"cudaLaunchKernel": 50}


def test_languages_are_codes_that_models_take():
    listed = languages.codes(30)
    assert len(set(listed)) == 30
    assert listed[:4] == [cell.language for cell in steps.CELLS]
