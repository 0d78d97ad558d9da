"""Start the processes of a run: torchrun or srun started them already, or, with trainer=ddp alone, torch's launcher
does.

in:  the configuration of the trainer, and the environment
out: one call of a function in each process; a process that fails ends all of them, and its exception is raised here

Free of torch until processes have to be started.
"""

import logging
import multiprocessing
import os
import pickle
import pkgutil
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from taskcluster.config import Trainer
from taskcluster.operations.processes import streams
from taskcluster.operations.processes.interrupts import Interrupted, Interrupts, ends_the_run, heeded
from taskcluster.validation import UserError

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

SECONDS_TO_SAVE = 60  # after a signal, before the processes are killed
BLAME = 5.0  # seconds that a process which lost another one waits, so that the other's failure is seen first


def launcher() -> str:
    """Return what started this process as one of several: "torchrun", "srun" or ""."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
        return "torchrun"
    return "srun" if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else ""


def rank() -> int:
    """Return this process's rank in the run; rank 0 writes."""
    return int(os.environ.get({"torchrun": "RANK", "srun": "SLURM_PROCID"}.get(launcher(), ""), 0))


def cluster_environment() -> "ClusterEnvironment":
    """What tells Lightning which of the processes this one is. Raises UserError."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    try:
        if launcher() == "srun":
            return SLURMEnvironment(auto_requeue=False)
        return TorchElasticEnvironment() if launcher() else LightningEnvironment()
    except RuntimeError as error:
        raise UserError(" ".join(str(error).split())) from error


def missing_processes(trainer: Trainer) -> int:
    """The number of processes to start for a run: 1 if this process trains it, alone or beside those of a launcher.

    Raises UserError for several nodes without a launcher.
    """
    if launcher():
        return 1
    if trainer.num_nodes != 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}, but this process was started alone; start the same command on "
            "every node with torchrun, srun or hydra/launcher=submitit_slurm (see docs/run_elsewhere.md), or leave "
            "trainer.num_nodes out"
        )
    if trainer.devices in ("auto", "-1", -1) and trainer.accelerator != "cpu":
        import torch

        return max(1, torch.accelerator.device_count())
    if isinstance(trainer.devices, list):
        return len(trainer.devices)
    return max(1, int(str(trainer.devices))) if str(trainer.devices).isdecimal() else 1


def launch(target: str, n: int, *arguments: object) -> None:
    """Call a function, given as "module:name", in n processes of this machine, which share its threads.

    The first process that fails ends the others. Raises what it raised, ChildProcessError if it was killed, and
    Interrupted for a signal to this process, once the others have saved and ended.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from taskcluster.operations.processes.group import untouched

    log = logging.getLogger("torch.distributed.elastic")
    log.propagate, log.handlers = False, [logging.NullHandler()]
    with TemporaryDirectory() as folder, untouched():
        os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // n))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle=",".join(number.name for number in heeded() if ends_the_run(number)),
            shutdown_timeout=SECONDS_TO_SAVE,
        )
        method = multiprocessing.get_start_method(allow_none=True)
        multiprocessing.set_start_method("spawn", force=True)  # which the processes inherit: they do not know joblib's
        try:
            elastic_launch(config, _work)(folder, target, arguments)
        except SignalException as signal:
            raise Interrupted(signal.sigval) from None
        except ChildFailedError as failed:
            number, failure = failed.get_first_failure()
            if (raised := Path(folder, str(number))).is_file():
                raise pickle.loads(raised.read_bytes()) from None
            code = failure.exitcode
            how = f"was killed by {failure.signal_name()}" if code < 0 else f"ended with exit code {code}"
            raise ChildProcessError(f"process {number} of the run {how}") from None
        finally:
            multiprocessing.set_start_method(method, force=True)


def _work(folder: str, target: str, arguments: tuple[object, ...]) -> None:
    """In each of the processes: leave the exception, if one is raised, in a file of `folder`."""
    streams.guard()
    try:
        with Interrupts():
            pkgutil.resolve_name(target)(*arguments)
    except BaseException as error:
        from taskcluster.operations.processes.group import lost_connection

        if lost_connection(error):
            time.sleep(BLAME)
        error.add_note(traceback.format_exc())
        Path(folder, os.environ["RANK"]).write_bytes(pickle.dumps(error))
        sys.exit(1)
