"""Metrics that an ARI is compared with: baselines, the same clusters against other labels, chance. Free of torch.

A key begins with that of the ARI: "ari_symbols", "ari_within_x_p". `Metric.kind` says what each is, and `Metric.of` of
which ARI.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from taskcluster.metrics import ARI, Metric, at_x, control

Scored = Literal["instruction_end", "input", "answer"]

Unit = Literal["symbols", "words", "tokens"]  # what texts consist of

AT: tuple[Scored, ...] = ("instruction_end", "input")  # where the default run's ARIs are


class Score(NamedTuple):
    """An ARI of clusters and tasks: of all states at a position, or, `within`, of those with each x by themselves."""

    metric: Metric
    position: Scored
    within: bool


def scores(at: Sequence[Scored]) -> list[Score]:
    """Those at the given positions that pages show."""
    found = []
    for position in dict.fromkeys(at):
        if position == "instruction_end":
            found.append(Score(ARI, position, within=False))
        else:
            over_all, within = at_x(position)[0], at_x(position)[3]
            found += [Score(over_all, position, within=False), Score(within, position, within=True)]
    return [score for score in found if "tables" in score.metric.views]


def of_surface(of: Metric, n: int, unit: Unit) -> tuple[Metric, ...]:
    """Of clusters of the prompts' texts: symbols, runs of n symbols, mean embedding, edit distance."""
    grams = {2: "bigrams", 3: "trigrams"}.get(n, f"{n}_grams")
    told = {
        "symbols": f"bag of {unit}",
        grams: f"bag of {grams.replace('_', '-')}",
        "mean_embedding": "mean embedding",
        "edit_distance": "edit distance",
    }
    return tuple(control(of, key, "baseline", where, by_layer=False) for key, where in told.items())


def of_untrained(of: Metric) -> Metric:
    """Of the states of a network with fresh weights."""
    return control(of, "untrained", "baseline", "untrained network")


def of_nuisance(position: Scored, words: bool, several: bool) -> dict[str, Metric]:
    """{label: the ARI of the clusters at a position against it}; several: whether a task has several descriptions."""
    unit = "word" if words else "symbol"
    of = scores([position])[0].metric if position != "input" else at_x(position)[0]
    stem = "ari" if position == "instruction_end" else f"ari_{position}"
    at_separator = {"first": f"first {unit}", "last": f"last {unit}", "length": "length"}
    labels = at_separator if position == "instruction_end" else {"x": "x", "y": "y"}
    of_description = {"regex": "description" if words else "regex"} if several else {}
    return {
        label: replace(control(of, "", "nuisance", told), key=f"{stem}_to_{label}")
        for label, told in (of_description | labels).items()
    }


def of_chance(of: Metric) -> tuple[Metric, Metric, Metric, Metric]:
    """Of permutations of the tasks: the mean and the largest ARI, and the p value; the ARI for a fixed k."""
    p_value = replace(
        control(of, "p", "p", f"of the ARI {of.where}"), name="p", label="p", axis="p", least=None, chance=None
    )
    unnamed: dict[str, Any] = {
        "short": "",
        "label": "",
        "axis": "",
        "low": None,
        "least": None,
    }  # it has no lower bound
    fixed_k = replace(of, key=f"{of.key}_fixed_k", name="ARI for fixed k", views=("tables",), **unnamed)
    return (
        control(of, "shuffled", "chance", "of shuffled labels"),
        control(of, "shuffled_largest", "largest", "of shuffled labels, the largest"),
        p_value,
        fixed_k,
    )


def of_split(words: bool) -> tuple[Metric, Metric]:
    """The ARI at the separator over all pairs of states but those of one task and two of its regexes, and over all but
    those of one regex."""
    unit, units = ("description", "descriptions") if words else ("regex", "regexes")
    shown: dict[str, Any] = {"least": -1, "views": ("curves", "layers", "tables")}
    return (
        replace(
            ARI, key="ari_within_regex", where=f"{ARI.where}, within a {unit}", short=f"ARI within a {unit}", **shown
        ),
        replace(
            ARI,
            key="ari_across_regexes",
            where=f"{ARI.where}, across {units} of a task",
            short=f"ARI across {units}",
            **shown,
        ),
    )
