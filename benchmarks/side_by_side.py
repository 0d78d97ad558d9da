"""Time taskcluster and a peer alternately in one process, and record the medians."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results.json"

Row = dict[str, Any]


Clock = Callable[[], float]


def seconds_of(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def alternate(timed: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Return the median of each function's results; they are called alternately, so that all meet the same noise."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(repeats + 1):
        for name, run in timed.items():
            value = run()
            if repeat:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def peak(size: int = 1024, repeats: int = 20, clock: Clock = time.perf_counter) -> float:
    """What this machine reaches in a product of two fp32 matrices, in floating-point operations a second."""
    a, b = torch.randn(2, size, size)
    torch.mm(a, b)
    return 2 * size**3 / statistics.median(seconds_of(lambda: torch.mm(a, b), clock) for _ in range(repeats))


def row(
    benchmark: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    limit_fraction: float | None = None,
    **more: Any,
) -> Row:
    """A row of results.json. `ratio` is how many times better ours is; only units that end in "/s" are better high."""
    ratio = ours / peer if unit.endswith("/s") else peer / ours
    return {
        "benchmark": benchmark, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ratio,
        "limit_fraction": limit_fraction, **more,
    }  # fmt: skip


def record(rows: list[Row]) -> None:
    """Print rows as a table and keep them in results.json, in place of older ones of the same benchmark and peer."""
    old: list[Row] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    new = {(r["benchmark"], r["peer_name"]) for r in rows}
    kept = [r for r in old if (r["benchmark"], r["peer_name"]) not in new]
    RESULTS.write_text(json.dumps(kept + rows, indent=2) + "\n")
    show(rows)


def show(rows: list[Row]) -> None:
    """Print rows as a table."""
    table = Table(*HEADER)
    for r in rows:
        table.add_row(*cells(r))
    Console(width=160).print(table)


HEADER = ("benchmark", "ours", "peer", "unit", "ratio", "of the limit", "peer is", "also")


def cells(r: Row) -> list[str]:
    """A row as it is printed, under HEADER."""
    limit = "" if r["limit_fraction"] is None else f"{r['limit_fraction']:.0%}"
    also = ", ".join(f"{key} {value:.4g}" for key, value in r.items() if key not in row("", 1, 1, "", ""))
    ours, peer = (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in (r["ours"], r["peer"]))
    numbers = ours, peer, r["unit"], f"{r['ratio']:.1f}"
    return [r["benchmark"], *numbers, limit, r["peer_name"], also]


if __name__ == "__main__":  # results.json as Markdown
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    for r in json.loads(RESULTS.read_text(encoding="utf-8")):
        print("| " + " | ".join(cells(r)) + " |")
