"""Signals: the first asks, a second Ctrl-C does not wait."""

from __future__ import annotations

import signal
import threading

import pytest

from hyperlect.training import make_accelerator
from hyperlect.training.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    accelerator = make_accelerator("cpu", "fp32")
    with StopRequest() as stop:
        assert not stop.agreed(accelerator)
        signal.raise_signal(number)
        assert stop.agreed(accelerator)
    assert signal.getsignal(number) is before


def test_the_second_interrupt_is_immediate() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_waits_however_often_it_comes() -> None:
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop.asked


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="broken"), StopRequest():
        raise ValueError("broken")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with StopRequest() as stop:
                assert not stop.asked
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
