"""taskcluster-analyze: measure runs again from their checkpoints."""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskcluster import streams
from taskcluster.arguments import Parser, say
from taskcluster.validation import UserError

EXAMPLES = """
  taskcluster-analyze outputs/default/seed=0                              the run's own measures, at every checkpoint
  taskcluster-analyze multirun/seeds "measures=[interventions]"           other measures, of every run of a multirun
  taskcluster-analyze RUN name=wide data.probe_size=4000 steps=last       a larger probe set, at the last step
  taskcluster-analyze RUN "measures=[interventions]" "measures.interventions.alphas=[0.5,1,2]" "steps=[0,600]"

Each run gets a folder analysis/NAME in the form of a run folder, with journal, results and figures; report and
dashboard show it beside the run. Rerun the same command to resume. Keys that an analysis can set:
measures, measures.*, clusterer.*, data.probe_size, data.probe_seed.
"""


def main() -> None:
    streams.guard()
    parser = Parser(
        prog="taskcluster-analyze",
        usage="taskcluster-analyze FOLDER [name=NAME] [steps=all|last|[STEP,...]] [KEY=VALUE ...]",
        description="Measure runs again from their checkpoints.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a run, a multirun, or any folder of runs")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="what to measure, if not what the run measured"
    )
    parser.add_argument("--config-dir", type=Path, help="a folder of your own with groups such as measures/")
    arguments = parser.parse_args()
    from taskcluster import cli  # only now, so that --help is quick

    try:
        _analyze(arguments.folder, arguments.settings, arguments.config_dir)
    except cli.MISTAKES as error:
        say("taskcluster-analyze", cli.sentence(error))
        sys.exit(2)
    except KeyboardInterrupt:
        say("taskcluster-analyze", "interrupted; rerun the same command to resume")
        sys.exit(130)


def _analyze(folder: Path, words: list[str], config_dir: Path | None) -> None:
    settings = dict(_setting(word) for word in words)
    name, steps = settings.pop("name", "default"), _steps(settings.pop("steps", "all"))
    if not re.fullmatch(r"\w[\w.=+-]*", name):
        raise UserError(f"name={name!r} cannot be the name of a folder; use letters, digits and _.=+-")
    from taskcluster.results.aggregate import find_runs
    from taskcluster.training.analysis import analyze

    runs = [run for run in find_runs(folder) if run.path.parent.name != "analysis"] if folder.is_dir() else []
    if not runs:
        raise UserError(f"{folder} holds no run; give a run folder, or a folder of runs")
    console = streams.console()
    for run in runs:
        analyze(run, name, steps, _changes(run.config(), settings, config_dir), console)


def _setting(word: str) -> tuple[str, str]:
    """Key and value. Raises UserError for a key that an analysis cannot set."""
    key, equals, value = word.partition("=")
    if not equals:
        raise UserError(f"{word!r} is not KEY=VALUE; see --help")
    if key not in ("name", "steps", "measures") and not key.startswith(("measures.", "clusterer.", "data.probe_")):
        raise UserError(f"{key} cannot be set in an analysis; only measures, clusterer.* and data.probe_* can")
    return key, value


def _steps(given: str) -> list[int] | str:
    if given in ("all", "last"):
        return given
    try:
        return [int(step) for step in given.strip("[]").split(",")]
    except ValueError:
        raise UserError(f"steps={given} is neither all, last nor a list such as [0,600]") from None


def _changes(config: Mapping[str, Any], settings: Mapping[str, str], config_dir: Path | None) -> dict[str, object]:
    """What the settings change of a run's configuration, by dotted key: measures are chosen from their group, with the
    run's seeds, and other values replace those of the run."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from taskcluster.cli import composed
    from taskcluster.imports import add

    if config_dir:
        add(config_dir)
    own = {key: value for key, value in settings.items() if "measures" in settings and key.startswith("measures")}
    changes: dict[str, object] = {}
    if own:
        seeds = [f"seed={config['seed']}", *(f"seeds.{source}={seed}" for source, seed in config["seeds"].items())]
        chosen = [f"{key}={value}" for key, value in own.items()]
        changes["measures"] = composed(*seeds, *chosen, config_dir=config_dir)["measures"]
    others = [f"{key}={value}" for key, value in settings.items() if key not in own]
    for override in OverridesParser.create().parse_overrides(others):
        changes[override.key_or_group] = override.value()
    return changes


if __name__ == "__main__":
    main()
