"""Signals: at once, after the step, twice, and handed on to whoever had them before."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from taskcluster.processes import interrupts
from taskcluster.processes.interrupts import Interrupted, Interrupts


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    sum(range(1_000))  # somewhere here the signal is delivered


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    yield
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR2, 143)])
def test_a_signal_raises_at_once(number: signal.Signals, code: int) -> None:
    with pytest.raises(Interrupted, match=number.name) as interrupted, Interrupts():
        send(number)
        pytest.fail("went on")
    assert interrupted.value.exit_code == code


def test_a_deferred_signal_waits_for_the_end() -> None:
    reached = []
    with pytest.raises(Interrupted, match="SIGTERM"), Interrupts() as listening:  # noqa: SIM117
        with listening.deferred():
            send(signal.SIGTERM)
            send(signal.SIGINT)  # what a terminal sends beside
            assert listening.received == signal.SIGTERM
            reached.append("end")
    assert reached == ["end"]


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "GRACE", 0.0)
    with pytest.raises(Interrupted), Interrupts() as listening, listening.deferred():
        send(signal.SIGINT)
        time.sleep(0.01)
        send(signal.SIGINT)
        pytest.fail("went on")


def test_who_had_the_signal_before_is_told_afterwards() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    try:
        with pytest.raises(Interrupted), Interrupts():
            send(signal.SIGUSR2)
        assert told == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
