"""The command line around Hydra: how a run or a multirun is started, and how mistakes are reported."""

import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from taskcluster import __version__, environment, streams
from taskcluster.arguments import arranged, say
from taskcluster.processes.interrupts import Interrupted, Interrupts
from taskcluster.runs.condition import run_folder
from taskcluster.runs.exported import follow
from taskcluster.runs.options import CONF
from taskcluster.validation import UserError, did_you_mean

COMMAND = "TASKCLUSTER_COMMAND"  # set in the environment where another command becomes this one
TRAIN = os.environ.get(COMMAND, "taskcluster-train")  # in whose name mistakes are reported

PLAIN = ("name", "resume", "ckpt_path", "seed", "seeds")  # keys of train.yaml that are no groups

# What a user can do wrong before the first run begins.
MISTAKES = (HydraException, OmegaConfBaseException, UserError, yaml.YAMLError, ValueError, OSError, RecursionError)


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

    program: the command that it belongs to, in whose name mistakes are reported.
    """

    stopped = 0  # the exit code of the signal that ended a job of this process

    def __init__(self, work: Callable[[DictConfig], None], program: str = TRAIN) -> None:
        self._work, self._program = work, program
        self.exit_code = 0

    def __call__(self, cfg: DictConfig) -> int:
        streams.guard()  # a launcher may have started this process
        self.exit_code = Job.stopped or self._attempt(cfg)
        return self.exit_code

    def _attempt(self, cfg: DictConfig) -> int:
        try:
            self._work(cfg)
        except Reported as failure:
            if failure.sentence:
                say(self._program, failure.sentence)
            return failure.exit_code
        except Interrupted as interruption:
            Job.stopped = interruption.exit_code
            return interruption.exit_code
        except (OmegaConfBaseException, UserError) as mistake:
            say(self._program, sentence(mistake))
            return 2
        except Exception:
            traceback.print_exc()
            return 1
        return 0


def run(train: Callable[[DictConfig], None]) -> None:
    """Run `train` under Hydra, once or as a multirun. Exit code 2 for a user's mistake, said in one sentence.

    `train` raises Reported for the failures that it foresees, and Interrupted after a signal.
    """
    environment.prepare()
    job = Job(train)
    with answering(TRAIN):
        sys.argv[1:] = _arranged(sys.argv[1:])
        with Interrupts():
            hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(job)()
        _end_as_signalled(job.exit_code)
        sys.exit(job.exit_code)


@contextmanager
def answering(program: str) -> Iterator[None]:
    """A context in which Hydra runs, and out of which come only exit codes: 2 for a user's mistake, said in one
    sentence, that of a Reported failure, or that of a signal."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    os.environ.setdefault("WANDB_SILENT", "true")  # read when wandb is first imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as are these by ray: it would report to its makers,
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # leave out lines of a job that look like another's,
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # colour what is not a terminal,
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # and warn that it will not hide GPUs one day
    try:
        yield
    except Reported as failure:
        if failure.sentence:
            say(program, failure.sentence)
        sys.exit(failure.exit_code)
    except Interrupted as interruption:
        _end_as_signalled(interruption.exit_code)
        sys.exit(interruption.exit_code)
    except MISTAKES as error:
        say(program, sentence(error))
        sys.exit(2)
    except RuntimeError as error:
        if "Unknown plugin class" not in str(error):
            raise
        said = "this launcher is not installed; see docs/engines.md for what hydra/launcher=ray and submitit_slurm need"
        say(program, said)
        sys.exit(2)


def _end_as_signalled(exit_code: int) -> None:
    """Under W&B's agent, end by the signal itself: a trial that it stopped would count as a failure, and five of those
    end the agent.
    """
    if exit_code == 128 + signal.SIGTERM and os.environ.get("WANDB_SWEEP_ID"):
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def composed(*overrides: str, config_dir: Path | None = None) -> dict[str, Any]:
    """The resolved configuration of `taskcluster-train --config-dir CONFIG_DIR OVERRIDES`."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    own = [f"hydra.searchpath=[file://{config_dir.absolute()}]"] if config_dir else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return job_config(compose("train", overrides=[*own, *overrides]))


def job_config(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration of a job, of the whole that Hydra composed."""
    keys = [str(key) for key in cfg if key != "hydra"]
    container: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True)
    return container


def from_wandb(name: str, default: str | None = None) -> str | ListConfig | None:
    """What W&B's environment variable asks for: WANDB_TAGS is a list, and an empty variable asks for nothing."""
    value = os.environ.get(f"WANDB_{name}", "")
    if name == "TAGS":
        return ListConfig([tag.strip() for tag in value.split(",") if tag.strip()])
    return value or default


def keep_plain_keys() -> None:
    """Let no folder of a user's, such as seed/ beside task/, make Hydra read seed=1 as the choice of an option."""
    exists = ConfigRepository.group_exists
    if not hasattr(exists, "__wrapped__"):
        ConfigRepository.group_exists = wraps(exists)(  # type: ignore[method-assign]
            lambda self, config_path: config_path not in PLAIN and exists(self, config_path)
        )


# On import: processes that a launcher starts need all. (Hydra checks conf/hydra/launcher against what the plugins
# register under those names, and warns that it does.)
OmegaConf.register_new_resolver("run_folder", lambda *, _root_: run_folder(job_config(_root_)), replace=True)
OmegaConf.register_new_resolver("wandb", from_wandb, replace=True)
keep_plain_keys()
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against", UserWarning)


def _arranged(words: list[str]) -> list[str]:
    from hydra._internal.utils import get_args_parser  # nothing public lists Hydra's flags

    try:
        os.getcwd()
    except FileNotFoundError:
        raise Reported(2, "the working directory is gone; change to another") from None
    if any(word != word.encode(errors="replace").decode() for word in words):
        raise Reported(2, "an argument is not UTF-8; rename the file or the folder")
    flags = [flag for flag in get_args_parser()._actions if flag.option_strings and flag.dest != "experimental_rerun"]
    given = arranged(words, flags)
    if "--version" in given:
        print(f"taskcluster {__version__} with Hydra {hydra.__version__}")
        sys.exit(0)
    trains = not {"--cfg", "--info", "--help", "--hydra-help", "--shell-completion"} & {*given}
    return [*follow(given, told=trains), *given]


def sentence(error: BaseException) -> str:
    """What a user did wrong, of any of MISTAKES."""
    error = _telling(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        return _no_such_file(error, *error.missing_cfg_file.rpartition("/")[::2])
    if isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}"
        return f"{reason}; choose another folder with hydra.run.dir= or hydra.sweep.dir="
    if isinstance(error, RecursionError):
        return "the configuration includes itself; look for a cycle in the defaults of its files"
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read ({_line(error)}); check its brackets and quotes"
    for pattern, meaning in MEANINGS.items():
        if found := re.match(pattern, str(error)):
            return meaning(found[1])
    return " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else _line(error)


def _telling(error: BaseException) -> BaseException:
    """The one of an exception and its causes that says most."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    ours = [cause for cause in causes if isinstance(cause, UserError)]
    unresolved = [cause for cause in causes if isinstance(cause, InterpolationResolutionError)]
    return [*ours, *reversed(unresolved), *filter(str, causes), error][0]


def _line(error: object) -> str:
    return " ".join(str(error).split("\n")[0].split())


def _unknown_key(key: str) -> str:
    keys = list(_dotted(composed()))
    if key in keys:
        return f"{key} is not a key of the chosen {key.partition('.')[0]}; --cfg job shows those that are"
    siblings = {name.rpartition(".")[2]: name for name in keys}
    last = did_you_mean(key.rpartition(".")[2], siblings)
    hint = did_you_mean(key, keys) or re.sub(r"'(.+)'", lambda found: repr(siblings[found[1]]), last)
    return f"{key} is not a key of the configuration{hint}; --cfg job shows all"


def _several_values(override: str) -> str:
    key = override.partition("=")[0]
    return f"{override} gives several values: add -m for one run of each, or write {key}=[A,B] for a list"


def _no_such_file(error: MissingConfigException, group: str, option: str) -> str:
    folders = [Path(folder) for folder in re.findall(r"path=file://(.*)", str(error))]  # in the message alone
    files = (file.stem for folder in folders for file in (folder / group).glob("*.yaml"))
    known = sorted({*(error.options or ()), *files})
    choices = f"choose from {', '.join(known)}" if known else "--help lists the groups"
    return f"{group}={option} is not an option of {group}{did_you_mean(option, known)}; {choices}"


def _no_option(kind: str) -> str:
    """kind: a type of Python, NoneType for null."""
    for key, _, value in (word.partition("=") for word in sys.argv[1:]):
        if (CONF / key).is_dir() and type(yaml.safe_load(value)).__name__ == kind:
            options = ", ".join(sorted(file.stem for file in (CONF / key).glob("*.yaml")))
            return f"{key}={value} is not an option of {key}; choose from {options}"
    return f"a group takes the name of one of its options, not {kind}; --help lists them"


# What Hydra says, and what it means here.
MEANINGS: dict[str, Callable[[str], str]] = {
    r"Interpolation key '(.*)' not found": "${{{}}} refers to no key of the configuration; correct it".format,
    r".* raised while resolving interpolation: \"?(.*?)\"?(?:\n|$)": str,
    r"Config group override must be a string or a list. Got (.*)": _no_option,
    r"Could not override '([^'@]+)": _unknown_key,
    r"Could not append to config. An item is already at '(.*)'": "{0} is there already; write {0}= without +".format,
    r"Error merging override (.*)": "{} would replace all its keys; set them one by one, as in KEY.NAME=VALUE".format,
    r"Ambiguous value for argument '(.*)'\n": _several_values,
    r"Sweep parameters '(.*)' requires --multirun": _several_values,
    r"Sweeping over Hydra's configuration is not supported : '(.*)'": "{} gives several values; give one".format,
}


def _dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
