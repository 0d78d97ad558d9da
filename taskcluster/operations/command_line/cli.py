"""The command line around Hydra: start a run or a multirun, and report mistakes."""

import os
import re
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import hydra.core.global_hydra
import yaml
from hydra._internal.utils import (
    get_args_parser,
)  # nothing public parses Hydra's flags; tests/operations/command_line/test_cli.py checks it
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from taskcluster import __version__
from taskcluster.config import PARTS
from taskcluster.operations.command_line.arguments import Parser, readable, say
from taskcluster.operations.processes import environment, streams
from taskcluster.operations.processes.interrupts import Interrupted, Interrupts
from taskcluster.runs.condition import flatten
from taskcluster.runs.exported import follow
from taskcluster.runs.names import run_folder
from taskcluster.runs.options import CONF, options
from taskcluster.validation import UserError, did_you_mean

REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}", re.ASCII)

COMMAND = "TASKCLUSTER_COMMAND"  # set in the environment by a command that is not taskcluster-train

# Mistakes that a user can make before the first run begins.
MISTAKES = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError, RecursionError)

ENVIRONMENT = {  # read by libraries when they are imported; what the user sets has precedence
    "WANDB_SILENT": "true",
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report to its makers,
    "RAY_DEDUP_LOGS": "0",  # leave out lines of a job that look like another's,
    "RAY_COLOR_PREFIX": "0",  # colour what is not a terminal,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # and warn that it will not hide GPUs one day
}


class Failed(Exception):
    """The job failed for a reason that its user can act on; the message is one sentence."""


class Job:
    """The function that Hydra runs, here or in other processes. It returns an exit code and never raises, since each
    launcher handles exceptions differently.

    exit_code: 0, 1 for a failure, 2 for a user's mistake, or that of a signal, after which this process begins no other
    job. Unexpected failures print a traceback.
    """

    stopped = 0  # the exit code of the signal that ended a job of this process

    def __init__(self, work: Callable[[DictConfig], None]) -> None:
        self._work = work
        self.exit_code = 0

    def __call__(self, cfg: DictConfig) -> int:
        streams.guard()  # a launcher may have started this process
        self.exit_code = Job.stopped or self._attempt(cfg)
        return self.exit_code

    def _attempt(self, cfg: DictConfig) -> int:
        try:
            self._work(cfg)
        except Interrupted as interruption:
            Job.stopped = interruption.exit_code
            return Job.stopped
        except (OmegaConfBaseException, UserError) as mistake:
            say(program(), sentence(mistake))
            return 2
        except Failed as failure:
            say(program(), str(failure))
            return 1
        except Exception:
            traceback.print_exc()
            return 1
        return 0


def program() -> str:
    """The name of the running command, for error messages."""
    return os.environ.get(COMMAND) or "taskcluster-train"


def run(train: Callable[[DictConfig], None]) -> None:
    """Run `train` under Hydra, once or as a multirun. Exit code 2 for a user's mistake, reported in one sentence.

    `train` raises Failed for the failures that it foresees, and Interrupted after a signal.
    """
    environment.prepare()
    job = Job(train)
    with answering(), Interrupts():
        sys.argv[1:] = _arranged(sys.argv[1:])
        hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(job)()
        _exit(job.exit_code)


@contextmanager
def answering() -> Iterator[None]:
    """A context in which Hydra runs and exceptions become exit codes: 2 for a user's mistake, reported in one sentence,
    or the code of a signal."""
    os.environ.update({**ENVIRONMENT, **os.environ, "HYDRA_FULL_ERROR": "1"})  # exceptions reach us as they are
    try:
        yield
    except Interrupted as interruption:
        _exit(interruption.exit_code)
    except (*MISTAKES, RuntimeError) as error:
        if not isinstance(error, MISTAKES) and "Unknown plugin class" not in str(error):
            raise
        say(program(), sentence(error))
        sys.exit(2)


def _exit(code: int) -> None:
    """End with an exit code; under W&B's agent, by SIGTERM itself: a trial that it stopped would count as a failure,
    and five of those end the agent."""
    if code == 128 + signal.SIGTERM and os.environ.get("WANDB_SWEEP_ID"):
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(code)


def composed(*overrides: str, config_dir: Path | None = None) -> dict[str, Any]:
    """The resolved configuration of `taskcluster-train --config-dir CONFIG_DIR OVERRIDES`."""
    hydra.core.global_hydra.GlobalHydra.instance().clear()
    added = [f"hydra.searchpath=[file://{config_dir.absolute()}]"] if config_dir else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return job_config(hydra.compose("train", overrides=[*added, *overrides]))


def job_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration of a job from what Hydra composed."""
    nodes = {str(key): "???" if OmegaConf.is_missing(cfg, key) else cfg[key] for key in cfg if key != "hydra"}
    plain = {key: OmegaConf.to_container(node) if OmegaConf.is_config(node) else node for key, node in nodes.items()}
    container: dict[str, Any] = plain.copy()
    for key, node in nodes.items():
        if OmegaConf.is_config(node):
            try:
                container[key] = _resolved(plain[key], plain)
            except (LookupError, RecursionError):  # another interpolation, or a mistake
                container[key] = OmegaConf.to_container(node, resolve=True)
    if path := container.get("ckpt_path"):  # relative to the command's folder, not to a job's
        here = cfg.hydra.runtime.cwd if "hydra" in cfg else os.getcwd()
        container["ckpt_path"] = os.path.abspath(os.path.join(here, str(path)))
    return container


def _resolved(node: Any, plain: dict[str, Any]) -> Any:
    """Resolve a node's references, such as ${seeds.model}, to values in `plain`, the whole configuration, whose values
    at the top are resolved; OmegaConf takes a third of a millisecond for each. Raises LookupError for any other
    interpolation."""
    if isinstance(node, dict):
        return {key: _resolved(part, plain) for key, part in node.items()}
    if isinstance(node, list):
        return [_resolved(part, plain) for part in node]
    if not isinstance(node, str) or "${" not in node:
        return node
    if not (reference := REFERENCE.fullmatch(node)):
        raise LookupError(node)
    value: Any = plain
    for key in reference[1].split("."):
        value = value[key] if isinstance(value, dict) else "???"
    if isinstance(value, dict | list) or value == "???":
        raise LookupError(node)
    return _resolved(value, plain) if "." in reference[1] else value


def from_wandb(name: str, default: str | None = None) -> str | ListConfig | None:
    """Return the value of W&B's environment variable: WANDB_TAGS is a list, and an empty variable counts as unset."""
    value = os.environ.get(f"WANDB_{name}", "")
    tags = [tag.strip() for tag in value.split(",") if tag.strip()]
    return ListConfig(tags) if name == "TAGS" else value or default


# On import: processes that a launcher starts need all. (Hydra checks conf/hydra/launcher against what the plugins
# register under those names, and warns that it does.)
OmegaConf.register_new_resolver(
    "run_folder",
    lambda parent, *, _root_: run_folder(job_config(_root_), _root_.hydra.overrides.task, Path(parent)),
    replace=True,
)
OmegaConf.register_new_resolver("wandb", from_wandb, replace=True)
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against", UserWarning)


def _arranged(words: list[str]) -> list[str]:
    """Return the command for Hydra: overrides, quoted where needed, then flags."""
    if "--version" in words:
        print(f"taskcluster {__version__} with Hydra {hydra.__version__}")
        sys.exit(0)
    parser = get_args_parser()
    parser.prog = program()
    parser.error = partial(Parser.error, parser)  # type: ignore[method-assign, arg-type]
    given = parser.parse_intermixed_args(words)
    overrides = [readable(word) for word in given.overrides]
    for override in overrides:
        _refuse_twice(override)
    trains = not (given.help or given.hydra_help or given.cfg or given.info or given.shell_completion)
    return [*follow(overrides, told=trains), *overrides, *(word for word in words if word not in given.overrides)]


def _refuse_twice(override: str) -> None:
    """Raise UserError for an option that is twice in a group's list: Hydra would take it once."""
    group, _, value = override.partition("=")
    if group in PARTS:
        for names in re.findall(r"\[([^\[\]]*)\]", value):
            name, times = Counter(map(str.strip, names.split(","))).most_common(1)[0]
            if times > 1:
                raise UserError(
                    f"{override} names {name} twice, and one would count; leave one out, or save the second under "
                    "another name"
                )


def sentence(error: BaseException) -> str:
    """Return a sentence about a user's mistake, any of MISTAKES."""
    error = _telling(error)
    said = " ".join(str(error).split("\n") if isinstance(error, yaml.YAMLError) else str(error).split("\n")[:1])
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = error.options or options(group)
        return (
            f"{group}={option} is not an option of {group}{did_you_mean(option, known)}; choose from {', '.join(known)}"
        )
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}; choose another folder with hydra.run.dir= or hydra.sweep.dir="
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be parsed ({said}); put special characters in quotes, as in KEY='\"VALUE\"'"
    for pattern, meaning in MEANINGS.items():
        if match := re.match(pattern, str(error)):
            return meaning(match[1])
    return " ".join(said.split())


def _telling(error: BaseException) -> BaseException:
    """Return the most informative of an exception and its causes."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    mistakes = [cause for cause in causes if isinstance(cause, UserError)]
    unresolved = [cause for cause in causes if isinstance(cause, InterpolationResolutionError)]
    return [*mistakes, *reversed(unresolved), *filter(str, causes), error][0]


def _unknown_key(key: str) -> str:
    config = composed()
    keys = [*config, *flatten(config)]
    if key in keys:
        return f"{key} is not a key of the chosen {key.partition('.')[0]}; --cfg job shows those that are"
    ending = [name for name in keys if name.endswith(f".{key}")]
    hint = f"; did you mean {ending[0]!r}?" if ending else did_you_mean(key, keys)
    return f"{key} is not a key of the configuration{hint}; --cfg job shows all"


SEVERAL = "{} gives several values: add -m to run each one, or write KEY=[A,B] for a list"

# Hydra's messages, and ours in their place.
MEANINGS: dict[str, Callable[[str], str]] = {
    r"(Unknown plugin class)": "this launcher is not installed; docs/run_elsewhere.md says what it needs".format,
    r"Interpolation key '(.*)' not found": "${{{}}} refers to no key of the configuration; correct it".format,
    r".* raised while resolving interpolation: \"?(.*?)\"?(?:\n|$)": str,
    r"Config group override must be a string or a list. Got (.*)": (
        "a group takes the name of one of its options, not {}; --help lists them".format
    ),
    r"Could not override '([^'@]+)": _unknown_key,
    r"Could not append to config. An item is already at '(.*)'": "{0} exists already; write {0}= without +".format,
    r"Error merging override (.*)": "{} would replace all its keys; set them one by one, as in KEY.NAME=VALUE".format,
    r"Ambiguous value for argument '(.*)'\n": SEVERAL.format,
    r"Sweep parameters '(.*)' requires --multirun": SEVERAL.format,
}
