"""What each run of a multirun has before it, found out before the first one begins.

in:  the command's overrides
out: Planned runs: already finished, to be started or resumed, or refused in one sentence
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from taskcluster import imports
from taskcluster.arguments import quoted
from taskcluster.cli import Reported, job_config
from taskcluster.config import RunConfig
from taskcluster.processes.launch import launcher
from taskcluster.runs.condition import digest, flatten, is_seed, matters
from taskcluster.runs.exported import follow
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import find_start, is_concluded, is_finished
from taskcluster.runs.series import series
from taskcluster.tracking.identity import refuse_many
from taskcluster.validation import UserError

JOB_NUMBER = re.compile(r"\$\{hydra[:.]job\.num\}")

HERE = ("BasicLauncher", "JoblibLauncher")  # launchers whose jobs run on this machine


@dataclass
class Planned:
    """One run. overrides: what was given for it; plan: what it has before it, in words; exit_code: what came of it,
    None while that is not known; content: a digest of all settings that matter to its numbers, seeds included."""

    overrides: Sequence[str]
    root: Path
    folder: RunFolder
    plan: str
    exit_code: int | None = None
    name: str = ""
    content: str = ""

    @property
    def placed(self) -> list[str]:
        """The overrides, with the folder: whoever composes the job again is not to find another."""
        folders = {"dir": self.root, "subdir": self.folder.path}
        return [*self.overrides, *(f"hydra.sweep.{key}={quoted(str(path))}" for key, path in folders.items())]


def jobs(arguments: Sequence[str], loader: ConfigLoader, config: DictConfig) -> list[list[list[str]]]:
    """The overrides of every job, by grid: all combinations of the values given, of those that an experiment sweeps
    (hydra.sweeper.params), and of those of one of its grids (hydra.sweeper.grids).

    Several experiments, experiment=seeds,layers, are as many sweeps, each with its own values and under its own name.
    Raises UserError for values that cannot be listed.
    """
    hydras: Any = OmegaConf.to_container(config.hydra.overrides.hydra)
    if any(word.lstrip("+").startswith("hydra.run.dir=") for word in hydras):
        raise UserError("hydra.run.dir= is for a single run; write hydra.sweep.dir= for a multirun")
    parser = OverridesParser.create(config_loader=loader)
    overrides = _parsed(parser, arguments)
    chosen = [override for override in overrides if override.get_key_element() == "experiment"][-1:]
    if not chosen or not chosen[0].is_sweep_override():
        return _grids(parser, config, arguments)
    others = [str(override.input_line) for override in overrides if override.get_key_element() != "experiment"]
    found = []
    for value in chosen[0].sweep_string_iterator():
        given = [f"experiment={value}", *others]
        own = loader.load_configuration(config.hydra.job.config_name, [*hydras, *given], RunMode.MULTIRUN)
        found += _grids(parser, own, given)
    return found


def _parsed(parser: OverridesParser, words: Sequence[str]) -> list[Override]:
    overrides = parser.parse_overrides(list(words))
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise UserError(f"{override.input_line} has no end of values; list them as in KEY=1,2,3 or KEY=range(1,4)")
    return overrides


def _grids(parser: OverridesParser, config: DictConfig, arguments: Sequence[str]) -> list[list[list[str]]]:
    """The jobs of each grid. What params sweep, every grid does; what the command gives holds in every grid."""
    params = _values("params", config.hydra.sweeper.params)
    grids: Any = config.hydra.sweeper.grids
    if grids is None:
        return [_combinations(parser, [*params, *arguments])]
    if not OmegaConf.is_list(grids) or not grids:
        raise UserError(f"hydra.sweeper.grids={grids}: give a list of grids, as in [{{seed: '0,1'}}, {{seed: 2}}]")
    return [_combinations(parser, [*params, *_values(f"grids[{k}]", g), *arguments]) for k, g in enumerate(grids)]


def _values(name: str, grid: Any) -> list[str]:
    """What a grid gives, as overrides. Raises UserError where it is none."""
    if grid is not None and not OmegaConf.is_dict(grid):
        raise UserError(f"hydra.sweeper.{name}={grid}: give keys with their values, as in {{model.n_layer: '2,4'}}")
    found: dict[str, Any] = OmegaConf.to_container(grid) if grid is not None else {}  # type: ignore[assignment]
    for key, value in found.items():
        if isinstance(value, dict):
            raise UserError(f"hydra.sweeper.{name}.{key}={value}: write keys with dots, as in {{model.n_layer: '2,4'}}")
    return [f"{key}={value if isinstance(value, str | list) else json.dumps(value)}" for key, value in found.items()]


def _combinations(parser: OverridesParser, words: Sequence[str]) -> list[list[str]]:
    values: dict[str, list[str]] = {}
    for override in _parsed(parser, words):  # of one key the last counts
        key, sweeps = override.get_key_element(), override.is_sweep_override()
        given = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
        values[key] = [f"{key}={value}" for value in given]
    return [list(combination) for combination in product(*values.values())]


def common_root(runs: Sequence[Planned]) -> Path:
    """The folder that holds all runs."""
    return Path(os.path.commonpath([run.root for run in runs])) if runs else Path()


class Planner:
    """Of the runs that are to be handed to a launcher."""

    def __init__(self, launcher: Launcher, loader: ConfigLoader, config: DictConfig) -> None:
        self._kind, self._loader, self._config = type(launcher).__name__, loader, config
        self._refusals: dict[str, str] = {}

    def __call__(self, grids: Sequence[Sequence[Sequence[str]]]) -> list[Planned]:
        """What every job has before it; one that repeats a job of another grid is dropped.

        Raises UserError where two others would have one folder.
        """
        setup_globals()
        _refuse_company()
        by_folder: dict[Path, tuple[int, Planned]] = {}
        for grid, overrides in ((grid, overrides) for grid, jobs in enumerate(grids) for overrides in jobs):
            run = self._plan(overrides, len(by_folder))
            of, first = by_folder.setdefault(run.folder.path, (grid, run))
            if first is not run and (of == grid or first.content != run.content):
                pair = [
                    " ".join(set(a) - set(b)) or "the same" for a, b in permutations((first.overrides, run.overrides))
                ]
                raise UserError(
                    f"two runs, {pair[0]} and {pair[1]}, would share the folder {run.folder.path}; leave one out, or "
                    "tell them apart by hydra.sweep.subdir="
                )
        runs = [run for _, run in by_folder.values()]
        top = common_root(runs)
        for run in runs:
            run.name = os.path.relpath(run.folder.path, top)
        return runs

    def _plan(self, overrides: Sequence[str], number: int) -> Planned:
        given = [JOB_NUMBER.sub(str(number), word) for word in overrides]  # launchers count those that they are given
        given = [*follow(given), *given]
        composed = self._loader.load_sweep_config(self._config, given)
        composed.hydra.job.num, composed.hydra.job.id = number, str(number)
        HydraConfig.instance().set_config(composed)  # which the names of folders are resolved by
        imports.add_config_folders()
        root = Path(os.path.abspath(composed.hydra.sweep.dir))
        run = RunFolder(Path(os.path.normpath(root / composed.hydra.sweep.subdir)))
        settings = {key: value for key, value in flatten(job_config(composed)).items() if matters(key)}
        planned = partial(Planned, given, root, run, content=digest(settings))
        try:
            config = RunConfig.of(job_config(composed))
            if is_finished(run, config):
                if is_concluded(run):
                    return planned("already finished, skipped", exit_code=0)
                return planned("already finished, but some figures are missing")
            if run.in_use():
                return planned("in use by another process, skipped", exit_code=1)
            refuse_many(config.logger)
            state, start = run.state, find_start(run, config)
            self._refuse(config)
        except UserError as error:
            return planned(f"refused: {error}", exit_code=2)
        plan = "starts from the beginning" if start.step is None else f"resumes after step {start.step}"
        return planned("begins" if state == "new" else f"{state}, {plan}")

    def _refuse(self, config: RunConfig) -> None:
        """Raise UserError for what can be known to be wrong before the first run, built once for all seeds."""
        if self._kind not in HERE:  # where it will run, there may be a GPU
            return
        from taskcluster.training.experiment import prepare, refuse_device
        from taskcluster.training.series import refuse_different

        key = digest({key: value for key, value in flatten(config.as_dict()).items() if not is_seed(key)})
        if key not in self._refusals:
            try:
                refuse_device(config.trainer)
                refuse_different(series(config))
                prepare(config)
                self._refusals[key] = ""
            except UserError as error:
                self._refusals[key] = str(error)
        if self._refusals[key]:
            raise UserError(self._refusals[key])


def _refuse_company() -> None:
    if launcher():
        said = f"a multirun is one process, but {launcher()} started several; start the command without it"
        raise Reported(2, f"{said}: hydra/launcher=submitit_slurm starts runs on several nodes")
