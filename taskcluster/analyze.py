"""taskcluster-analyze: measure runs again from their checkpoints, or a pretrained model."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskcluster import environment, streams
from taskcluster.arguments import Parser, readable, say
from taskcluster.validation import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from taskcluster.runs.folder import RunFolder

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

OWN = ("name", "steps", "output")
GROUPS = ("measures", "clusterer")  # of which other options can be chosen
OF_RUNS = ("measures.", "clusterer.", "data.probe_")  # groups of keys
OF_LAUNCHERS = ("hydra/launcher", "hydra.launcher.")

EXPERIMENTS = {"demonstrations": "probe_demonstrations"}  # without a folder, by how tasks are told; else probe


def main() -> None:
    environment.prepare()
    words, config_dir = _arguments()
    from taskcluster import cli  # only now, so that --help is quick
    from taskcluster.processes.interrupts import Interrupts

    with cli.answering(PROGRAM):
        if all(_is_override(word) for word in words) and any(_key(word) is None for word in words):
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
    from taskcluster.cli import COMMAND, composed
    from taskcluster.runs.exported import follow

    own = ["--config-dir", str(config_dir)] if config_dir else []
    if follow([readable(word, False) for word in words], told=False) and not any(w.startswith("data=") for w in words):
        experiment = "experiment=probe_exported"
    else:
        chosen = [word for word in words if not word.startswith(("hydra", "measures."))]
        told = composed("experiment=probe", *chosen, config_dir=config_dir)["task"].get("describe")
        experiment = f"experiment={EXPERIMENTS.get(told, 'probe')}"
    os.environ[COMMAND] = PROGRAM
    os.execv(sys.executable, [sys.executable, "-m", "taskcluster.train", *own, experiment, *words])


def _analyze(words: list[str], config_dir: Path | None) -> int:
    from taskcluster.analyses import Request, launched, planned
    from taskcluster.cli import Job, Reported
    from taskcluster.results.aggregate import find_runs

    if not words or _key(words[0]) is not None:
        raise UserError("no folder is given; give a run folder, or a folder of runs, before KEY=VALUE; see --help")
    folder, settings = Path(os.path.abspath(words[0])), [_setting(word) for word in words[1:]]
    own = {key: value for key, value in settings if key in OWN}
    of_runs = {key: value for key, value in settings if key not in OWN and not key.lstrip("+").startswith("hydra")}
    of_launcher = [readable(f"{key}={value}", False) for key, value in settings if key.lstrip("+").startswith("hydra")]
    steps = _steps(own.get("steps", "all"))
    runs = [run for run in find_runs(folder) if run.path.parent.name != "analysis"] if folder.is_dir() else []
    if not runs:
        raise UserError(f"{words[0]} holds no run; give a run folder, or a folder of runs")

    def changes(run: "RunFolder") -> Mapping[str, object]:
        return _changes(run.config(), of_runs, config_dir)

    output = Path(os.path.abspath(own["output"])) if own.get("output") else None
    plans = planned(runs, Request(folder, own.get("name", "default"), steps, changes, output))
    if len(plans) == 1 and plans[0].exit_code == 2:
        raise Reported(2, plans[0].plan)
    if config_dir:
        of_launcher.append(f"hydra.searchpath=[file://{config_dir.absolute()}]")
    analyses = launched(of_launcher, Job(job, PROGRAM), plans)
    analyses.run(None)
    return analyses.conclude()


def job(cfg: "DictConfig") -> None:
    """One run measured again. Imports what measures only here, so that --help is quick."""
    import json

    from taskcluster import imports
    from taskcluster.cli import Reported
    from taskcluster.processes.interrupts import Interrupted, Interrupts

    imports.add_config_folders()
    try:
        with Interrupts():
            with imports.large():
                from taskcluster.measures.measure import MeasureFailed
                from taskcluster.runs.analyses import plan
                from taskcluster.runs.folder import RunFolder
                from taskcluster.training.analysis import analyze
                from taskcluster.training.progress import quieten
            quieten()
            asked = cfg.analysis
            run = RunFolder(Path(asked.run))
            analysis = plan(run, Path(asked.place), asked.name, list(asked.steps), json.loads(asked.changes))
            try:
                analyze(analysis, streams.console(plain=True))
            except (MeasureFailed, FloatingPointError) as error:
                raise Reported(1, f"{run.path}: {error}; rerun the same command to resume") from error
            except OSError as error:
                said = f"{error.filename or analysis.target.path}: {error.strerror}; rerun the same command to resume"
                raise Reported(1, said) from error
    except Interrupted as signal:
        say(PROGRAM, f"{cfg.analysis.run}: interrupted by {signal}; rerun the same command to resume")
        raise


def _is_path(word: str) -> bool:
    """Whether a first word is a path rather than KEY=VALUE: runs are in folders such as seed=0."""
    key = word.partition("=")[0]
    return Path(word).exists() or (os.sep in key and not key.lstrip("+").startswith("hydra/"))


def _is_override(word: str) -> bool:
    """Whether a word sets a key, or leaves one out (~measures.untrained), and is no path."""
    return ("=" in word or word.startswith("~")) and not _is_path(word)


def _key(word: str) -> str | None:
    """The key of a word KEY=VALUE, None for a word that sets none."""
    key, equals, _ = word.partition("=")
    settable = key in (*OWN, *GROUPS) or key.startswith(OF_RUNS) or key.lstrip("+").startswith(OF_LAUNCHERS)
    return key if equals and settable else None


def _setting(word: str) -> tuple[str, str]:
    """Key and value. Raises UserError for a key that an analysis cannot set."""
    key, equals, value = word.partition("=")
    if not equals:
        raise UserError(f"{word!r} is not KEY=VALUE; see --help")
    if _key(word) is None:
        said = "only measures, clusterer, data.probe_* and hydra/launcher can"
        raise UserError(f"{key} cannot be set in an analysis; {said}")
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
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from taskcluster.cli import composed
    from taskcluster.imports import add

    if config_dir:
        add(config_dir)
    chosen_groups = [group for group in GROUPS if group in settings]
    own = {key: value for key, value in settings.items() if key.split(".")[0] in chosen_groups}
    changes: dict[str, object] = {}
    if own:
        seeds = [f"seed={config['seed']}", *(f"seeds.{source}={seed}" for source, seed in config["seeds"].items())]
        chosen = [f"{key}={value}" for key, value in own.items()]
        made = composed(*seeds, *chosen, config_dir=config_dir)
        changes |= {group: made[group] for group in chosen_groups}
    others = [f"{key}={value}" for key, value in settings.items() if key not in own]
    for override in OverridesParser.create().parse_overrides(others):
        if override.is_sweep_override():
            raise UserError(f"{override.input_line} gives several values; give one")
        changes[override.key_or_group] = override.value()
    return changes


if __name__ == "__main__":
    main()
