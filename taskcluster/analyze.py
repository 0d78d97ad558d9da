"""taskcluster-analyze: measure runs again from their checkpoints, or a pretrained model.

in:  the words of the command: a folder of runs, settings
out: a job for each run that is not finished, handed to a launcher of Hydra's; a table of the outcomes; an exit code
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from taskcluster.operations.command_line import cli
from taskcluster.operations.command_line.arguments import Parser, quoted, readable, say
from taskcluster.operations.multiruns.multirun import Multirun
from taskcluster.operations.multiruns.planning import Planned
from taskcluster.operations.processes import environment, imports, streams
from taskcluster.operations.processes.interrupts import Interrupted, Interrupts
from taskcluster.runs.exported import follow
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.options import CONF
from taskcluster.training.analysis import analyze, plan
from taskcluster.validation import UserError

PROGRAM = "taskcluster-analyze"

EXAMPLES = """
  taskcluster-analyze outputs/default/seed=0                              the run's own measures, at every checkpoint
  taskcluster-analyze multirun/seeds "measures=[interventions]"           other measures, of every run of a multirun
  taskcluster-analyze multirun/seeds hydra/launcher=joblib                runs side by side; also submitit_slurm and ray
  taskcluster-analyze RUN name=wide data.probe_size=4000 steps=last       a larger probe set, at the last step
  taskcluster-analyze RUN "measures=[interventions]" "measures.interventions.alphas=[0.5,1,2]" "steps=[0,600]"
  taskcluster-analyze model=pretrained model.path=FOLDER task=facts       no run: a pretrained model, or the folder of
                                                                          its checkpoints (step1000/ ...)

Each run gets a folder analysis/NAME in the form of a run folder, with journal, results and figures; report and
dashboard show it beside the run. Rerun the same command to resume. Keys that an analysis can set:
measures, measures.*, clusterer, clusterer.*, data.probe_size, data.probe_seed, data.probe_final_norm; hydra/launcher
and hydra.launcher.*. Without a folder, the command is shorthand for taskcluster-train experiment=probe, or for
experiment=probe_demonstrations where prompts are few-shot, and takes all keys of taskcluster-train. For the folder of
an exported run without data=, it is experiment=probe_exported: tasks and prompts are those of the run.
"""

SETTINGS = ("name", "steps", "output")
GROUPS = ("measures", "clusterer")  # of which other options can be chosen
RUN_KEYS = ("measures.", "clusterer.", "data.probe_")
LAUNCHER_KEYS = ("hydra/launcher", "hydra.launcher.")

EXPERIMENTS = {"demonstrations": "probe_demonstrations"}  # without a folder, by task.describe; else probe


def main() -> None:
    environment.prepare()
    words, config_dir = _arguments()
    with cli.answering(PROGRAM):
        if all(_is_override(word) for word in words) and not all(_is_setting(word) for word in words):
            _probe(words, config_dir)
        with Interrupts():
            exit_code = _analyze(words, config_dir)
        sys.exit(exit_code)


def _arguments() -> tuple[list[str], Path | None]:
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} FOLDER [name=NAME] [steps=all|last|[STEP,...]] [output=FOLDER] [KEY=VALUE ...]\n"
        f"       {PROGRAM} model=pretrained model.path=FOLDER [KEY=VALUE ...]",
        description="Measure runs again from their checkpoints, or a pretrained model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="FOLDER KEY=VALUE", help="a run, a multirun, or any folder of runs; what to measure"
    )
    parser.add_argument("--config-dir", type=Path, help="a folder of your own with groups such as measures/")
    given = parser.parse_intermixed_args()
    return given.words, given.config_dir


def _probe(words: list[str], config_dir: Path | None) -> None:
    """Become the run that measures a model as it is."""
    options = ["--config-dir", str(config_dir)] if config_dir else []
    exported = follow([readable(word) for word in words], told=False)
    if exported and not any(word.startswith("data=") for word in words):
        experiment = "probe_exported"
    else:
        chosen = [word for word in words if not word.startswith(("hydra", "measures."))]
        task = cli.composed("experiment=probe", *chosen, config_dir=config_dir)["task"]
        experiment = EXPERIMENTS.get(task.get("describe"), "probe")
    os.environ[cli.COMMAND] = PROGRAM
    command = [sys.executable, "-m", "taskcluster.train", *options, f"experiment={experiment}", *words]
    os.execv(sys.executable, command)


def _analyze(words: list[str], config_dir: Path | None) -> int:
    from taskcluster.results.conditions import find_runs  # only now, so that --help is quick

    if not words or _is_setting(words[0]):
        raise UserError("no folder is given; give a run folder, or a folder of runs, before KEY=VALUE; see --help")
    folder, settings = Path(os.path.abspath(words[0])), dict(map(_setting, words[1:]))
    runs = [run for run in find_runs(folder) if run.path.parent.name != "analysis"] if folder.is_dir() else []
    if not runs:
        raise UserError(f"{words[0]} holds no run; give a run folder, or a folder of runs")
    name, steps = settings.pop("name", "default"), _steps(settings.pop("steps", "all"))
    if not re.fullmatch(r"\w[\w.=+-]*", name):
        raise UserError(f"name={name!r} cannot be the name of a folder; use letters, digits and _.=+-")
    root = Path(os.path.abspath(settings.pop("output", "") or folder))
    launcher = {key: settings.pop(key) for key in [*settings] if key.lstrip("+").startswith("hydra")}
    plans = []
    for run in runs:
        target = RunFolder(root / os.path.relpath(run.path, folder) / "analysis" / name)
        plans.append(_planned(run, target, root, steps, settings, config_dir))
    if len(plans) == 1 and plans[0].exit_code == 2:
        raise cli.Reported(2, plans[0].plan)
    overrides = [readable(f"{key}={value}") for key, value in launcher.items()]
    if config_dir:
        overrides.append(f"hydra.searchpath=[file://{config_dir.absolute()}]")
    analyses = _launched(overrides, plans)
    analyses.run(None)
    return analyses.conclude()


@dataclass
class PlannedAnalysis(Planned):
    """The analysis of one run. folder: the folder that is written; n_steps: how many checkpoints are measured."""

    n_steps: int = 0

    @property
    def placed(self) -> list[str]:
        return [*self.overrides]  # in which the folder is


def _planned(
    run: RunFolder,
    target: RunFolder,
    root: Path,
    steps: list[int] | str,
    settings: Mapping[str, str],
    config_dir: Path | None,
) -> PlannedAnalysis:
    name = os.path.relpath(target.path.parents[1], root) if target.path.parents[1] != root else run.name
    planned = partial(PlannedAnalysis, root=root, folder=target, name=name)
    try:
        analysis = plan(run, target, steps, _changes(run.config(), settings, config_dir))
        texts = {"run": run.path, "target": target.path, "changes": json.dumps(analysis.changes)}
        words = ",".join(f"{key}:{quoted(str(value))}" for key, value in texts.items())
        overrides = [f"analysis={{steps:{analysis.steps},{words}}}"]  # a dictionary is never an option's name
        if analysis.is_finished:
            return planned(overrides, plan="already finished", exit_code=0)
        if target.in_use():
            return planned(overrides, plan="in use by another process, skipped", exit_code=1)
        said = f"resumes after step {analysis.done[-1]}" if analysis.done else "begins"
        return planned(overrides, plan=said, n_steps=len(analysis.steps))
    except UserError as error:
        return planned([], plan=str(error), exit_code=2)


class Analyses(Multirun):
    """Analyses handed to a launcher. program: the command; see Multirun."""

    program = PROGRAM

    def view(self, batch: Sequence[Planned]) -> AbstractContextManager[None]:
        if not self.console.is_terminal:
            return nullcontext()
        from taskcluster.operations.live.terminal import StepsView

        return StepsView({run.folder: run.n_steps for run in batch if isinstance(run, PlannedAnalysis)})

    def conclude(self) -> int:
        """Print what came of every run; the exit code is the worst of the runs'."""
        self.show()
        return max(run.exit_code or 0 for run in self.runs)


def _launched(overrides: Sequence[str], plans: Sequence[PlannedAnalysis]) -> Analyses:
    """The analyses with the launcher that the overrides choose."""
    placed = [*overrides, f"hydra.sweep.dir={quoted(str(plans[0].root))}"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), job_name="analyze", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("analyze", placed, RunMode.MULTIRUN)
    setup_globals()
    context = HydraContext(loader, Callback())  # type: ignore[arg-type]  # its methods are all that launchers call
    task = cli.Job(job, PROGRAM)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
    return Analyses(launcher, config, plans)


def job(cfg: DictConfig) -> None:
    """One run measured again. Imports what measures only here, so that --help is quick."""
    imports.add_config_folders()
    try:
        with Interrupts():
            with imports.large():
                from taskcluster.measures.measure import MeasureFailed
                from taskcluster.training.progress import quieten
            quieten()
            asked = cfg.analysis
            run, target = RunFolder(Path(asked.run)), RunFolder(Path(asked.target))
            analysis = plan(run, target, list(asked.steps), json.loads(asked.changes))
            try:
                analyze(analysis, streams.console(plain=True))
            except (MeasureFailed, FloatingPointError) as error:
                raise cli.Reported(1, f"{run.path}: {error}; rerun the same command to resume") from error
            except OSError as error:
                said = f"{error.filename or target.path}: {error.strerror}; rerun the same command to resume"
                raise cli.Reported(1, said) from error
    except Interrupted as signal:
        say(PROGRAM, f"{cfg.analysis.run}: interrupted by {signal}; rerun the same command to resume")
        raise


def _is_override(word: str) -> bool:
    """Whether a word sets a key, or leaves one out (~measures.untrained), and is not a path such as seed=0."""
    key = word.partition("=")[0]
    is_path = Path(word).exists() or (os.sep in key and not key.lstrip("+").startswith("hydra/"))
    return ("=" in word or word.startswith("~")) and not is_path


def _is_setting(word: str) -> bool:
    """Whether a word KEY=VALUE sets a key of an analysis."""
    key, equals, _ = word.partition("=")
    of_launcher = key.lstrip("+").startswith(LAUNCHER_KEYS)
    return bool(equals) and (key in (*SETTINGS, *GROUPS) or key.startswith(RUN_KEYS) or of_launcher)


def _setting(word: str) -> tuple[str, str]:
    """Key and value. Raises UserError for a key that an analysis cannot set."""
    key, equals, value = word.partition("=")
    if not equals:
        raise UserError(f"{word!r} is not KEY=VALUE; see --help")
    if not _is_setting(word):
        allowed = "only measures, clusterer, data.probe_* and hydra/launcher can"
        raise UserError(f"{key} cannot be set in an analysis; {allowed}")
    return key, value


def _steps(given: str) -> list[int] | str:
    if given in ("all", "last"):
        return given
    try:
        return [int(step) for step in given.strip("[]").split(",")]
    except ValueError:
        raise UserError(f"steps={given} is neither all, last nor a list such as [0,600]") from None


def _changes(config: Mapping[str, Any], settings: Mapping[str, str], config_dir: Path | None) -> dict[str, object]:
    """What the settings change of a run's configuration, by dotted key: measures and a clusterer are chosen from their
    groups, with the run's seeds, and other values replace those of the run."""
    if config_dir:
        imports.add(config_dir)
    groups = [group for group in GROUPS if group in settings]
    chosen = [f"{key}={value}" for key, value in settings.items() if key.split(".")[0] in groups]
    others = [f"{key}={value}" for key, value in settings.items() if key.split(".")[0] not in groups]
    changes: dict[str, object] = {}
    if groups:
        seeds = [f"seed={config['seed']}", *(f"seeds.{source}={seed}" for source, seed in config["seeds"].items())]
        composed = cli.composed(*seeds, *chosen, config_dir=config_dir)
        changes |= {group: composed[group] for group in groups}
    for override in OverridesParser.create().parse_overrides(others):
        if override.is_sweep_override():
            raise UserError(f"{override.input_line} gives several values; give one")
        changes[override.key_or_group] = override.value()
    return changes


if __name__ == "__main__":
    main()
