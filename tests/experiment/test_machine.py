from __future__ import annotations

import pytest

from hyperlect.experiment import machine as module
from hyperlect.experiment.machine import slots, visible_gpus


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def there(number: int) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: number)

    monkeypatch.setattr(module, "cores", lambda: 8)
    return there


def test_threads_are_divided(gpus) -> None:  # type: ignore[no-untyped-def]
    gpus(0)
    assert slots(None, "auto", {}) == [{"OMP_NUM_THREADS": "8"}]
    assert slots(3, "cpu", {}) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert slots(20, "cpu", {})[0] == {"OMP_NUM_THREADS": "1"}
    assert slots(2, "cpu", {"OMP_NUM_THREADS": "5"}) == [{}, {}]


def test_one_process_a_gpu(gpus) -> None:  # type: ignore[no-untyped-def]
    gpus(2)
    own = {"OMP_NUM_THREADS": "1"}
    assert slots(None, "auto", own) == [{"CUDA_VISIBLE_DEVICES": n} for n in "01"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in slots(3, "cuda", own)] == ["0", "1", "0"]
    assert slots(None, "cpu", own) == [{}]


def test_only_the_gpus_that_were_given(gpus) -> None:  # type: ignore[no-untyped-def]
    gpus(2)
    given = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "3, GPU-ab"}
    assert visible_gpus(given) == ["3", "GPU-ab"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in slots(None, "auto", given)] == ["3", "GPU-ab"]


def test_a_single_gpu_needs_no_variable(gpus) -> None:  # type: ignore[no-untyped-def]
    gpus(1)
    assert slots(2, "auto", {"OMP_NUM_THREADS": "1"}) == [{}, {}]
