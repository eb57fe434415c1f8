"""Where to compute, in which precision, and what results depend on."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

import hyperlect
from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.hardware import (
    arithmetic,
    choose_device,
    deterministic,
    free_memory,
    processor,
    version_changes,
    versions,
)


def set_available(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_first_device_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    set_available(monkeypatch, cuda, mps)
    assert choose_device() == choose_device("auto") == chosen


def test_a_device_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    set_available(monkeypatch, cuda=True, mps=True)
    assert [choose_device(name) for name in ("cpu", "mps", "cuda")] == ["cpu", "mps", "cuda"]


def test_an_absent_or_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_available(monkeypatch, cuda=False, mps=True)
    with pytest.raises(HyperlectError, match=r'"cuda".*mps, cpu'):
        choose_device("cuda")
    with pytest.raises(UnknownNameError, match=r'"cdua".*"cuda"'):
        choose_device("cdua")


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
@pytest.mark.parametrize(
    ("precision", "inside"), [("fp32", "highest"), ("tf32", "high"), ("bf16", "highest")]
)
def test_the_precision_of_matrix_products_is_set_and_restored(
    precision: Any, inside: str, before: str
) -> None:
    outside = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with arithmetic("cpu", precision):
            assert torch.get_float32_matmul_precision() == inside
            with arithmetic("cpu", "tf32"):
                assert torch.get_float32_matmul_precision() == "high"
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == before
        with pytest.raises(KeyboardInterrupt), arithmetic("cpu", precision):
            raise KeyboardInterrupt
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(outside)


def test_bf16_is_autocast_and_the_others_are_not() -> None:
    linear, inputs = torch.nn.Linear(5, 3), torch.randn(4, 5)
    plain = linear(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = linear(inputs)
    assert rounded.dtype is torch.bfloat16
    with arithmetic("cpu", "bf16"):
        assert torch.equal(linear(inputs), rounded)
        with arithmetic("cpu", "fp32"):  # exact, whatever is set outside
            assert torch.equal(linear(inputs), plain)
        assert torch.equal(linear(inputs), rounded)
    with arithmetic("cpu", "tf32"):
        assert torch.equal(linear(inputs), plain)
    assert torch.equal(linear(inputs), plain)


def test_versions_name_everything_that_a_result_depends_on() -> None:
    now = versions("cpu", "bf16", processes=2)
    assert now["hyperlect"] == hyperlect.__version__
    assert now["torch"] == torch.__version__
    assert {"transformers", "accelerate", "datasets", "tokenizers", "python", "platform"} <= set(
        now
    )
    assert (now["processes"], now["precision"]) == ("2", "bf16")
    assert now["threads"] == str(torch.get_num_threads())
    assert now["device"] == f"cpu: {processor()}, {torch.backends.cpu.get_cpu_capability()}"
    assert processor()


def test_changes_of_hardware_and_libraries_are_named() -> None:
    now = versions("cpu", "fp32")
    assert version_changes(now, now) == []
    assert version_changes({**now, "platform": "another"}, now) == []
    assert version_changes({}, now) == []  # entries of only one of them are not changes
    changes = version_changes({**now, "device": "cuda: Some GPU", "torch": "1.0"}, now)
    torch_now, device = changes
    assert torch_now == f"torch {now['torch']} (before: 1.0)"
    assert device == f"device {now['device']} (before: cuda: Some GPU)"


def test_versions_name_the_source_and_what_is_set_for_arithmetic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("UNRELATED", "1")
    now = versions("cpu", "fp32")
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in now["environment"].split()
    assert "UNRELATED" not in now["environment"]
    assert len(now["source"]) == 12


def test_deterministic_arithmetic_holds_inside_the_block_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_earlier_versions_called_fp32_no() -> None:
    now = versions("cpu", "fp32")
    assert version_changes({**now, "precision": "no"}, now) == []
    assert version_changes({**now, "precision": "no"}, {**now, "precision": "bf16"})


def test_free_memory_is_some_of_the_machine() -> None:
    assert 2**20 < free_memory("cpu") < 2**50
