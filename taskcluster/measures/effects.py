"""Metrics of interventions and of vectors: what moving a state does to the answers. Free of torch."""

from collections.abc import Iterable
from typing import Literal

from taskcluster.metrics import PLACES, VIEWS, Metric

# Of pairs (A, B) of tasks that share x and disagree about y: `taskcluster.measures.interventions`.
OF_PAIRS = (
    Metric("clean_a", "answers of A", "in prompts of A", by_layer=False, low=0, high=1, views=("tables",)),
    Metric("clean_b", "answers of B", "in prompts of A", by_layer=False, low=0, high=1, views=("tables",)),
    Metric("source_b", "answers of B", "in prompts of B", by_layer=False, low=0, high=1, views=("tables",)),
)

EDITED = {  # edit -> in words, and where its effect is shown
    "add": ("difference of centroids added", (*VIEWS, "map", "instruments")),
    "replace": ("replaced by B's centroid", ("layers", "tables")),
    "interchange": ("replaced by a state of B", ("layers", "tables", "path")),
    "cluster": ("difference of KMeans' centroids added", ("layers", "tables")),
    "ablate": ("subspace of centroids removed", ("layers", "tables")),
    "keep": ("subspace of centroids kept alone", ("layers", "tables")),
    "mean": ("replaced by the mean of all tasks", ("layers", "tables")),
    "random": ("random direction added", ("tables",)),
    "same_task": ("difference within A added", ("tables",)),
    "shuffled": ("difference of shuffled labels added", ("tables",)),
    "third_task": ("moved to a third task", ("tables",)),
    "wrong_position": ("difference of centroids added one token earlier", ("tables",)),
    "random_subspace": ("random subspace removed", ("tables",)),
}
TAKE_OUT = ("ablate", "keep", "mean", "random_subspace")  # tasks, and put none in
UNSCALED = ("replace", "interchange", *TAKE_OUT)  # whatever alpha is


def of_intervention(edit: str, position: str, alpha: float = 1.0) -> tuple[Metric, ...]:
    """Of an edit at a site: answers of B, answers of A, recovered logit difference; for edits that take tasks out,
    which have no B, only the second."""
    words, views = EDITED[edit]
    where, ending, takes_out = f"{PLACES[position]}, {words}", f"{edit}_{position}", edit in TAKE_OUT
    if (edit, position) == ("interchange", "instruction"):  # what is known of patching a whole instruction
        views = (*views, "curves", "map")
    if alpha != 1:
        views = tuple(view for view in views if view in ("layers", "tables"))
        where += f", alpha {alpha:g}"
        ending += f"_alpha_{alpha:g}".replace(".", "_").replace("-", "minus_")
    kept = Metric(
        f"kept_{ending}",
        "Answers that stay",
        where,
        label="Answers that stay A's",
        position=position,
        low=0,
        high=1,
        views=views if takes_out else (),
    )
    if takes_out:
        return (kept,)
    effect = Metric(
        f"effect_{ending}",
        "Causal effect",
        where,
        short=f"effect {PLACES[position]}",
        label="Answers turned to B's",
        position=position,
        low=0,
        high=1,
        views=views,
    )
    recovered = Metric(f"recovered_{ending}", "logit difference recovered", where, position=position, views=())
    return effect, kept, recovered


# Of prompts without demonstrations: `taskcluster.measures.vectors`.
OF_TELLING = tuple(  # of the first token of y, and of all of them
    tuple(
        Metric(f"{kind}_{key}", words, where, by_layer=False, low=0, high=1, views=("tables",))
        for key, where in (
            ("zero_shot", "without demonstrations"),
            ("shuffled", "with shuffled demonstrations"),
            ("few_shot", "with demonstrations"),
        )
    )
    for kind, words in (
        ("first_token", "accuracy of the first token"),
        ("whole_answer", "accuracy of the whole answer"),
    )
)

Vector = Literal["task_vector", "function_vector", "difference", "mean", "cluster", "random", "other_task"]
VECTORS: dict[Vector, str] = {
    "task_vector": "state of one prompt put in (task vector)",
    "function_vector": "outputs of heads added (function vector)",
    "difference": "difference of means added",
    "mean": "mean of the task put in",
    "cluster": "difference of KMeans' centroids added",
    "random": "random direction added",
    "other_task": "another task's difference added",
}
VECTOR_CONTROLS: tuple[Vector, ...] = ("random", "other_task")


def of_vector(method: Vector) -> tuple[Metric, Metric, Metric, Metric, Metric]:
    """Of a method: accuracy of the first token and of the whole answer by layer; both at the layer where the first was
    best in other prompts; and that layer."""
    words, key = VECTORS[method], f"vector_{method}"
    first, whole = "accuracy without demonstrations", "accuracy of whole answers without demonstrations"
    at = f"{words}, chosen layer"
    return (
        Metric(key, first, words, position="answer", low=0, high=1, views=("layers", "tables")),
        Metric(f"{key}_whole", whole, words, position="answer", low=0, high=1, views=()),
        Metric(f"{key}_chosen", first, at, by_layer=False, low=0, high=1, views=("tables",)),
        Metric(f"{key}_chosen_whole", whole, at, by_layer=False, low=0, high=1, views=("tables",)),
        Metric(f"{key}_layer", "layer", f"chosen for: {words}", by_layer=False, low=0, views=("tables",)),
    )


def of_vectors(methods: Iterable[Vector]) -> tuple[Metric, ...]:
    return tuple(metric for method in methods for metric in of_vector(method))
