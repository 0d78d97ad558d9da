"""The command line around Hydra: where the configuration lies, how runs are named, and how mistakes are reported."""

import hashlib
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taskcluster import terminal
from taskcluster.interrupts import AT_ONCE, Interrupted, Interrupts

PACKAGE = Path(__file__).parent
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())  # in a wheel, in a checkout

# Overrides that do not change what is studied.
NOT_A_CONDITION = {"seed", "name", "logger", "resume", "experiment"}
LONGEST_NAME = 120

# Keys of paths, with a value that Hydra would not read: our folders hold equals signs, which it takes in quotes alone.
PATH_KEYS = re.compile(r"^(ckpt_path|hydra\.(?:run|sweep)\.dir)=([^'\"$]*=.*)$")


class Reported(Exception):
    """The job failed, and its user is told why in one sentence: "" where another process says it."""

    def __init__(self, exit_code: int, sentence: str) -> None:
        super().__init__(exit_code, sentence)
        self.exit_code, self.sentence = exit_code, sentence


class Job:
    """What Hydra is given to run, here or in other processes: gives an exit code and never fails with an exception,
    since launchers would answer one each in its own way.

    exit_code: 0, that of a Reported failure, 1 for a failure that nobody foresaw, whose traceback is printed, or that
    of a signal, after which this process begins no other job.
    """

    stopped = 0  # the exit code of the signal that ended a job of this process

    def __init__(self, train: Callable[[DictConfig], None]) -> None:
        self._train = train
        self.exit_code = 0

    def __call__(self, cfg: DictConfig) -> int:
        terminal.guard()  # a launcher may have started this process
        self.exit_code = Job.stopped or self._attempt(cfg)
        return self.exit_code

    def _attempt(self, cfg: DictConfig) -> int:
        try:
            self._train(cfg)
        except Reported as failure:
            if failure.sentence:
                report(failure.sentence)
            return failure.exit_code
        except Interrupted as interruption:
            Job.stopped = interruption.exit_code
            return interruption.exit_code
        except Exception:
            traceback.print_exc()
            return 1
        return 0


def run(train: Callable[[DictConfig], None]) -> None:
    """Run `train` under Hydra, once or as a multirun. Exit code 2 for a user's mistake, said in one sentence.

    `train` raises Reported for the failures that it foresees, and Interrupted after a signal.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    os.environ.setdefault("WANDB_SILENT", "true")  # read when wandb is first imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as are these by ray: it would report to its makers,
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # leave out lines of a job that look like another's,
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # colour what is not a terminal,
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # and warn that it will not hide GPUs one day
    terminal.guard()
    job = Job(train)
    try:
        _check_flags(sys.argv[1:])
        sys.argv[1:] = [PATH_KEYS.sub(_quoted, argument) for argument in sys.argv[1:]]
        with Interrupts() as interrupts, interrupts.deferred(AT_ONCE):
            hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(job)()
        _end_as_signalled(job.exit_code)
        sys.exit(job.exit_code)
    except Reported as failure:
        if failure.sentence:
            report(failure.sentence)
        sys.exit(failure.exit_code)
    except Interrupted as interruption:
        sys.exit(interruption.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        report(_sentence(error))
        sys.exit(2)
    except RuntimeError as error:
        if "Unknown plugin class" not in str(error):
            raise
        report("this launcher is not installed; see the README for what hydra/launcher=ray and submitit_slurm need")
        sys.exit(2)
    except OSError as error:  # Hydra could not make the folder
        report(f"{error.filename}: {error.strerror}; choose another folder with hydra.run.dir= or hydra.sweep.dir=")
        sys.exit(2)


def _end_as_signalled(exit_code: int) -> None:
    """Under W&B's agent, end by the signal itself: a trial that it stopped would count as a failure, and five of those
    end the agent.
    """
    if exit_code == 128 + signal.SIGTERM and os.environ.get("WANDB_SWEEP_ID"):
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def composed(*overrides: str) -> Any:
    """The resolved configuration of `taskcluster-train OVERRIDES`."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)


def report(sentence: str) -> None:
    print(f"taskcluster-train: {sentence}", file=sys.stderr, flush=True)


def run_folder(seed: Any, overrides: Sequence[str]) -> str:
    """`CONDITION/seed=SEED`, the condition being the overrides that change what is studied, in one order."""
    condition = ",".join(sorted(o for o in overrides if o.lstrip("+~").split("=")[0] not in NOT_A_CONDITION))
    condition = re.sub(r"[^\w.,=+~@-]", "_", condition)
    if len(condition) > LONGEST_NAME:
        digest = hashlib.sha256(condition.encode()).hexdigest()[:8]
        condition = f"{condition[:LONGEST_NAME]}~{digest}"
    return f"{condition}/seed={seed}".lstrip("/")


def from_wandb(name: str, default: str | None = None) -> str | list[str] | None:
    """What W&B's environment variable asks for: WANDB_TAGS is a list, and an empty variable asks for nothing."""
    value = os.environ.get(f"WANDB_{name}", "")
    if name == "TAGS":
        return [tag.strip() for tag in value.split(",") if tag.strip()]
    return value or default


# On import: processes that a launcher starts need all. (Hydra checks conf/hydra/launcher against what the plugins
# register under those names, and warns that it does.)
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("wandb", from_wandb, replace=True)
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against", UserWarning)


def _quoted(path: re.Match[str]) -> str:
    escaped = path[2].replace("'", "\\'")
    return f"{path[1]}='{escaped}'"


def _check_flags(arguments: Sequence[str]) -> None:
    """argparse would answer an unknown flag with all of its usage."""
    from hydra._internal.utils import get_args_parser  # the only list of Hydra's flags

    flags = [flag for action in get_args_parser()._actions for flag in action.option_strings]
    for argument in arguments:
        flag = argument.split("=")[0]
        if flag.startswith("--") and flag not in flags:
            from taskcluster.validation import did_you_mean

            raise Reported(2, f"{flag} is not an option{did_you_mean(flag, flags)}; see --help")


def _sentence(error: Exception) -> str:
    from taskcluster.validation import did_you_mean

    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return (
            f"{group}={option} is not an option of {group}{did_you_mean(option, error.options)}; choose from "
            + ", ".join(error.options)
        )
    first = str(error).split("\n")[0]
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read ({first}); check its brackets and quotes"
    if found := re.search(r"Could not override '([^'@]+)", first):
        key = found[1]
        return f"{key} is not a key of the configuration{_nearest_key(key)}; --cfg job shows all"
    return " ".join(first.split())


def _nearest_key(key: str) -> str:
    """A hint at the key of the default configuration that looks most like this one, whole or by its last part."""
    from taskcluster.validation import did_you_mean

    keys = list(_dotted(composed()))
    siblings = {k.rpartition(".")[2]: k for k in keys}
    hint = did_you_mean(key, keys)
    last = did_you_mean(key.rpartition(".")[2], siblings)
    return hint or re.sub(r"'(.+)'", lambda m: repr(siblings[m[1]]), last)


def _dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
