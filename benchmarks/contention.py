"""Measuring beside training: an update and a measurement of the default run in two processes, alone and at once.

in:  the run folder of `make reproduce`
out: rows of results.json: seconds of UPDATES updates and MEASUREMENTS measurements, at once beside one after the other,
     with two threads a process and with one, and for several times that a waiting thread spins (GOMP_SPINCOUNT; the
     default of the OpenMP that torch comes with is 300,000 on an idle machine)

    python benchmarks/contention.py outputs/reproduce/seed=0
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from side_by_side import record, row

UPDATES = 40
MEASUREMENTS = 1
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "two threads": {},
    "two threads, spinning 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}

Prepared = Callable[[], None]


def training(folder: Path) -> Prepared:
    import pytorch_lightning as pl
    import torch

    from taskcluster import load_run
    from taskcluster.data.datamodule import TrainingBatches
    from taskcluster.training.experiment import OURS, language_model

    run = load_run(folder)
    trainer = pl.Trainer(accelerator="cpu", **OURS)
    batches = TrainingBatches(run.data.train_rows, run.data.n_rows, run.data.loss_on, 0, trainer)
    optimizer = language_model(run.config, run.data, run.network.train()).configure_optimizers()["optimizer"]
    drawn = [batches[step] for step in range(UPDATES)]

    def update() -> None:
        for batch in drawn:
            optimizer.zero_grad()
            batch.loss(run.network(**batch.inputs).logits).backward()
            torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
            optimizer.step()

    return update


def measuring(folder: Path) -> Prepared:
    from taskcluster import load_run

    run = load_run(folder)
    middle = run.run.rows()[len(run.run.rows()) // 2]["step"]
    run.go_to(middle)

    def measure() -> None:
        for _ in range(MEASUREMENTS):
            run.measurement(run.network, middle, last=False)

    return measure


def timed(prepare: Callable[[Path], Prepared], folder: Path, ready, go, seconds) -> None:  # type: ignore[no-untyped-def]
    from taskcluster.training.progress import quieten

    quieten()
    work = prepare(folder)
    ready.release()
    go.wait()
    started = time.perf_counter()
    work()
    seconds.put(time.perf_counter() - started)


def at_once(folder: Path, *prepared: Callable[[Path], Prepared]) -> float:
    """Seconds until the last of the processes is done, which start together."""
    start = multiprocessing.get_context("spawn")
    ready, go, seconds = start.Semaphore(0), start.Event(), start.Queue()
    processes = [start.Process(target=timed, args=(prepare, folder, ready, go, seconds)) for prepare in prepared]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    found = [seconds.get() for _ in processes]
    for process in processes:
        process.join()
    return max(found)


def main(folder: Path) -> None:
    rows = []
    for name, environment in SETTINGS.items():
        os.environ.update(environment)
        train, measure = at_once(folder, training), at_once(folder, measuring)
        both = at_once(folder, training, measuring)
        rows.append(row(f"training and measuring at once, {name}", both, train + measure, "one after the other", "s",
                        training=train, measuring=measure))  # fmt: skip
        for key in environment:
            del os.environ[key]
    record(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
