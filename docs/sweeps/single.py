"""Tables of single runs, of which there are no intervals."""

from collections.abc import Mapping

from sweeps.cells import plain

from taskcluster.metrics import ACCURACY, ARI, ARI_WITHIN_X
from taskcluster.results.cells import Table, last_of
from taskcluster.results.findings import Findings, Finished
from taskcluster.runs.journal import fixed, number

AT_SEPARATOR, WITHIN_X = "at the separator", "at x, within each x"
CLUSTERERS = {
    "": "`kmeans`",
    "ward": "`agglomerative`, Ward",
    "average": "`agglomerative`, average",
    "diag": "`gaussian_mixture`, diag",
    "spherical": "`gaussian_mixture`, spherical",
}
BASELINES = {
    "symbols": "bag of symbols",
    "bigrams": "bag of bigrams",
    "mean_embedding": "mean embedding",
    "edit_distance": "edit distance",
    "untrained": "untrained network, last layer",
    "shuffled_largest": "999 shuffles of the tasks, the largest",
}


def default_run(found: Findings) -> Mapping[str, Table]:
    """The default run, and its last states by other clusterers: analyses of the run, of the names in CLUSTERERS."""
    run = next(run for run in found.runs if "analysis" not in run.path)
    numbers = [str(layer) for layer in range(len(plain(run, ARI.key)))]
    by_layer = [[AT_SEPARATOR, *plain(run, ARI.key)], [WITHIN_X, *plain(run, ARI_WITHIN_X.key)]]
    labels = ("ari_to_first", "ari_to_last", "ari_to_length")
    nuisance = [[run.catalogue[key].where, *plain(run, key)] for key in labels]
    return {
        "default_claims": _claims(run),
        "default_ari": Table("", ["", *numbers], by_layer),
        "default_accuracy": Table("", ["", "accuracy"], [["validation", fixed(last_of(run, ACCURACY))]]),
        "default_baselines": _baselines(run),
        "default_nuisance": Table("", ["the same clusters against", *numbers], nuisance),
        "clusterers": _clusterers(found, numbers),
    }


def _claims(run: Finished) -> Table:
    verdicts = {True: "pass", False: "fail", None: "not decided"}
    rows = [
        [c["name"], c["paper"], fixed(c["value"]), f"{c['relation']} {c['threshold']}", verdicts[c["passed"]]]
        for c in run.results["claims"]
    ]
    return Table("", ["claim of the paper", "paper", "here", "threshold", "verdict"], rows)


def _baselines(run: Finished) -> Table:
    both = (ARI.key, ARI_WITHIN_X.key)
    layers = {"last layer": -1, "layer 1": 1}
    rows = [[words, *(plain(run, key)[layer] for key in both)] for words, layer in layers.items()]
    for name, words in BASELINES.items():
        rows.append([words, *(fixed(last_of(run, run.catalogue[f"{key}_{name}"]), 2) for key in both)])
    return Table("", ["ARI with the task", AT_SEPARATOR, WITHIN_X], rows)


def one_thread(found: Findings) -> Mapping[str, Table]:
    """The default run on one thread, whose rounding differs."""
    numbers = [fixed(last_of(found.runs[0], metric)) for metric in (ACCURACY, ARI, ARI_WITHIN_X)]
    return {
        "default_one_thread": Table("", ["", "accuracy", ARI.title, ARI_WITHIN_X.title], [["one thread", *numbers]])
    }


def _clusterers(found: Findings, numbers: list[str]) -> Table:
    rows = []
    for name, words in CLUSTERERS.items():
        run = next(run for run in found.runs if run.path.endswith(f"analysis/{name}" if name else "seed=0"))
        inertia = number(run.last, f"inertia/val/layer_{len(numbers) - 1}")
        rows.append([words, AT_SEPARATOR, *plain(run, ARI.key), f"{inertia:,.0f}"])
        rows.append(["", WITHIN_X, *plain(run, ARI_WITHIN_X.key), ""])
    return Table("", ["clusterer", "ARI", *numbers, "inertia, last layer"], rows)


def architectures(found: Findings) -> Mapping[str, Table]:
    rows = []
    for run in found.runs:
        claims = [claim["passed"] for claim in run.results["claims"]]
        within = plain(run, ARI_WITHIN_X.key)[-1]
        name = f"`model={run.config['model']['_target_'].rpartition('.')[2]}`"
        start = max(float(value) for value in plain(run, ARI.key, 0))
        last = [fixed(start, 2), within, f"{claims.count(True)} of {len(claims)}"]
        rows.append([name, fixed(last_of(run, ACCURACY)), *plain(run, ARI.key), *last])
    numbers = [str(layer) for layer in range(len(rows[0]) - 5)]
    columns = ["", "accuracy", *numbers, "largest at step 0", "within x, last layer", "claims"]
    return {"architectures": Table("", columns, rows)}


def deeper(found: Findings) -> Mapping[str, Table]:
    """The run of experiment=layers that seeds_layers has not."""
    run = found.runs[0]
    row = [str(run.config["model"]["n_layer"]), fixed(last_of(run, ACCURACY)), fixed(last_of(run, ARI))]
    return {"deeper": Table("", ["layers", "accuracy", "ARI, last layer"], [row])}
