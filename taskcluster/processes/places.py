"""Which process of a run this one is: read from the variables of whatever started it, or refused. Free of torch.

in:  the environment: torchrun's variables, those of a step of Slurm, or neither
out: Place: rank, number of processes, and where the first of them is met
"""

import os
import socket
from collections.abc import Mapping
from typing import NamedTuple

from taskcluster.validation import UserError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SRUN = (
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NUM_NODES",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


class Place(NamedTuple):
    """rank: of all processes, 0 the one that writes; local_rank: of those on this machine; n_nodes: machines, 0 where
    that is unknown. launcher: torchrun or srun; "" for a process that was started alone, which starts the others.
    address, port: where rank 0 is met; port 0 for one that it chooses. meeting: name of the file that tells the others
    which, "" where they know. agent: whether torchrun itself answers there.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    n_nodes: int = 1
    launcher: str = ""
    address: str = "127.0.0.1"
    port: int = 0
    meeting: str = ""
    agent: bool = False


ALONE = Place()


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """This process's place. Variables count only where all of a launcher's are there and name several processes: single
    ones are left over from somewhere else. Raises UserError where they contradict each other.
    """
    if all(environment.get(name) for name in TORCHRUN):
        return _of_torchrun(environment)
    if all(environment.get(name) for name in SRUN):
        return _of_srun(environment)
    return ALONE


def of_srun(environment: Mapping[str, str] = os.environ) -> Place:
    """The same by Slurm's variables alone."""
    return _of_srun(environment) if all(environment.get(name) for name in SRUN) else ALONE


def refuse_other_world(place: Place, n_devices: int, n_nodes: int) -> None:
    """Raise UserError unless the configured processes are those that there are, or that can be started here."""
    configured = f"trainer.devices={n_devices} and trainer.num_nodes={n_nodes}"
    if not place.launcher and n_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={n_nodes}, but this process was started alone; start the same command on every node "
            "with torchrun, srun or hydra/launcher=submitit_slurm (see docs/engines.md), or leave trainer.num_nodes out"
        )
    nodes = place.n_nodes or n_nodes
    if place.launcher and (place.world_size, nodes) != (n_devices * n_nodes, n_nodes):
        raise UserError(
            f"{configured} do not match the {place.world_size} processes on {nodes} node(s) that {place.launcher} "
            f"starts; choose trainer=ddp trainer.devices={place.world_size // nodes} trainer.num_nodes={nodes}, or "
            f"start the command alone, without {place.launcher} and its variables"
        )
    if place.launcher and place.local_rank >= n_devices:
        raise UserError(
            f"{place.launcher} starts more than trainer.devices={n_devices} processes on one node; start as many "
            "on each"
        )


def _of_torchrun(environment: Mapping[str, str]) -> Place:
    rank, local, world, port = _numbers(environment, "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
    address = environment["MASTER_ADDR"]
    if world == 1 and rank == 0:
        return ALONE
    if not 0 <= local <= rank < world or not 0 < port < 2**16:
        said = ", ".join(f"{name}={environment[name]}" for name in TORCHRUN)
        raise UserError(f"{said} contradict each other; unset them, or start the run with torchrun")
    n_nodes = environment.get("GROUP_WORLD_SIZE", "")
    try:
        socket.getaddrinfo(address, port)
    except OSError as error:
        raise UserError(f"MASTER_ADDR={address!r} cannot be resolved ({error.strerror}); correct it") from None
    agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place(rank, local, world, int(n_nodes) if n_nodes.isdecimal() else 0, "torchrun", address, port, agent=agent)


def _of_srun(environment: Mapping[str, str]) -> Place:
    world, n_nodes, rank, local = _numbers(environment, *SRUN[2:])
    if world <= 1:
        return ALONE
    if not 0 <= local <= rank < world:
        said = ", ".join(f"{name}={environment[name]}" for name in SRUN)
        raise UserError(f"{said} contradict each other; start the run with srun")
    attempt = environment.get("SLURM_RESTART_COUNT", "0")
    step = f"{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}.{attempt}"
    return Place(rank, local, world, n_nodes, "srun", socket.gethostname(), meeting=f".meeting-{step}")


def _numbers(environment: Mapping[str, str], *names: str) -> list[int]:
    for name in names:
        if not environment[name].isdecimal():
            raise UserError(
                f"{name}={environment[name]!r} is not a number; unset it, or start the run with its launcher"
            )
    return [int(environment[name]) for name in names]
