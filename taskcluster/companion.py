"""A further process of a run that has several: it is told on standard input what the first one trains."""

import json
import sys
from pathlib import Path

from taskcluster import terminal
from taskcluster.experiment import Experiment
from taskcluster.interrupts import Interrupted, Interrupts
from taskcluster.model import TrainingDiverged
from taskcluster.progress import quieten
from taskcluster.runs import RunFolder


def main() -> None:
    terminal.guard()
    task = json.load(sys.stdin)
    quieten()
    try:
        with Interrupts() as interrupts:
            experiment = Experiment(task["config"], RunFolder(Path(task["folder"])), interrupts)
            experiment.fit(task["checkpoint"] and Path(task["checkpoint"]), task["measured"])
    except Interrupted as signal:
        sys.exit(signal.exit_code)
    except TrainingDiverged:
        sys.exit(1)  # the first process says so


if __name__ == "__main__":
    main()
