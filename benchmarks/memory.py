"""Memory of an analysis: the peak of a process that measures a checkpoint, beside the ceiling in docs/analyze.md; and
of 1,000 prompts of a pretrained model, beside that of docs/pretrained.md.

out: rows of results.json, in MiB above what the process had once the run, or the model, was loaded. Fails where the
ceiling is exceeded.

    python benchmarks/memory.py RUN                    # a finished run, as of make reproduce
    python benchmarks/memory.py .models/smollm2        # as of make smollm2
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from side_by_side import record, row

MIB = 2**20
CASES = {  # of the default run, and of ten times its probe set
    "own measures": {},
    "own measures, probe 10 times as large": {"data.probe_size": 10_000},
}

THEIRS = {  # tasks, and how much of each measure is enough for the highest peak
    "questions": ["experiment=probe", "measures.interventions.layers=[29]"],
    "demonstrations": [
        "experiment=probe_demonstrations",
        "task.describe=demonstrations",
        "measures.vectors.layers=[29]",
        "measures.vectors.methods=[difference,cluster]",
    ],
}
N_PROMPTS = 1000
CEILING = 3 * 2**30  # of N_PROMPTS of 30 layers, 576 wide


def ceiling(
    n_probe: int, n_layer: int, width: int, n_clusters: int, n_init: int, vocabulary: int, tokens: int
) -> float:
    """Bytes, as docs/analyze.md has them. tokens: of the longest row of the probe set."""
    states = 4 * (n_layer + 1) * 2 * n_probe * width  # at the separator and at x, of one split
    rows = min(256, 2**26 // (tokens * vocabulary))
    forward = 4 * rows * tokens * (3 * vocabulary + 16 * width)
    kmeans = 4 * (3 * min(2**26, n_init * n_clusters * n_probe) + min(n_probe, 4096) ** 2 * 2)
    return 3 * states + forward + kmeans + 32 * MIB


def measure(run: str, changes: dict[str, object]) -> None:
    """Print the peak above the loaded run and the ceiling, in bytes, as JSON."""
    from taskcluster.training.loading import load_run

    loaded = load_run(run, changes=changes)
    network, clusterer = loaded.network.config, loaded.config.clusterer.arguments
    limit = ceiling(
        n_probe=max(rows.n_examples for rows in loaded.data.probe.values()),
        n_layer=network.num_hidden_layers,
        width=network.hidden_size,
        n_clusters=clusterer["n_clusters"] or len(loaded.data.family.tasks),
        n_init=clusterer["n_init"],
        vocabulary=network.vocab_size,
        tokens=max(int(rows.lengths.max()) for rows in loaded.data.probe.values()),
    )
    tell(loaded.measure, limit)


def measure_theirs(folder: str, words: list[str]) -> None:
    """The same for 1,000 prompts of a pretrained model."""
    from taskcluster.config import RunConfig
    from taskcluster.operations.command_line.cli import composed
    from taskcluster.training.experiment import measuring, prepare

    gguf = [f"model.gguf_file={file.name}" for file in Path(folder).glob("*.gguf")]
    own = ["task=facts", "model=pretrained", f"model.path={folder}", *gguf, f"data.probe_size={N_PROMPTS}"]
    config = RunConfig.of(composed(*own, *words))
    data, network = prepare(config)
    assert data.probe["val"].n_examples == N_PROMPTS
    measurement = measuring(config, data, network)
    tell(lambda: measurement(network), CEILING)


def tell(measured: Callable[[], object], limit: float) -> None:
    """Print the peak of `measured` above what the process has before it, and the ceiling, in bytes, as JSON."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far, of loading, is forgotten
    before = in_bytes("VmRSS")
    measured()
    print(json.dumps({"peak": in_bytes("VmHWM") - before, "ceiling": limit, "before": before}))


def in_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(folder: str) -> None:
    found, ours = [], (Path(folder) / "metrics.jsonl").exists()
    cases = CASES.items() if ours else ((f"{N_PROMPTS} {name}", words) for name, words in THEIRS.items())
    for name, changes in cases:
        command = [sys.executable, __file__, "--one" if ours else "--theirs", folder, json.dumps(changes)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        of_case = json.loads(printed.splitlines()[-1])
        print(name, of_case, flush=True)
        found.append(
            row(f"memory: {name}", of_case["peak"] / MIB, of_case["ceiling"] / MIB, "the stated ceiling", "MiB")
        )
    record(found)
    if above := [r["benchmark"] for r in found if r["ours"] > r["peer"]]:
        sys.exit(f"above the ceiling: {', '.join(above)}")


if __name__ == "__main__":
    if sys.argv[1] in ("--one", "--theirs"):
        {"--one": measure, "--theirs": measure_theirs}[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
    else:
        main(str(Path(sys.argv[1]).absolute()))
