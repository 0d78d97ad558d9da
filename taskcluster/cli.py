"""The command line around Hydra: where the configuration lies, how runs are named, and how mistakes are reported."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

PACKAGE = Path(__file__).parent
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())  # in a wheel, in a checkout

NOT_A_CONDITION = {"seed", "name", "logger"}  # overrides that do not change what is being studied
LONGEST_NAME = 120


class Reported(Exception):
    """The job failed and its user has been told why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def run(job: Callable[[DictConfig], None]) -> None:
    """Run a job under Hydra, once or as a multirun. Exit code 2 for a user's mistake, said in one sentence.

    `job` reports its own failures and raises Reported.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are
    os.environ.setdefault("WANDB_SILENT", "true")  # read when wandb is first imported

    def guarded(cfg: DictConfig) -> None:  # Hydra would add its own words to an exception
        try:
            job(cfg)
        except Reported as failure:
            with failures.open("a") as codes:  # a file, since a launcher may run this in another process
                codes.write(f"{failure.exit_code}\n")

    try:
        _check_flags(sys.argv[1:])
        with TemporaryDirectory() as scratch:
            failures = Path(scratch) / "exit_codes"
            failures.touch()
            hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(guarded)()
            sys.exit(max(map(int, failures.read_text().split()), default=0))
    except Reported as failure:
        sys.exit(failure.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        report(_sentence(error))
        sys.exit(2)


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


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)  # on import: other processes need it too


def _check_flags(arguments: Sequence[str]) -> None:
    """argparse would answer an unknown flag with all of its usage."""
    from hydra._internal.utils import get_args_parser  # the only list of Hydra's flags

    flags = [flag for action in get_args_parser()._actions for flag in action.option_strings]
    for argument in arguments:
        flag = argument.split("=")[0]
        if flag.startswith("--") and flag not in flags:
            from taskcluster.validation import did_you_mean

            report(f"{flag} is not an option{did_you_mean(flag, flags)}; see --help")
            raise Reported(2)


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
