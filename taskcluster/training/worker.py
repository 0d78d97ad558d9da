"""A further process of a run that has several: the first one sends it the configuration."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from taskcluster import imports, streams
from taskcluster.processes.interrupts import AT_ONCE, Interrupted, Interrupts
from taskcluster.processes.places import Place


def main() -> None:
    """One that process 0 has started, on the same machine."""
    streams.guard()
    rank, world_size, port, parent = map(int, sys.argv[1:])
    place = Place(rank, rank, world_size, 1, "process 0", port=port)
    try:
        with Interrupts() as interrupts:
            sys.exit(follow(place, Path(), interrupts, abandoned=lambda: os.getppid() != parent))
    except Interrupted as signal:
        sys.exit(signal.exit_code)
    except ConnectionError:
        sys.exit(1)


def follow(place: Place, folder: Path, interrupts: Interrupts, abandoned: Callable[[], bool] = lambda: False) -> int:
    """Train along with process 0, which writes and says all there is to say; gives the exit code.

    Raises ConnectionError where it cannot be found.
    """
    with interrupts.deferred(AT_ONCE), imports.large():
        import torch.distributed as dist

        from taskcluster.config import RunConfig
        from taskcluster.measures.measure import MeasureFailed
        from taskcluster.models.training_module import TrainingDiverged
        from taskcluster.processes.following import come, taking_part
        from taskcluster.processes.meeting import is_of_a_connection, wait_for
        from taskcluster.runs.folder import RunFolder
        from taskcluster.training.experiment import Experiment
        from taskcluster.training.progress import quieten
        from taskcluster.validation import UserError

    quieten()
    meeting = come(place, folder, abandoned)
    try:
        with taking_part(meeting, interrupts):
            task = wait_for(meeting, "task")
            if "exit_code" in task:
                return int(task["exit_code"])
            with interrupts.deferred(AT_ONCE):
                config, run = RunConfig.of(task["config"]), RunFolder(Path(task["folder"]))
                experiment = Experiment(config, run, interrupts, place)
            checkpoint = task["checkpoint"] and Path(task["checkpoint"])
            if checkpoint and not checkpoint.is_file():
                raise UserError(f"{checkpoint} is not there; put the run on a file system shared by all nodes")
            meeting.tell(f"ready/{place.rank}")
            wait_for(meeting, "go")
            meeting.make_group(experiment.trainer.strategy.root_device)
            experiment.fit(checkpoint, task["measured"])
    except UserError:
        return 2
    except (TrainingDiverged, MeasureFailed):
        return 1
    except Exception as error:
        if not is_of_a_connection(error):
            traceback.print_exc()
        return 1
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    main()
