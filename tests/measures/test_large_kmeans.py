"""KMeans for many clusters: a better optimum than scikit-learn's, from the seed alone, within its memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn import cluster
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from taskcluster.measures.clusterers import centred_states
from taskcluster.measures.clusterers.large_kmeans import LargeKMeans
from taskcluster.validation import UserError

LARGE = LargeKMeans(n_clusters=None, memory=1.0, seed=0)


def planted(n: int, k: int, width: int, spread: float) -> tuple[Tensor, Tensor]:
    """States (N, D) around k centres, and the centre of each."""
    random = torch.Generator().manual_seed(0)
    truth = torch.randint(k, (n,), generator=random)
    centres = torch.randn(k, width, generator=random)
    return centres[truth] + spread * torch.randn(n, width, generator=random), truth


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_a_thousand_planted_clusters_are_found_better_than_by_scikit_learn(spread: float) -> None:
    states, truth = planted(10_000, 1_000, 48, spread)
    found, peer = LARGE.fit(states, 1_000), cluster.KMeans(1_000, n_init=1, random_state=0).fit(states.numpy())
    assert found.inertia < 0.98 * peer.inertia_
    ari = found.ari(truth)
    assert ari > adjusted_rand_score(truth, peer.labels_) + 0.01
    assert spread == 1.0 or ari > 0.999


def test_a_few_states_a_cluster_are_within_a_percent_of_the_planted_inertia() -> None:
    states, truth = planted(4_000, 400, 48, 1.0)
    means = (
        torch.zeros(400, 48).index_add_(0, truth, states) / torch.bincount(truth, minlength=400).clamp(min=1)[:, None]
    )
    assert LARGE.fit(states, 400).inertia < 1.01 * float((states - means[truth]).square().sum())


def test_hardly_a_state_is_better_off_in_another_cluster() -> None:
    states = torch.randn(300, 6, generator=torch.Generator().manual_seed(1)).double()
    labels, _, inertia = LARGE.fit(states, 30)
    sizes = torch.bincount(labels, minlength=30)
    means = torch.zeros(30, 6).double().index_add_(0, labels, states) / sizes[:, None]
    squares = torch.cdist(states, means).square()
    joining = (squares * sizes / (sizes + 1)).scatter_(1, labels[:, None], torch.inf).min(1).values
    leaving = squares.gather(1, labels[:, None]).squeeze(1) * (sizes / (sizes - 1).clamp(min=1))[labels]
    assert float((leaving - joining).clamp(min=0).sum()) < 1e-3 * inertia


def test_states_taken_in_small_parts_give_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    states = planted(2_000, 100, 16, 0.3)[0]
    whole = LARGE.fit(states, 100)
    monkeypatch.setattr(centred_states, "ROOM", 2_000)
    parts = LARGE.fit(states, 100)
    assert adjusted_rand_score(whole.cluster_labels, parts.cluster_labels) == 1
    assert parts.inertia == pytest.approx(whole.inertia, rel=1e-5)


PEAK = """
import sys
import torch
from taskcluster.measures.clusterers.large_kmeans import LargeKMeans
from taskcluster.validation import UserError

n, k, width = map(int, sys.argv[1:])
torch.set_num_threads(1)
states = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
LargeKMeans(None, 8.0, 0).fit(states[:100], 5)


def memory(name):  # of this process, in GiB
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 2**20


try:
    LargeKMeans(None, 1e-6, 0).fit(states, k)
except UserError as error:
    stated = float(str(error).split(" GiB")[0].split()[-1])
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
LargeKMeans(None, stated + 0.01, 0).fit(states, k)
print(memory("VmHWM") - before, stated)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak memory of a process on this system")
@pytest.mark.parametrize("size", [(100_000, 5, 8), (6_000, 3_000, 16), (3_000, 500, 1_024)])
@pytest.mark.slow
def test_it_stays_inside_the_memory_that_it_states(size: tuple[int, int, int]) -> None:
    """Of the first, a table of states and clusters would fit; of the second, it would not."""
    command = [sys.executable, "-c", PEAK, *map(str, size)]
    peak, stated = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert peak < stated


def test_more_memory_than_it_may_take_is_refused() -> None:
    with pytest.raises(UserError, match=r"clusterer\.memory=0\.01: 500 clusters of 1000 states of width 64 may take"):
        LargeKMeans(None, 0.01, 0).fit(planted(1_000, 10, 64, 1.0)[0], 500)
