"""How often intervals cover what they estimate, in simulated experiments: those of the report, and others.

python benchmarks/coverage.py        about four minutes; 2,000 experiments for each number, 95 % is asked for
"""

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
from scipy.stats import beta, t

from taskcluster.results.bootstrap import RESAMPLES, interquartile_means, studentized
from taskcluster.results.intervals import Moments, critical, intervals, limits, moments, simultaneous

EXPERIMENTS = 2000
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


def resampled(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """For each experiment the statistic of resamples, (RESAMPLES,)."""
    draws = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    return (statistic(column[draws].T) for column in values.T)


def percentile(values: np.ndarray, level: float, statistic: Callable[[np.ndarray], np.ndarray]) -> Ends:
    return np.array([np.quantile(of_one, (level, 1 - level)) for of_one in resampled(values, statistic)]).T


def accelerated(values: np.ndarray) -> Ends:
    """BCa (Efron 1987) for means."""
    ends = []
    for column, of_one in zip(values.T, resampled(values, lambda drawn: drawn.mean(0)), strict=True):
        left_out = column.mean() - column
        acceleration = -(left_out**3).sum() / (6 * (left_out**2).sum() ** 1.5 + 1e-300)
        below = np.mean(of_one < column.mean()) / 2 + np.mean(of_one <= column.mean()) / 2
        bias = Z.inv_cdf(float(np.clip(below, 1e-4, 1 - 1e-4)))
        z = [bias + Z.inv_cdf(level) for level in (0.025, 0.975)]
        ends.append(np.quantile(of_one, [Z.cdf(bias + part / (1 - acceleration * part)) for part in z]))
    return np.array(ends).T


def student(values: np.ndarray) -> Ends:
    half = t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
    return np.array([values.mean(0) - half, values.mean(0) + half])


def fisher(values: np.ndarray) -> Ends:
    return np.tanh(student(np.arctanh(np.clip(values, -0.999, 0.999))))


def covered(ends: Ends, truth: float) -> str:
    """The share that covers of the intervals that are there."""
    there = ends[:, np.isfinite(ends).all(0)]
    return f"{np.mean((there[0] <= truth + 1e-12) & (there[1] >= truth - 1e-12)):.1%}"


def of_means() -> None:
    print("\nMeans, many runs: percentile, BCa, expanded percentile, studentized; the report's")
    for name in DRAWN:
        for n in (10, 15, 25):
            values, zeros = DRAWN[name](n, np.random.default_rng(n)), np.zeros(n, dtype=int)
            expanded = Z.cdf(-((n / (n - 1)) ** 0.5) * t.ppf(0.975, n - 1))
            found = [percentile(values, level, lambda drawn: drawn.mean(0)) for level in (0.025, expanded)]
            found = [found[0], accelerated(values), found[1], studentized(values, zeros)]
            found = [np.nan_to_num(ends, nan=9) for ends in found]
            found.append(np.array(intervals(values, *WITHIN[name])[3:]))
            print(f"  {name:17} n = {n:2}", *(covered(ends, MEANS[name]) for ends in found))
    print(
        "\nMeans, few runs: Student's t, Fisher's z of each run; the report's, its mean length beside Student's, absent"
    )
    for name in DRAWN:
        for n in (3, 5, 9):
            values = DRAWN[name](n, np.random.default_rng(n))
            ours = np.array(intervals(values, *WITHIN[name])[3:])
            others = [student(values), *([fisher(values)] if name == "rank correlation" else [])]
            there = np.isfinite(ours[0])
            longer = (ours[1] - ours[0])[there].mean() / (others[0][1] - others[0][0])[there].mean()
            shares = (
                *(covered(ends, MEANS[name]) for ends in (*others, ours)),
                f"{longer:.2f}",
                f"{1 - there.mean():.1%}",
            )
            print(f"  {name:17} n = {n:2}", *shares)


def of_interquartile_means() -> None:
    print("\nInterquartile means: percentile; the report's")
    for a, b in ((84, 6), (9, 1)):
        of = beta(a, b)
        truth = 2 * of.expect(lambda x: x, lb=of.ppf(0.25), ub=of.ppf(0.75))
        for n in (10, 15, 25):
            values = skewed(a, b)(n, np.random.default_rng(n))
            middle = percentile(
                values, 0.025, lambda drawn: np.sort(drawn, 0)[len(drawn) // 4 :][: -(len(drawn) // 4)].mean(0)
            )
            ours = interquartile_means(values, np.zeros(n, dtype=int))[1:]
            print(f"  Beta({a}, {b})   n = {n:2}", covered(middle, truth), covered(ours, truth))


def of_strata() -> None:
    print("\nMeans and interquartile means over task sets that several runs share: the report's")
    random = np.random.default_rng(0)
    for sizes in ((5, 5), (4, 4, 4), (5, 5, 5, 5, 5)):
        labels = np.repeat(range(len(sizes)), sizes)
        values = np.linspace(0.8, 0.9, len(sizes))[labels][:, None] + random.normal(0, 0.03, (len(labels), EXPERIMENTS))
        print(f"  {sizes}", covered(studentized(values, labels), float(np.linspace(0.8, 0.9, len(sizes)).mean())))


def of_bands() -> None:
    print("\nBands over 7 steps: pointwise, Bonferroni's; the report's, and its width beside Bonferroni's")
    for n in (5, 10, 20):
        random = np.random.default_rng(n)
        draws = random.normal(size=(EXPERIMENTS, n, 7))
        shared = random.normal(size=(EXPERIMENTS, n, 1))
        for name, curves in (
            ("independent", draws),
            ("correlated 0.8", draws + 2 * shared),
            ("random walk", draws.cumsum(2)),
        ):
            print(f"  {name:14} n = {n:2}", *_bands(curves))


def _bands(curves: np.ndarray) -> list[str]:
    labels, held, width = np.zeros(curves.shape[1], dtype=int), np.zeros(3), 0.0
    for curve in curves:
        found: Moments = moments(curve, labels)
        times, _ = simultaneous(curve, labels, found, ["curve"] * curve.shape[1])
        widths = critical(found.freedom), critical(found.freedom, curve.shape[1]), times
        for k, wide in enumerate(widths):
            lower, upper = limits(found, wide, -np.inf, np.inf)
            held[k] += bool(((lower < 0) & (upper > 0)).all())
        width += float((times / widths[1]).mean())
    return [*(f"{share:.1%}" for share in held / len(curves)), f"{width / len(curves):.2f}"]


if __name__ == "__main__":
    of_means()
    of_interquartile_means()
    of_strata()
    of_bands()
