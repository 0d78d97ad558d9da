"""How often intervals cover what they estimate, in simulated experiments: those of the report, and others.

python benchmarks/coverage.py        about two minutes; 2,000 experiments for each number, 95 % is the target
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from scipy.stats import t

from taskcluster.results.intervals import intervals

EXPERIMENTS, RESAMPLES = 2000, 2000
STEPS = 7  # of a curve
Z = NormalDist()
Ends = np.ndarray  # (2, EXPERIMENTS)


def normal(n: int, random: np.random.Generator) -> np.ndarray:
    return random.normal(0.9, 0.03, (n, EXPERIMENTS))


def skewed(a: float, b: float) -> Callable[[int, np.random.Generator], np.ndarray]:
    return lambda n, random: random.beta(a, b, (n, EXPERIMENTS))


def ranks(n: int, random: np.random.Generator, n_layers: int = 7) -> np.ndarray:
    """Spearman's rank correlation of layers and noisy values that rise with them."""
    noisy = np.linspace(0, 1, n_layers) + 0.15 * random.normal(size=(n, EXPERIMENTS, n_layers))
    apart = noisy.argsort(2).argsort(2) - np.arange(n_layers)
    return np.asarray(1 - 6 * (apart**2).sum(2) / (n_layers * (n_layers**2 - 1)))


DRAWN = {"normal": normal, "Beta(84, 6)": skewed(84, 6), "Beta(9, 1)": skewed(9, 1), "rank correlation": ranks}
WITHIN = {"normal": (-0.5, 1.0), "Beta(84, 6)": (0.0, 1.0), "Beta(9, 1)": (0.0, 1.0), "rank correlation": (-1.0, 1.0)}
MEANS = {"normal": 0.9, "Beta(84, 6)": 84 / 90, "Beta(9, 1)": 0.9}
MEANS["rank correlation"] = float(np.mean([ranks(100, np.random.default_rng(k)).mean() for k in range(5)]))


def percentile(values: np.ndarray) -> Ends:
    draws = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    return np.array([np.quantile(column[draws].mean(1), (0.025, 0.975)) for column in values.T]).T


def accelerated(values: np.ndarray) -> Ends:
    """BCa (Efron 1987)."""
    draws = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    ends = []
    for column in values.T:
        left_out, means = column.mean() - column, column[draws].mean(1)
        acceleration = -(left_out**3).sum() / (6 * (left_out**2).sum() ** 1.5 + 1e-300)
        below = np.mean(means < column.mean()) / 2 + np.mean(means <= column.mean()) / 2
        bias = Z.inv_cdf(float(np.clip(below, 1e-4, 1 - 1e-4)))
        z = [bias + Z.inv_cdf(level) for level in (0.025, 0.975)]
        ends.append(np.quantile(means, [Z.cdf(bias + part / (1 - acceleration * part)) for part in z]))
    return np.array(ends).T


def student(values: np.ndarray) -> Ends:
    half = t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
    return np.array([values.mean(0) - half, values.mean(0) + half])


def covered(ends: Ends, truth: float) -> str:
    """The share that covers of the intervals that are there."""
    there = ends[:, np.isfinite(ends).all(0)]
    return f"{np.mean((there[0] <= truth + 1e-12) & (there[1] >= truth - 1e-12)):.1%}"


def print_means() -> None:
    print("\nMeans: percentile, BCa, Student's t; the report's, its mean length beside Student's, absent")
    for name in DRAWN:
        for n in (3, 5, 9, 10, 15, 25):
            values = DRAWN[name](n, np.random.default_rng(n))
            ours, plain = np.array(intervals(values, *WITHIN[name])[3:]), student(values)
            there = np.isfinite(ours[0])
            longer = (ours[1] - ours[0])[there].mean() / (plain[1] - plain[0])[there].mean()
            others = [percentile(values), accelerated(values)] if n >= 10 else []
            shares = [covered(ends, MEANS[name]) for ends in (*others, plain, ours)]
            print(f"  {name:17} n = {n:2}", *shares, f"{longer:.2f}", f"{1 - there.mean():.1%}")


def print_task_sets() -> None:
    print("\nMeans over task sets that several runs share: the report's")
    random = np.random.default_rng(0)
    for sizes in ((5, 5), (4, 4, 4), (5, 5, 5, 5, 5)):
        labels, means = np.repeat(range(len(sizes)), sizes), np.linspace(0.8, 0.9, len(sizes))
        values = means[labels][:, None] + random.normal(0, 0.03, (len(labels), EXPERIMENTS))
        ends = np.array(intervals(values, task_sets=labels.tolist())[3:])
        print(f"  {sizes}", covered(ends, float(means.mean())))


def print_simultaneous() -> None:
    print(f"\nAll of {STEPS} steps: pointwise; the report's, by Bonferroni's inequality")
    for n in (5, 10, 20):
        random = np.random.default_rng(n)
        draws, shared = random.normal(size=(n, EXPERIMENTS, STEPS)), random.normal(size=(n, EXPERIMENTS, 1))
        for name, curves in (
            ("independent", draws),
            ("correlated 0.8", draws + 2 * shared),
            ("random walk", draws.cumsum(2)),
        ):
            held = [_holds(curves, cells) for cells in (1, STEPS)]
            print(f"  {name:14} n = {n:2}", *(f"{share:.1%}" for share in held))


def _holds(curves: np.ndarray, cells: int) -> float:
    """How often the intervals of all steps of curves (R, EXPERIMENTS, STEPS) cover 0."""
    lower, upper = intervals(curves.reshape(len(curves), -1), cells=cells)[3:]
    return float(((lower < 0) & (upper > 0)).reshape(EXPERIMENTS, STEPS).all(1).mean())


if __name__ == "__main__":
    print_means()
    print_task_sets()
    print_simultaneous()
