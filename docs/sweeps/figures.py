"""The figures of the pages that show kept runs: those of a run, or of a report over some conditions of a sweep."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sweeps import bottleneck, regexes, separator_and_x, shots
from sweeps.cells import Runs, restricted, select
from sweeps.depths import of_sequences

from taskcluster.pages import charts, comparison_charts, rendering, sweep_chart
from taskcluster.pages.marks import Chart
from taskcluster.results.findings import Findings
from taskcluster.runs.folder import RunFolder
from taskcluster.training import figures


class Figure(NamedTuple):
    """chart: its name in a report; conditions: those that it shows."""

    chart: str
    conditions: Callable[[Findings], Sequence[Runs]] = lambda found: found.conditions


def by_label(found: Findings) -> list[Runs]:
    return sorted(found.conditions, key=lambda condition: condition.label)


OF_SWEEPS: Mapping[str, Mapping[str, Figure]] = {
    "seeds_layers": {
        "report": Figure("ari", of_sequences),
        "ari_by_layer": Figure("ari_by_layer", of_sequences),
        "instruments": Figure("instruments", lambda found: of_sequences(found, 6)),
        "agreement": Figure("agreement", lambda found: of_sequences(found, 6)),
    },
    "causal": {
        "map": Figure("map", lambda found: of_sequences(found, 6)),
        "effect_by_layer": Figure("effect_add_instruction_end_by_layer", by_label),
        "path": Figure("path", by_label),
    },
    "regexes": {"regexes": Figure("baselines", lambda found: [select(found, regexes.THREE_REGEXES)])},
    "n_instructions": {"instructions": Figure("against")},
    "shots": {"shots": Figure("shots")},
    "bottleneck": {"bottleneck": Figure("bottleneck")},
}
OWN: Mapping[str, Callable[[Findings], Mapping[str, Chart]]] = {"shots": shots.charts, "bottleneck": bottleneck.charts}
OF_DEFAULT_RUN = ("ari", "baselines", "nuisance")


def draw(name: str, found: Findings, runs: Path, images: Path) -> None:
    """Write the figures of a sweep in `runs` to the folder `images`."""
    if name == "reproduce":
        with TemporaryDirectory() as folder:  # drawn again: a kept run has the figures of the code that trained it
            run = shutil.copytree(runs / name / "seed=0", Path(folder, "run"), ignore=shutil.ignore_patterns("*.ckpt*"))
            figures.draw(RunFolder(run))
            for figure in OF_DEFAULT_RUN:
                shutil.copyfile(run / "figures" / f"{figure}.png", images / f"{figure}.png")
    if name == "causal":
        rendering.draw({"separator_and_x": separator_and_x.chart()}, images, ("png",))
    for image, figure in OF_SWEEPS.get(name, {}).items():
        shown = restricted(found, figure.conditions(found))
        points = [point for _, of_condition in shown.points() for point in of_condition]
        made = sweep_chart.sweep_chart(points, [*shown.named()], shown.catalogue)
        made |= charts.condition_charts(points, shown.catalogue)
        made |= comparison_charts.instrument_charts(points, shown.agreements(), shown.catalogue)
        made |= OWN[name](shown) if name in OWN else {}
        with TemporaryDirectory() as folder:
            rendering.draw({image: made[figure.chart]}, Path(folder), ("png",), shown.names)
            shutil.copyfile(Path(folder) / f"{image}.png", images / f"{image}.png")
