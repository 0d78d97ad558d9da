"""The catalogue of metrics: everything that readers of the journal need to know. Free of torch.

in:  the declarations of measures; catalogue.json of a run folder
out: Metrics: key in the journal, names for readers, range, level of chance

A measure declares the metrics that it computes, and a run writes the declarations into its folder, where they are read
by processes that never import the measure. Here are those that every run has, and those that claims are about.
`taskcluster.views` says where each is shown.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

View = Literal[
    "runs", "curves", "layers", "tables", "map", "path", "beside", "instruments", "matrix", "examples", "end"
]

Kind = Literal["", "noise", "chance", "largest", "p", "baseline", "nuisance", "lower", "upper"]


@dataclass(frozen=True)
class Metric:
    """A number that a measure gives for each layer, or once.

    Attributes:
        key: in the journal, "KEY/SPLIT/layer_3", or "SPLIT/KEY" for a metric without layers, or "KEY/SPLIT" for one
            by two layers.
        name: of the quantity, as in "ARI".
        where: it is measured, as in "at the separator".
        short: name and place in as few words as possible, for columns; by default `name`.
        label: the quantity in full, for titles; by default `name`.
        axis: the label of an axis; by default `label`.
        by_layer: whether there is a number for every layer.
        by_two_layers: whether there is a number for every pair of layers, a matrix. The journal has it as a list of
            rows.
        by_example: whether there is a number for every example. The journal has their mean, and the run folder's
            examples/ all of them.
        position: of the states that it is computed from, if any.
        low: the lower end of its range and of axes; None if there is none.
        high: the upper end.
        least: the least value that it can take, if that is below `low`.
        chance: its value if states have nothing to do with tasks, if that is known.
        views: where a metric of your own is shown besides the journal, out of the views of `taskcluster.views`; by
            default in "runs", "curves", "layers" and "tables", and as a "matrix" or by its "examples" if it has them.
        of: the key of the metric that it is a control of, or is compared with, if there is one.
        kind: of the control: "noise" for the same measurement with other seeds; "chance" for the mean over measurements
            of something that has nothing to do with tasks, "largest" for the largest of them, "p" for the p value that
            they give; "baseline" for the value without a trained network; "nuisance" for the same clusters against
            other labels than the task; "lower" and "upper" for the ends of its interval over tasks.
    """

    key: str
    name: str
    where: str = ""
    short: str = ""
    label: str = ""
    axis: str = ""
    by_layer: bool = True
    by_two_layers: bool = False
    by_example: bool = False
    position: str = ""
    low: float | None = None
    high: float | None = None
    least: float | None = None
    chance: float | None = None
    views: tuple[View, ...] | None = field(default=None, compare=False)
    of: str = ""
    kind: Kind = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z]\w*", self.key, re.ASCII):
            raise ValueError(f"a metric's key must be letters, digits and _, and begin with a letter: {self.key!r}")
        if self.by_two_layers and self.by_example:
            raise ValueError(f"the metric {self.key!r} is by two layers and by example; choose one")
        object.__setattr__(self, "short", self.short or self.name)
        object.__setattr__(self, "label", self.label or self.name)
        object.__setattr__(self, "axis", self.axis or self.label)

    @property
    def title(self) -> str:
        """The name with the place: "ARI at the separator"."""
        return f"{self.name} {self.where}".strip()

    @property
    def emerges(self) -> bool:
        """Whether the step at half of its rise is reported: it goes from 0 to 1."""
        return (self.low, self.high) == (0, 1)

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest value that it can take, at which intervals are cut."""
        least = self.low if self.least is None else self.least
        return -math.inf if least is None else least, math.inf if self.high is None else self.high

    @property
    def axes(self) -> tuple[str, ...]:
        """What its numbers are by, axis after axis: "layer", "other_layer", "example"."""
        if self.by_two_layers:
            return "layer", "other_layer"
        return (("layer",) if self.by_layer else ()) + (("example",) if self.by_example else ())

    def stem(self, split: str) -> str:
        """The journal's keys of a split up to the layer: "ari/val", or all of "val/accuracy", or "cka/val" of a
        matrix."""
        return f"{self.key}/{split}" if self.by_layer or self.by_two_layers else f"{split}/{self.key}"

    def at(self, split: str, layer: int) -> str:
        """The journal's key: "ari/val/layer_3", or "val/accuracy" for a metric without layers."""
        return f"{self.stem(split)}/layer_{layer}" if self.by_layer and not self.by_two_layers else self.stem(split)


Catalogue = Mapping[str, Metric]

# In the order of the prompt. A metric's position is one of these, unless a measure of your own has others.
PLACES = {
    "demonstrations": "at the labels of demonstrations",
    "instruction": "at all instruction tokens",
    "instruction_last_1": "at the separator of prompts of one length",
    "instruction_last_2": "at the last two instruction tokens",
    "instruction_last_4": "at the last four instruction tokens",
    "instruction_without_end": "at all instruction tokens but the separator",
    "instruction_end": "at the separator",
    "instruction_end_to_input": "from the separator into x",
    "input": "at x",
    "answer": "at the answer",
}

ACCURACY = Metric(
    "accuracy", "accuracy", label="Accuracy of y, given I and x", axis="accuracy", by_layer=False, low=0, high=1
)
LOSS = Metric("loss", "loss", axis="loss (nats)", by_layer=False, low=0)
ALWAYS = (ACCURACY, LOSS)  # measured at every measured step, with any measures

ARI = Metric(
    "ari",
    "ARI",
    "at the separator",
    label="ARI of clusters and tasks",
    axis="adjusted Rand index",
    position="instruction_end",
    low=0,
    high=1,
    least=-0.5,  # Chacon and Rastrojo, "Minimum adjusted Rand index for two clusterings of a given size", 2023
    chance=0,
)
NMI = Metric("nmi", "NMI", ARI.where, position="instruction_end", low=0, high=1)
INERTIA = Metric("inertia", "inertia", ARI.where, position="instruction_end", low=0)


def at_x(position: str) -> tuple[Metric, Metric, Metric, Metric, Metric]:
    """Of the clusters at "input", the last token of x, or at "answer", the token that predicts y: ARI, NMI and inertia
    over all states; ARI within each x with the task, and with y."""
    where, within = PLACES[position], "" if position == "input" else f"_at_{position}"

    def declared(metric: Metric, key: str, place: str = where, short: str = "") -> Metric:
        return replace(metric, key=key, where=place, short=short or metric.name, position=position)

    return (
        declared(ARI, f"ari_at_{position}", short=f"ARI {where}"),
        declared(NMI, f"nmi_at_{position}"),
        declared(INERTIA, f"inertia_at_{position}"),
        declared(ARI, f"ari_within_x{within}", f"{where}, within each value of x", "ARI within x"),
        declared(ARI, f"ari_within_x_to_y{within}", f"{where}, within each x, against y", "ARI within x to y"),
    )


ARI_WITHIN_X = at_x("input")[3]


def control(of: Metric, key: str, kind: Kind, where: str, by_layer: bool = True) -> Metric:
    """Declare a control or baseline of another metric, with the key "METRIC_KEY"."""
    key = f"{of.key}_{key}"
    return replace(of, key=key, kind=kind, where=where, short="", label="", axis="", of=of.key, by_layer=by_layer)


def ends(of: Metric) -> tuple[Metric, Metric]:
    """The ends of the 95 % interval of a single number over tasks."""
    where = f"{of.where}, interval over tasks".lstrip(", ")
    return control(of, "lower", "lower", where, of.by_layer), control(of, "upper", "upper", where, of.by_layer)


def kmeans_sd(of: Metric) -> Metric:
    """The standard deviation of an ARI over seeds of KMeans."""
    return control(of, "kmeans_sd", "noise", "with another KMeans seed")


# The metrics of a run folder that has no catalogue.
OWN = (*ALWAYS, ARI, NMI, INERTIA, *at_x("input"), kmeans_sd(ARI), kmeans_sd(ARI_WITHIN_X))


def catalogue(*declared: Iterable[Metric]) -> Catalogue:
    """Key -> Metric: what every run has, and what measures declare, in this order.

    Raises ValueError for one key that is declared in two ways.
    """
    known = {metric.key: metric for metric in ALWAYS}
    for metric in chain.from_iterable(declared):
        if known.setdefault(metric.key, metric) != metric:
            raise ValueError(f"two measures declare the metric {metric.key!r} differently; rename one")
    return known


def belonging(known: Catalogue, of: Metric, *kinds: Kind) -> list[Metric]:
    """The metrics of these kinds that belong to another."""
    return [metric for metric in known.values() if metric.of == of.key and metric.kind in kinds]
