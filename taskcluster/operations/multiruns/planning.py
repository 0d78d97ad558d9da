"""Plan a multirun: which runs are finished, resume, start, or are refused.

in:  the command's overrides
out: Planned runs; refusals in one sentence, before the first run begins
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from taskcluster.config import RunConfig
from taskcluster.operations.command_line.arguments import quoted
from taskcluster.operations.command_line.cli import job_config
from taskcluster.operations.processes import environment
from taskcluster.operations.processes.launch import launcher
from taskcluster.runs.condition import content, decisive, digest
from taskcluster.runs.exported import follow
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.names import run_folder
from taskcluster.runs.resume import find_start, is_concluded, is_finished
from taskcluster.training.series import refuse_different, series
from taskcluster.validation import UserError

SUBDIR = "${run_folder:${hydra.sweep.dir}}"  # in conf/train.yaml
BUILT = ("task", "data", "model", "objective", "trainer")  # the groups that a plan tries to build


@dataclass
class Planned:
    """One run. overrides: those of its configuration and its folder, so that composing the job again gives the same
    folder; plan: in words; exit_code: None until it is known."""

    overrides: Sequence[str]
    root: Path
    folder: RunFolder
    plan: str
    exit_code: int | None = None
    name: str = ""


def jobs(arguments: Sequence[str], loader: ConfigLoader, config: DictConfig) -> list[list[str]]:
    """The overrides of every job: all combinations of the values given, of those that an experiment sweeps
    (hydra.sweeper.params), and of those of one of its grids (hydra.sweeper.grids).

    Several experiments, experiment=seeds,layers, are as many sweeps, each with its own values and under its own name.
    Raises UserError for values that cannot be listed.
    """
    hydras: Any = OmegaConf.to_container(config.hydra.overrides.hydra)
    if any(word.startswith("hydra.run.dir=") for word in hydras):
        raise UserError("hydra.run.dir= is for a single run; write hydra.sweep.dir= for a multirun")
    parser = OverridesParser.create(config_loader=loader)
    experiments = next((values for key, values in _values(parser, arguments) if key == "experiment"), [])
    if len(experiments) < 2:
        return _grids(parser, config, arguments)
    others = [word for word in arguments if not word.startswith("experiment=")]
    listed = []
    for experiment in experiments:
        given = [experiment, *others]
        composed = loader.load_configuration(config.hydra.job.config_name, [*hydras, *given], RunMode.MULTIRUN)
        listed += _grids(parser, composed, given)
    return listed


def _grids(parser: OverridesParser, config: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """Return the jobs of all grids. Every grid sweeps `params`; overrides of the command apply to every grid."""
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper)
    params, grids = sweeper["params"] or {}, sweeper["grids"] or [{}]
    for grid in (params, *grids) if isinstance(grids, list) else [grids]:
        if not isinstance(grid, dict) or any(isinstance(value, dict) for value in grid.values()):
            example = "grids=[{model.n_layer: '2,4'}]"
            raise UserError(f"hydra.sweeper holds {grid}: give dotted keys with values, as in hydra.sweeper.{example}")
    given = [[*_overrides(params), *_overrides(grid), *arguments] for grid in grids]
    return [list(job) for words in given for job in product(*dict(_values(parser, words)).values())]


def _overrides(grid: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value if isinstance(value, str | list) else json.dumps(value)}" for key, value in grid.items()]


def _values(parser: OverridesParser, words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each key with an override for every value that it gets."""
    listed = []
    for override in parser.parse_overrides(list(words)):
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise UserError(
                f"{override.input_line} has infinitely many values; list them as in KEY=1,2,3 or KEY=range(1,4)"
            )
        key, sweeps = override.get_key_element(), override.is_sweep_override()
        values = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
        listed.append((key, [f"{key}={value}" for value in values]))
    return listed


def common_root(runs: Sequence[Planned]) -> Path:
    """The folder that holds all runs."""
    return Path(os.path.commonpath([run.root for run in runs])) if runs else Path()


class Composer:
    """Composes the configuration of each job, which becomes that of Hydra, by which the names of folders are resolved.

    Of jobs that set the same keys to other values, Hydra composes the first, in a tenth of a second; for the others its
    values are changed. What a call returns is valid until the next one.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = loader, config
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], tuple[DictConfig, Any]] = {}  # each with what ${hydra:...} refers to
        self._named_by_hydra = "override_dirname" in str(config.hydra.sweep)  # which depends on all overrides

    def __call__(self, words: Sequence[str], number: int) -> DictConfig:
        """The configuration of the job of this number."""
        for word in words:
            if word not in self._parsed:
                (self._parsed[word],) = self._parser.parse_overrides([word])
        overrides = [self._parsed[word] for word in words]
        values = [override for override in overrides if _sets_a_value(override)]
        choices = [override for override in overrides if override not in values]
        key = (*(str(choice.input_line) for choice in choices), "", *(value.key_or_group for value in values))
        only_choices = all("." not in choice.key_or_group for choice in choices)
        known = HydraConfig.instance()
        if key not in self._composed or not only_choices or self._named_by_hydra:
            composed = self._loader.load_sweep_config(self._config, list(words))
            composed.hydra.job.num = number
            known.set_config(composed)
            self._composed[key] = composed, known.cfg
            return composed
        composed, named = self._composed[key]
        known.cfg = named
        for value in values:
            OmegaConf.update(composed, value.key_or_group, value.value(), merge=True)
        for hydra in (composed.hydra, named.hydra):
            OmegaConf.set_readonly(hydra, False)  # HydraConfig made it read-only
            hydra.overrides.task, hydra.job.num = list(words), number
        return composed


def _sets_a_value(override: Override) -> bool:
    """Whether an override sets one value of the configuration, as seed=1 and model.n_layer=4 do."""
    key, is_change = override.key_or_group, override.type is OverrideType.CHANGE and override.package is None
    is_ours = key == "seed" or ("." in key and not key.startswith("hydra."))
    return is_ours and is_change and not isinstance(override.value(), dict)


class Planner:
    """Plans the runs of a multirun."""

    def __init__(self, launcher: Launcher, loader: ConfigLoader, config: DictConfig) -> None:
        self._is_here = type(launcher).__name__ in ("BasicLauncher", "JoblibLauncher")  # elsewhere may be a GPU
        self._compose = Composer(loader, config)
        self._refusals: dict[str, str] = {}

    def __call__(self, jobs: Sequence[Sequence[str]]) -> list[Planned]:
        """Plan every job; jobs with equal configurations are one run.

        Raises UserError where two others would have one folder, and in one of several processes.
        """
        if launcher():
            raise UserError(
                f"a multirun is one process, but {launcher()} started several; start the command without it: "
                "hydra/launcher=submitit_slurm starts runs on several nodes"
            )
        planned: dict[str, Planned] = {}
        given: dict[Path, str] = {}
        for job in jobs:
            overrides = [*follow(job), *job]
            composed = self._compose(overrides, len(planned))
            environment.add_config_folders()
            config, root = job_config(composed), Path(os.path.abspath(composed.hydra.sweep.dir))
            if (key := f"{root}{digest(content(config))}") in planned:
                continue
            sweep: Any = OmegaConf.to_container(composed.hydra.sweep)
            # Hydra would resolve the configuration once more.
            subdir = run_folder(config, overrides, root) if sweep["subdir"] == SUBDIR else composed.hydra.sweep.subdir
            path = Path(os.path.normpath(root / subdir))
            if path in given:
                pair = f"{given[path]} and {' '.join(overrides)}"
                raise UserError(f"two runs, {pair}, would share the folder {path}; set hydra.sweep.subdir=")
            given[path] = " ".join(overrides)
            placed = [f"hydra.sweep.dir={quoted(str(root))}", f"hydra.sweep.subdir={quoted(str(path))}"]
            planned[key] = Planned([*overrides, *placed], root, RunFolder(path), *self._plan(config, RunFolder(path)))
        top = common_root([*planned.values()])
        for run in planned.values():
            run.name = os.path.relpath(run.folder.path, top)
        return [*planned.values()]

    def _plan(self, composed: dict[str, Any], run: RunFolder) -> tuple[str, int | None]:
        """Return the plan in words, and the exit code of a run that will not start."""
        try:
            config = RunConfig.of(composed)
            if is_finished(run, config, series(config)):
                missing = "already finished, but some figures are missing"
                return ("already finished, skipped", 0) if is_concluded(run) else (missing, None)
            if run.in_use():
                return "in use by another process, skipped", 1
            state, start = run.state, find_start(run, config, series(config))
            self._refuse(config)
        except UserError as error:
            return f"refused: {error}", 2
        plan = "starts from the beginning" if start.step is None else f"resumes after step {start.step}"
        return ("begins" if state == "new" else f"{state}, {plan}"), None

    def _refuse(self, config: RunConfig) -> None:
        """Raise UserError for mistakes that show before the first run; what is built is built once for all seeds."""
        wandb_id, logger = os.environ.get("WANDB_RUN_ID"), config.logger
        if wandb_id and "wandb" in logger.target and logger.arguments.get("mode") != "disabled":
            raise UserError(
                f"WANDB_RUN_ID={wandb_id} names one W&B run, but a multirun has one W&B run per run; leave out "
                "-m, or unset WANDB_RUN_ID"
            )
        settings = decisive(config.as_dict()).items()
        built = digest({key: value for key, value in settings if key.partition(".")[0] in BUILT})
        if built not in self._refusals:
            self._refusals[built] = _refusal(config) if self._is_here else ""
        if self._refusals[built]:
            raise UserError(self._refusals[built])


def _refusal(config: RunConfig) -> str:
    """Return why a run cannot be built here, "" if it can."""
    from taskcluster.training.experiment import prepare, refuse_device

    try:
        refuse_device(config.trainer)
        refuse_different(series(config))
        prepare(config)
    except UserError as error:
        return str(error)
    return ""
