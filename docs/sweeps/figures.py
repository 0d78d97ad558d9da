"""The figures of the pages that show kept runs: those of a run, or of a report over some conditions of a sweep."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sweeps.cells import Runs, restricted, select

from taskcluster.pages import charts, instruments, rendering
from taskcluster.pages import sweeps as against
from taskcluster.results.findings import Findings


class Figure(NamedTuple):
    """chart: its name in a report; conditions: those that it shows."""

    chart: str
    conditions: Callable[[Findings], Sequence[Runs]] = lambda found: found.conditions


def _depths(found: Findings) -> list[Runs]:
    own = {"data__loss_on": "sequence", "task__shuffle_outputs": False}
    return [select(found, model__n_layer=n_layer, **own) for n_layer in (2, 4, 6)]


def _six(found: Findings) -> list[Runs]:
    return [select(found, model__n_layer=6, data__loss_on="sequence", task__shuffle_outputs=False)]


def _three_regexes(found: Findings) -> list[Runs]:
    settings = {"task__holdout": "instruction", "data__loss_on": "sequence", "task__shuffle_outputs": False}
    return [select(found, **settings)]


OF_SWEEPS: Mapping[str, Mapping[str, Figure]] = {
    "seeds_layers": {
        "report": Figure("ari", _depths),
        "ari_by_layer": Figure("ari_by_layer", _depths),
        "ari_within_x": Figure("ari_within_x", _depths),
        "instruments": Figure("instruments", _six),
        "agreement": Figure("agreement", _six),
    },
    "causal": {
        "map": Figure("map", _six),
        "effect_by_layer": Figure("effect_add_instruction_by_layer"),
        "path": Figure("path"),
    },
    "regexes": {"regexes": Figure("baselines", _three_regexes)},
    "n_instructions": {"instructions": Figure("against")},
}
OF_DEFAULT_RUN = ("ari", "baselines", "nuisance", "tsne")


def draw(name: str, found: Findings, runs: Path, images: Path) -> None:
    """Write the figures of a sweep in `runs` to the folder `images`."""
    if name == "reproduce":
        for figure in OF_DEFAULT_RUN:
            shutil.copyfile(runs / name / "seed=0" / "figures" / f"{figure}.png", images / f"{figure}.png")
    for image, figure in OF_SWEEPS.get(name, {}).items():
        shown = restricted(found, figure.conditions(found))
        points = [point for _, of_condition in shown.points() for point in of_condition]
        made = against.of_conditions(points, [*shown.named()], shown.catalogue)
        made |= charts.of_conditions(points, shown.catalogue)
        made |= instruments.of_conditions(points, shown.agreements(), shown.catalogue)
        with TemporaryDirectory() as folder:
            rendering.draw({image: made[figure.chart]}, Path(folder), ("png",))
            shutil.copyfile(Path(folder) / f"{image}.png", images / f"{image}.png")
