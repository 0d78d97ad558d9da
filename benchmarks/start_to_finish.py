"""Start to finish: the seconds of `make reproduce`, from the command to its end, and where they go.

out: rows of results.json: seconds of each part beside the whole of the run that it was timed in; the share that
     measuring takes of training and measuring. One run with W&B as it comes, one with logger=none, each a process

    python benchmarks/start_to_finish.py [SEED]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from side_by_side import Row, record, row

from taskcluster.runs.folder import RunFolder

GOAL = 45.0  # seconds
LOGGERS = {"wandb": "as it comes", "none": "logger=none"}
Seconds = dict[str, float]


def traced(began: float, arguments: list[str]) -> Seconds:
    """`taskcluster-train ARGUMENTS` here, begun at a time of the machine's clock; the seconds of its parts."""
    from taskcluster import train
    from taskcluster.training.callbacks import CheckpointCallback
    from taskcluster.training.experiment import Experiment

    spent: Seconds = {}

    def time_it(place: Any, name: str, part: str) -> None:
        work: Callable[..., Any] = getattr(place, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.monotonic()
            try:
                return work(*args, **kwargs)
            finally:
                spent[part] = spent.get(part, 0) + time.monotonic() - started

        setattr(place, name, timed)

    fit = Experiment.fit

    def fitted(*args: Any) -> None:
        spent["start"] = time.monotonic() - began
        fit(*args)
        spent["training and measuring"] = time.monotonic() - began - spent["start"]
        started = time.monotonic()
        from taskcluster.training import figures, recording

        spent["imports of charts and t-SNE"] = time.monotonic() - started
        time_it(recording, "_add_controls", "noise and other controls")
        time_it(figures, "write_tsne", "t-SNE")
        time_it(figures, "draw", "figures")

    Experiment.fit = fitted  # type: ignore[method-assign]
    time_it(CheckpointCallback, "_save", "saving checkpoints")
    time_it(RunFolder, "append", "journaling")
    sys.argv = ["taskcluster-train", *arguments]
    try:
        train.main()
    except SystemExit as ended:
        if ended.code:
            raise
    return spent


def parts(seed: str, logger: str) -> Seconds:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        arguments = [f"seed={seed}", "hydra.run.dir=run", *(["logger=none"] if logger == "none" else [])]
        command = [sys.executable, str(Path(__file__).resolve()), "--one", str(began), *arguments]
        printed = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
        whole = time.monotonic() - began
        found: Seconds = json.loads(printed.splitlines()[-1])
        found["measuring"] = sum(line["measuring"] for line in RunFolder(Path(folder) / "run").rows())
        return {"whole": whole, **found}


def main(seed: str) -> None:
    rows: list[Row] = []
    for logger, said in LOGGERS.items():
        found = parts(seed, logger)
        whole, fit = found["whole"], found["training and measuring"]
        beside = [(part, whole, "the whole run") for part in found if part != "whole"]
        beside += [("whole", GOAL, "the goal"), ("measuring", fit, "training and measuring")]
        for part, other, name in beside:
            title, share = f"the default run, {said}: {part}", found[part] / other
            rows.append(row(title, found[part], other, name, "s", share=share))
    record(rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(traced(float(sys.argv[2]), sys.argv[3:])))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "0")
