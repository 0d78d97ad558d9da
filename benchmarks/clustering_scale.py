"""Cost of clustering against k and N: ours beside scikit-learn's KMeans and MiniBatchKMeans, and faiss.

in:  planted clusters; N, k and D of one case, and names of what is to cluster, or nothing for two sweeps
out: rows of results.json: processor seconds, on one thread, of `large_kmeans` and of each other. `inertia`: ours
     relative to the peer's; `ari`, `peer_ari`: with the planted clusters; `gib`, `peer_gib`: peak memory beside the
     states. Of the sweeps also docs/images/clustering_scale.png, with the fitted exponents, and ARI of 10,000 clusters

    python benchmarks/clustering_scale.py [N k D [NAME ...]]

Each fit has a process of its own. Everything starts once and runs until it stops by itself, faiss for 25 iterations.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import Row, record, row, seconds_of
from torch import Tensor

OURS = "large_kmeans"
PEERS = {
    "kmeans": "taskcluster KMeans(n_init=1)",
    "sklearn": "sklearn.cluster.KMeans(n_init=1)",
    "minibatch": "sklearn.cluster.MiniBatchKMeans(batch_size=4096)",
    "faiss": "faiss.Kmeans",
}
WIDTH, SPREAD = 64, 1.0
SWEEPS = {
    "k": [(20_000, k, WIDTH) for k in (125, 250, 500, 1_000)],
    "N": [(n, 250, WIDTH) for n in (5_000, 10_000, 20_000, 40_000)],
}
FIGURE = Path(__file__).parent.parent / "docs" / "images" / "clustering_scale.png"

Found = dict[str, float]


def main(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] == "--fit":
        n, k, width = map(int, arguments[2:])
        print(json.dumps(fitted(arguments[1], n, k, width)))
        return
    if arguments:
        case = tuple(map(int, arguments[:3]))
        record(rows_of(case, {name: measured(name, case) for name in (OURS, *(arguments[3:] or PEERS))}))
        return
    every = dict.fromkeys(case for sweep in SWEEPS.values() for case in sweep)
    cases = {case: {name: measured(name, case) for name in (OURS, *PEERS)} for case in every}
    record([one for case, found in cases.items() for one in rows_of(case, found)] + agreement())
    draw(cases)


def measured(name: str, case: tuple[int, ...]) -> Found:
    """What `fitted` gives, of a new process with one thread."""
    command = [sys.executable, __file__, "--fit", name, *map(str, case)]
    out = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True).stdout
    found: Found = json.loads(out)
    print(name, *case, found, flush=True)
    return found


def fitted(name: str, n: int, k: int, width: int) -> Found:
    """Processor seconds, inertia, ARI with the planted clusters, and GiB of peak memory beside the states."""
    from taskcluster.measures.statistics.agreement import adjusted_rand_index

    warnings.simplefilter("ignore")
    states, truth = planted(n, k, width)
    fit = fitter(name)
    fit(states[:100].clone(), 5)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, started = memory("VmRSS"), time.process_time()
    labels = fit(states, k)
    seconds, gib = time.process_time() - started, memory("VmHWM") - before
    return {"s": seconds, "inertia": inertia(states, labels, k), "ari": adjusted_rand_index(truth, labels), "gib": gib}


def planted(n: int, k: int, width: int) -> tuple[Tensor, Tensor]:
    """States (N, D) around k centres, all standard normal, and whose each is; in place, to hold them once."""
    random = torch.Generator().manual_seed(0)
    centres, truth = torch.randn(k, width, generator=random), torch.randint(k, (n,), generator=random)
    states = torch.empty(n, width)
    for rows in torch.arange(n).split(10_000):
        states[rows] = centres[truth[rows]] + SPREAD * torch.randn(len(rows), width, generator=random)
    return states, truth


def fitter(name: str) -> Callable[[Tensor, int], Tensor]:
    """From states (N, D) and k to labels (N,)."""
    if name == OURS:
        from taskcluster.measures.clusterers.large_kmeans import LargeKMeans

        return lambda states, k: LargeKMeans(None, 64.0, 0).fit(states, k).cluster_labels
    if name == "kmeans":
        from taskcluster.measures.clusterers.kmeans import KMeans

        return lambda states, k: KMeans(None, 1, 0).fit(states, k).cluster_labels
    if name == "faiss":
        import faiss

        def of_faiss(states: Tensor, k: int) -> Tensor:
            kmeans = faiss.Kmeans(
                states.shape[1], k, seed=1, max_points_per_centroid=len(states), min_points_per_centroid=1
            )
            kmeans.train(states.numpy())
            return torch.from_numpy(kmeans.index.search(states.numpy(), 1)[1][:, 0])

        return of_faiss
    from sklearn import cluster

    def of_sklearn(states: Tensor, k: int) -> Tensor:
        peer: Any = cluster.KMeans(k, n_init=1, random_state=0)
        if name == "minibatch":
            peer = cluster.MiniBatchKMeans(k, n_init=1, random_state=0, batch_size=4096)
        return torch.from_numpy(peer.fit(states.numpy()).labels_).long()

    return of_sklearn


def inertia(states: Tensor, labels: Tensor, k: int) -> float:
    """The summed squared distance of states to the means of their clusters."""
    sums = torch.zeros(k, states.shape[1]).index_add_(0, labels, states)
    means, total = sums / torch.bincount(labels, minlength=k).clamp(min=1)[:, None], 0.0
    for part, own in zip(states.split(10_000), labels.split(10_000), strict=True):
        total += float((part - means[own]).double().square().sum())
    return total


def memory(name: str) -> float:
    """Of this process, as Linux counts it, in GiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


def rows_of(case: tuple[int, ...], found: dict[str, Found]) -> list[Row]:
    own, (n, k, width) = found[OURS], case
    name = f"large_kmeans, {n:,} x {width:,}, k = {k:,}"
    return [
        row(
            name, own["s"], peer["s"], PEERS[key], "s", inertia=own["inertia"] / peer["inertia"],
            ari=own["ari"], peer_ari=peer["ari"], gib=own["gib"], peer_gib=peer["gib"],
        )
        for key, peer in found.items() if key != OURS
    ] or [row(name, own["s"], own["s"], "none", "s", ari=own["ari"], gib=own["gib"])]  # fmt: skip


def agreement() -> list[Row]:
    """ARI of 10,000 clusters and groups."""
    from sklearn.metrics import adjusted_rand_score

    from taskcluster.measures.statistics.agreement import adjusted_rand_index

    rows = []
    for n in (10_000, 100_000, 1_000_000):
        truth, labels = torch.randint(10_000, (2, n), generator=torch.Generator().manual_seed(0))
        both = [partial(score, truth, labels) for score in (adjusted_rand_index, adjusted_rand_score)]
        ours, peer = (min(seconds_of(score) for _ in range(3)) for score in both)
        rows.append(row(f"ARI, {n:,} states, k = 10,000", ours, peer, "sklearn's adjusted_rand_score", "s"))
    return rows


def draw(cases: dict[Any, dict[str, Found]]) -> None:
    """Seconds, and inertia relative to scikit-learn's KMeans, against k and N."""
    import altair as alt
    import vl_convert

    titles = {"k": "k (20,000 states)", "N": "states (k = 250)"}
    panels = []
    for column, sweep in SWEEPS.items():
        sizes = [case[1 if column == "k" else 0] for case in sweep]
        points = []
        for name in (OURS, *PEERS):
            found = [cases[case][name] for case in sweep]
            exponent = np.polyfit(np.log(sizes), np.log([one["s"] for one in found]), 1)[0]
            print(f"{name}: {column} to the power of {exponent:.2f}")
            for size, case, one in zip(sizes, sweep, found, strict=True):
                of_peer = cases[case]["sklearn"]["inertia"]
                label = f"{name}: {column}^{exponent:.2f}"
                points.append({"size": size, "s": one["s"], "inertia": one["inertia"] / of_peer, "method": label})
        chart = alt.Chart(alt.Data(values=points)).mark_line(point=True).properties(width=330, height=230)
        x = alt.X(
            "size:Q",
            scale=alt.Scale(type="log", domain=[sizes[0] / 1.2, sizes[-1] * 1.2]),
            title=titles[column],
            axis=alt.Axis(values=sizes, format=","),
        )
        color = alt.Color("method:N", title=None, sort=None, legend=alt.Legend(labelLimit=300))
        seconds = alt.Y("s:Q", scale=alt.Scale(type="log", nice=False), title="processor seconds")
        relative = alt.Y("inertia:Q", scale=alt.Scale(zero=False), title="inertia / scikit-learn's KMeans")
        panels.append(alt.vconcat(chart.encode(x, seconds, color), chart.encode(x, relative, color)))
    figure = (
        alt.hconcat(*panels)
        .resolve_scale(color="independent", x="independent")
        .configure_axis(grid=True, gridOpacity=0.4)
    )
    FIGURE.write_bytes(vl_convert.vegalite_to_png(figure.to_dict(), scale=1.5))


if __name__ == "__main__":
    main(sys.argv[1:])
