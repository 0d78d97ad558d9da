"""What each run of a multirun has before it, found out before the first one begins.

in:  the command's overrides
out: Planned runs: already finished, to be started or resumed, or refused in one sentence
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from taskcluster.config import RunConfig
from taskcluster.operations.command_line.arguments import quoted
from taskcluster.operations.command_line.cli import Reported, job_config
from taskcluster.operations.processes import imports
from taskcluster.operations.processes.launch import launcher
from taskcluster.operations.tracking.identity import refuse_many
from taskcluster.runs.condition import content, decisive, digest
from taskcluster.runs.exported import follow
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import find_start, is_concluded, is_finished
from taskcluster.training.series import refuse_different, series
from taskcluster.validation import UserError

HERE = ("BasicLauncher", "JoblibLauncher")  # launchers whose jobs run on this machine


@dataclass
class Planned:
    """One run. overrides: what was given for it; plan: what it has before it, in words; exit_code: what came of it,
    None while that is not known."""

    overrides: Sequence[str]
    root: Path
    folder: RunFolder
    plan: str
    exit_code: int | None = None
    name: str = ""

    @property
    def placed(self) -> list[str]:
        """The overrides, with the folder: whoever composes the job again is not to find another."""
        folders = {"dir": self.root, "subdir": self.folder.path}
        return [*self.overrides, *(f"hydra.sweep.{key}={quoted(str(path))}" for key, path in folders.items())]


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
    """The jobs of all grids. What params sweep, every grid does; what the command gives holds in every grid."""
    sweeper = config.hydra.sweeper
    grids = OmegaConf.to_container(sweeper.grids) if OmegaConf.is_config(sweeper.grids) else sweeper.grids
    if grids is None:
        grids = [{}]
    if not isinstance(grids, list) or not grids:
        raise UserError(f"hydra.sweeper.grids={grids}: give a list of grids, as in [{{seed: '0,1'}}, {{seed: 2}}]")
    params = _overrides("params", {} if sweeper.params is None else sweeper.params)
    given = [[*params, *_overrides(f"grids[{k}]", grid), *arguments] for k, grid in enumerate(grids)]
    return [list(job) for words in given for job in product(*dict(_values(parser, words)).values())]


def _overrides(name: str, grid: Any) -> list[str]:
    """What a grid sweeps. Raises UserError for anything but dotted keys with values."""
    values: Any = OmegaConf.to_container(grid) if OmegaConf.is_dict(grid) else grid
    if not isinstance(values, dict) or any(isinstance(value, dict) for value in values.values()):
        raise UserError(f"hydra.sweeper.{name}={grid}: give dotted keys with values, as in {{model.n_layer: '2,4'}}")
    return [f"{key}={value if isinstance(value, str | list) else json.dumps(value)}" for key, value in values.items()]


def _values(parser: OverridesParser, words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each key with an override for every value that it gets."""
    listed = []
    for override in parser.parse_overrides(list(words)):
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise UserError(f"{override.input_line} has no end of values; list them as in KEY=1,2,3 or KEY=range(1,4)")
        key, sweeps = override.get_key_element(), override.is_sweep_override()
        values = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
        listed.append((key, [f"{key}={value}" for value in values]))
    return listed


def common_root(runs: Sequence[Planned]) -> Path:
    """The folder that holds all runs."""
    return Path(os.path.commonpath([run.root for run in runs])) if runs else Path()


class Planner:
    """Of the runs that are to be handed to a launcher."""

    def __init__(self, launcher: Launcher, loader: ConfigLoader, config: DictConfig) -> None:
        self._kind, self._loader, self._config = type(launcher).__name__, loader, config
        self._refusals: dict[str, str] = {}

    def __call__(self, jobs: Sequence[Sequence[str]]) -> list[Planned]:
        """What every job has before it; jobs of one configuration are one run.

        Raises UserError where two others would have one folder.
        """
        _refuse_company()
        planned: dict[str, Planned] = {}
        folders: dict[Path, Planned] = {}
        for given in jobs:
            overrides = [*follow(given), *given]
            composed = self._loader.load_sweep_config(self._config, overrides)
            composed.hydra.job.num = len(planned)
            HydraConfig.instance().set_config(composed)  # which the names of folders are resolved by
            imports.add_config_folders()
            config = job_config(composed)
            root = Path(os.path.abspath(composed.hydra.sweep.dir))
            if (key := f"{root}{digest(content(config))}") in planned:
                continue
            path = Path(os.path.normpath(root / composed.hydra.sweep.subdir))
            if other := folders.get(path):
                pair = f"{' '.join(other.overrides)} and {' '.join(overrides)}"
                raise UserError(
                    f"two runs, {pair}, would share the folder {path}; tell them apart by hydra.sweep.subdir="
                )
            plan, exit_code = self._plan(config, RunFolder(path))
            planned[key] = folders[path] = Planned(overrides, root, RunFolder(path), plan, exit_code)
        top = common_root([*planned.values()])
        for path, run in folders.items():
            run.name = os.path.relpath(path, top)
        return [*planned.values()]

    def _plan(self, composed: dict[str, Any], run: RunFolder) -> tuple[str, int | None]:
        """In words, and the exit code of a run that is not to begin."""
        try:
            config = RunConfig.of(composed)
            if is_finished(run, config, series(config)):
                if is_concluded(run):
                    return "already finished, skipped", 0
                return "already finished, but some figures are missing", None
            if run.in_use():
                return "in use by another process, skipped", 1
            refuse_many(config.logger)
            state, start = run.state, find_start(run, config, series(config))
            self._refuse(config)
        except UserError as error:
            return f"refused: {error}", 2
        plan = "starts from the beginning" if start.step is None else f"resumes after step {start.step}"
        return ("begins" if state == "new" else f"{state}, {plan}"), None

    def _refuse(self, config: RunConfig) -> None:
        """Raise UserError for what can be known to be wrong before the first run, built once for all seeds."""
        if self._kind not in HERE:  # where it will run, there may be a GPU
            return
        from taskcluster.training.experiment import prepare, refuse_device

        condition = digest(decisive(config.as_dict()))
        if condition not in self._refusals:
            self._refusals[condition] = ""
            try:
                refuse_device(config.trainer)
                refuse_different(series(config))
                prepare(config)
            except UserError as error:
                self._refusals[condition] = str(error)
        if self._refusals[condition]:
            raise UserError(self._refusals[condition])


def _refuse_company() -> None:
    if launcher():
        said = f"a multirun is one process, but {launcher()} started several; start the command without it"
        raise Reported(2, f"{said}: hydra/launcher=submitit_slurm starts runs on several nodes")
