"""Three depths, of docs/results.md, from experiment=seeds_layers."""

import re
from collections.abc import Mapping

from sweeps.cells import Runs, columns, depth, last, report, restricted, select

from taskcluster.metrics import ARI, ARI_WITHIN_X
from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings

CLAIMS = ["claim", "paper", "threshold"]
CLUSTERS = (ARI.title, ARI_WITHIN_X.title)


def of_sequences(found: Findings, *n_layers: int) -> list[Runs]:
    """The conditions that are no control, with 2, 4 and 6 layers, or with those given."""
    settings = {"data.loss_on": "sequence", "task.shuffle_outputs": False}
    return [select(found, {"model.n_layer": n_layer, **settings}) for n_layer in n_layers or (2, 4, 6)]


def tables(found: Findings) -> Mapping[str, Table]:
    conditions = of_sequences(found)
    made = report(found, conditions)
    names = restricted(found, conditions).names
    deepest = [(name, str(depth(condition))) for name, condition in zip(names, conditions, strict=True)]
    emergence = made["When accuracy and clusters emerge"]
    noise = made["Controls of the ARI, at the separator"]
    accuracy = [[name, last(found, c, "accuracy")] for name, c in zip(names, conditions, strict=True)]
    return {
        "depth_claims": _exceptions(columns(made["The paper's claims"], [*CLAIMS, *names])),
        "depth_ari": columns(made["ARI by layer, at the separator"], ["layer", *names]),
        "depth_ari_within_x": columns(made["ARI by layer, at x, within each value of x"], ["layer", *names]),
        "depth_emergence": emergence._replace(title="", rows=[row for row in emergence.rows if row[1] in CLUSTERS]),
        "depth_kmeans": Table("", noise.columns, [row for row in noise.rows if (row[0], row[1]) in deepest]),
        "depth_accuracy": Table("", ["", "accuracy"], accuracy),
    }


def _exceptions(claims: Table) -> Table:
    """Claims that hold in all runs say so no more: "holds in 4 of 5" remains, "holds in 5 of 5" goes."""
    return claims._replace(rows=[[re.sub(r", holds in (\d+) of \1$", "", cell) for cell in row] for row in claims.rows])
