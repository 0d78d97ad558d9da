"""Metrics of instruments beside the ARI: probes, other scores of the same clusters, geometry. Free of torch."""

from collections.abc import Iterable
from dataclasses import replace

from taskcluster.metrics import ARI, PLACES, Metric

SUFFIXES = {"instruction_end": "", "input": "_at_input", "answer": "_at_answer"}  # of keys, by position


def of_probe(position: str) -> tuple[Metric, Metric, Metric]:
    """Accuracy of a linear probe of the task, accuracy of the same probe of its control task, and the difference:
    `taskcluster.measures.probe`."""
    suffix, where = SUFFIXES[position], PLACES[position]
    accuracy = Metric(
        f"probe{suffix}",
        "probe accuracy",
        where,
        label="Accuracy of a linear probe of the task",
        axis="accuracy of a linear probe",
        position=position,
        low=0,
        high=1,
        views=("curves", "layers", "tables", "instruments"),
    )
    control = replace(accuracy, key=f"probe_control{suffix}", where=f"{where}, control task", views=("layers",))
    selectivity = Metric(
        f"selectivity{suffix}",
        "selectivity",
        where,
        label="Selectivity of a linear probe",
        position=position,
        low=0,
        high=1,
        least=-1,
        views=("tables", "instruments"),
    )
    return accuracy, control, selectivity


def _at_the_separator(key: str, name: str, label: str = "", least: float | None = None, shown: bool = True) -> Metric:
    return Metric(
        key,
        name,
        ARI.where,
        label=label,
        position=ARI.position,
        low=0,
        high=1,
        least=least,
        chance=0 if key == "ami" else None,
        views=("tables", "instruments") if shown else (),
    )


# `taskcluster.measures.instruments`
AMI = _at_the_separator("ami", "AMI", "AMI of clusters and tasks", least=-1)
HOMOGENEITY = _at_the_separator("homogeneity", "homogeneity", shown=False)
COMPLETENESS = _at_the_separator("completeness", "completeness", shown=False)
SILHOUETTE = _at_the_separator("silhouette", "silhouette", "Silhouette of the clusters", least=-1)
SILHOUETTE_OF_TASKS = _at_the_separator(
    "silhouette_of_tasks", "silhouette of tasks", "Silhouette of the tasks", least=-1
)
NEIGHBOURS = _at_the_separator("neighbours", "neighbours", "Tasks told by the nearest neighbours")
NEIGHBOURS_WITHIN_X = replace(
    NEIGHBOURS, key="neighbours_within_x", where="at x, within each value of x", position="input"
)
OF_CLUSTERS = (AMI, HOMOGENEITY, COMPLETENESS, SILHOUETTE, SILHOUETTE_OF_TASKS, NEIGHBOURS, NEIGHBOURS_WITHIN_X)

# `taskcluster.measures.number_of_clusters`
CHOSEN = Metric(
    "chosen_k",
    "number of clusters",
    "at the separator, chosen by silhouette",
    label="Number of clusters with the highest silhouette",
    axis="clusters",
    position=ARI.position,
    low=0,
    views=("layers", "tables"),
)
ARI_OF_CHOSEN = replace(
    ARI, key="ari_of_chosen_k", where=f"{ARI.where}, k chosen by silhouette", short="", views=("layers", "tables")
)


def ari_of_multiple(multiple: float) -> Metric:
    """The ARI with another number of clusters than the tasks."""
    ending = f"{multiple:g}".replace(".", "_")
    where = f"{ARI.where}, k = {multiple:g} times the tasks"
    return replace(ARI, key=f"ari_of_k_times_{ending}", where=where, short="", views=("layers",))


def of_numbers(multiples: Iterable[float]) -> tuple[Metric, ...]:
    return (CHOSEN, ARI_OF_CHOSEN, *(ari_of_multiple(multiple) for multiple in multiples if multiple != 1))
