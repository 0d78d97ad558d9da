"""taskcluster-analyze: measure runs again from their checkpoints, or a pretrained model.

in:  the command's arguments: a folder of runs, settings
out: a job for each run that is not finished, handed to a launcher of Hydra's; a table of the outcomes; an exit code
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
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
from taskcluster.operations.command_line.arguments import Parser, quoted, readable
from taskcluster.operations.live.speaking import speaking
from taskcluster.operations.multiruns.multirun import Multirun
from taskcluster.operations.multiruns.planning import Planned
from taskcluster.operations.processes import environment, streams
from taskcluster.operations.processes.interrupts import Interrupts
from taskcluster.runs.exported import follow
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.options import CONF
from taskcluster.training.analysis import analyze, plan
from taskcluster.training.outcome import in_one_sentence
from taskcluster.validation import UserError

PROGRAM = "taskcluster-analyze"

EXAMPLES = """
  taskcluster-analyze outputs/default/seed=0                              the run's own measures, at every checkpoint
  taskcluster-analyze multirun/seeds "measures=[interventions]"           other measures, of every run of a multirun
  taskcluster-analyze multirun/seeds hydra/launcher=joblib                runs side by side; also submitit_slurm and ray
  taskcluster-analyze RUN name=wide data.probe_size=4000 steps=last       a larger probe set, at the last step
  taskcluster-analyze RUN "measures=[interventions]" "measures.interventions.alphas=[0.5,1,2]" "steps=[0,600]"
  taskcluster-analyze RUN steps=last states=FOLDER                        keep the measured states too (tc.load_states)
  taskcluster-analyze model=pretrained model.path=FOLDER task=facts       no run: a pretrained model, or the folder of
                                                                          its checkpoints (step1000/ ...)

Each run gets a folder analysis/NAME in the form of a run folder, with journal, results and figures; report and
dashboard show it beside the run. Rerun the same command to resume. Keys that an analysis can set:
measures, measures.*, clusterer, clusterer.*, data.probe_size, data.probe_seed, data.probe_final_norm; hydra/launcher
and hydra.launcher.*. Without a folder, the command is shorthand for taskcluster-train experiment=probe, or for
experiment=probe_demonstrations where prompts are few-shot, and takes all keys of taskcluster-train. For the folder of
an exported run without data=, it is experiment=probe_exported: tasks and prompts are those of the run.
"""

SETTINGS = ("name", "steps", "output", "states")
GROUPS = ("measures", "clusterer")  # groups whose options can be chosen
PREFIXES = ("measures.", "clusterer.", "data.probe_", "hydra/launcher", "hydra.launcher.")


def main() -> None:
    environment.prepare()
    os.environ[cli.COMMAND] = PROGRAM
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} FOLDER [name=NAME] [steps=all|last|[STEP,...]] [output=DIR] [states=DIR] [KEY=VALUE ...]\n"
        f"       {PROGRAM} model=pretrained model.path=FOLDER [KEY=VALUE ...]",
        description="Measure runs again from their checkpoints, or measure a pretrained model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="FOLDER KEY=VALUE", help="a run, a multirun, or any folder of runs; what to measure"
    )
    parser.add_argument("--config-dir", type=Path, help="your folder with configuration groups such as measures/")
    given = parser.parse_intermixed_args()
    with cli.answering(), Interrupts():
        if all(map(_is_override, given.words)) and not all(map(_is_setting, given.words)):
            _probe(given.words, given.config_dir)
        sys.exit(_analyze(given.words, given.config_dir))


def _probe(words: list[str], config_dir: Path | None) -> None:
    """Run the experiment that measures a pretrained model. Raises UserError for a setting that only an analysis has."""
    if given := [word for word in words if word.partition("=")[0] in SETTINGS[1:]]:
        raise UserError(f"{given[0]} needs a run; measure the model first, then analyze that run's folder")
    exported = follow([readable(word) for word in words], told=False)
    if exported and not any(word.startswith("data=") for word in words):
        experiment = "probe_exported"
    else:
        chosen = [word for word in words if not word.startswith(("hydra", "measures."))]
        task = cli.composed("experiment=probe", *chosen, config_dir=config_dir)["task"]
        experiment = "probe_demonstrations" if task.get("describe") == "demonstrations" else "probe"
    options = ["--config-dir", str(config_dir)] if config_dir else []
    os.execv(sys.executable, [sys.executable, "-m", "taskcluster.train", *options, f"experiment={experiment}", *words])


def _analyze(words: list[str], config_dir: Path | None) -> int:
    from taskcluster.results.conditions import find_runs  # only now, so that --help is quick
    from taskcluster.training.answer import show

    if not words or _is_setting(words[0]):
        raise UserError("no folder given; write a run folder or a folder of runs before KEY=VALUE; see --help")
    folder, settings = Path(os.path.abspath(words[0])), _settings(words[1:])
    runs = [run for run in find_runs(folder) if run.path.parent.name != "analysis"] if folder.is_dir() else []
    if not runs:
        raise UserError(f"{words[0]} contains no run; give a run folder, or a folder of runs")
    name, steps = settings.pop("name", "default"), _steps(settings.pop("steps", "all"))
    if not re.fullmatch(r"\w[\w.=+-]*", name):
        raise UserError(f"name={name!r} cannot be a folder name; use letters, digits and _.=+-")
    root = Path(os.path.abspath(settings.pop("output", "") or folder))
    states = os.path.abspath(settings.pop("states")) if settings.get("states") else ""
    if os.path.isfile(states):
        raise UserError(f"states={states} is a file; choose a folder")
    launcher = {key: settings.pop(key) for key in [*settings] if key.lstrip("+").startswith("hydra")}
    plans = []
    for run in runs:
        target = RunFolder(root / os.path.relpath(run.path, folder) / "analysis" / name)
        saved = os.path.normpath(os.path.join(states, os.path.relpath(run.path, folder))) if states else ""
        plans.append(_planned(run, target, root, steps, settings, config_dir, saved))
    if len(plans) == 1 and plans[0].exit_code == 2:
        raise UserError(plans[0].plan)
    overrides = [readable(f"{key}={value}") for key, value in launcher.items()]
    if config_dir:
        overrides.append(f"hydra.searchpath=[file://{config_dir.absolute()}]")
    analyses = _launched([*overrides, f"hydra.sweep.dir={quoted(str(root))}"], plans)
    analyses.run(None)
    if analyses.show() == ["finished"]:
        show(plans[0].folder, analyses.console)
    return analyses.exit_code


def _planned(
    run: RunFolder,
    target: RunFolder,
    root: Path,
    steps: list[int] | str,
    settings: Mapping[str, str],
    config_dir: Path | None,
    states: str,
) -> Planned:
    name = os.path.relpath(target.path.parents[1], root) if target.path.parents[1] != root else run.name
    planned = Planned([], root, target, "begins", name=name)
    try:
        analysis = plan(run, target, steps, _changes(run.config(), settings, config_dir))
    except UserError as error:
        planned.plan, planned.exit_code = str(error), 2
        return planned
    texts = {"run": run.path, "target": target.path, "changes": json.dumps(analysis.changes), "states": states}
    words = ",".join(f"{key}:{quoted(str(value))}" for key, value in texts.items())
    planned.overrides = [f"analysis={{steps:{analysis.steps},{words}}}"]  # a dictionary is never an option's name
    if analysis.is_finished and not states:
        planned.plan, planned.exit_code = "already finished", 0
    elif target.in_use():
        planned.plan, planned.exit_code = "in use by another process, skipped", 1
    elif analysis.done:
        planned.plan = f"resumes after step {analysis.done[-1]}"
    return planned


def _launched(overrides: list[str], plans: Sequence[Planned]) -> Multirun:
    """Return the analyses with the launcher that the overrides choose."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), job_name="analyze", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("analyze", overrides, RunMode.MULTIRUN)
    setup_globals()
    context = HydraContext(loader, Callback())  # type: ignore[arg-type]  # its methods are all that launchers call
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=cli.Job(job), config=config)
    return Multirun(launcher, config, plans)


def job(cfg: DictConfig) -> None:
    """Measure one run again."""
    environment.add_config_folders()
    asked = cfg.analysis
    run, target = RunFolder(Path(asked.run)), RunFolder(Path(asked.target))
    with in_one_sentence(target.path):
        planned, console = plan(run, target, list(asked.steps), json.loads(asked.changes)), streams.console()
        with speaking(console, run.name):
            analyze(planned, console, Path(asked.states) if asked.states else None)


def _is_override(word: str) -> bool:
    """Whether a word sets a key, or leaves one out (~measures.untrained), and is not a path such as seed=0."""
    key = word.partition("=")[0]
    is_path = Path(word).exists() or (os.sep in key and not key.lstrip("+").startswith("hydra/"))
    return ("=" in word or word.startswith("~")) and not is_path


def _is_setting(word: str) -> bool:
    """Whether a word KEY=VALUE sets a key of an analysis."""
    key, equals, _ = word.partition("=")
    return bool(equals) and (key in (*SETTINGS, *GROUPS) or key.lstrip("+").startswith(PREFIXES))


def _settings(words: Sequence[str]) -> dict[str, str]:
    """Parse KEY=VALUE words. Raises UserError for a key that an analysis cannot set."""
    for word in words:
        if "=" not in word:
            raise UserError(f"{word!r} is not KEY=VALUE; see --help")
        if not _is_setting(word):
            raise UserError(
                f"{word.partition('=')[0]} cannot be set in an analysis; only measures, clusterer, data.probe_* and "
                "hydra/launcher can"
            )
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _steps(given: str) -> list[int] | str:
    if not re.fullmatch(r"all|last|\[?\d+(, ?\d+)*\]?", given):
        raise UserError(f"steps={given} is not all, last or a list such as [0,600]")
    return given if given.isalpha() else [int(step) for step in re.findall(r"\d+", given)]


def _changes(config: Mapping[str, Any], settings: Mapping[str, str], config_dir: Path | None) -> dict[str, object]:
    """Return the changes of a run's configuration by dotted key. Measures and a clusterer come from their groups, with
    the run's seeds; other values replace the run's."""
    if config_dir:
        environment.add_folder(config_dir)
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
