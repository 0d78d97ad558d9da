"""Signals: at once, after the step, twice, and handed on to the handler before."""

import os
import signal
import time

import pytest

from taskcluster.operations.processes import interrupts
from taskcluster.operations.processes.interrupts import Interrupted, Interrupts


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    sum(range(1_000))  # somewhere here the signal is delivered


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_raises_at_once(number: signal.Signals, code: int) -> None:
    with pytest.raises(Interrupted, match=number.name) as interrupted, Interrupts():
        send(number)
        pytest.fail("continued")
    assert interrupted.value.exit_code == code


def test_a_deferred_signal_waits_for_the_end() -> None:
    reached = []
    with pytest.raises(Interrupted, match="SIGTERM"), Interrupts() as listening:  # noqa: SIM117
        with listening.deferred():
            send(signal.SIGTERM)
            send(signal.SIGINT)  # which a terminal sends as well
            assert Interrupts.current.received == signal.SIGTERM
            reached.append("end")
    assert reached == ["end"]


def test_work_that_can_be_dropped_ends_at_once() -> None:
    with pytest.raises(Interrupted), Interrupts() as listening, listening.deferred(), listening.deferred(False):
        send(signal.SIGTERM)
        pytest.fail("continued")


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "GRACE", 0.0)
    with pytest.raises(Interrupted), Interrupts() as listening, listening.deferred():
        send(signal.SIGINT)
        time.sleep(0.01)
        send(signal.SIGINT)
        pytest.fail("continued")


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interrupts():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_previous_handler_is_called_afterwards_so_that_slurm_requeues() -> None:
    requeued: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: requeued.append(number))
    try:
        with pytest.raises(Interrupted), Interrupts():
            send(signal.SIGUSR2)
        assert requeued == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_sigterm_ends_no_job_on_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    with Interrupts() as listening:
        send(signal.SIGTERM)
        assert listening.received == signal.SIGTERM
