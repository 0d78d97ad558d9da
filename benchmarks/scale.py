"""Growth: the default experiment at 1 and 10 times its tasks, instructions and probe states, each a process.

out: rows of results.json: seconds beside what growth in proportion would give, and peak memory. KMeans is measured on
one layer and split; with k and N both ten times as large its cost in proportion is a hundred times. From 100 times on
it takes one start, as greedy seeding alone would take minutes otherwise.

    python benchmarks/scale.py [FACTOR ...]    # 1 and 10 by default; 200: 10,000 tasks, 1,520,000 instructions
"""

import json
import resource
import subprocess
import sys

from side_by_side import record, row, seconds_of

FACTORS = [1, 10]


def measure(factor: int) -> None:
    """Print seconds of every part and the process's largest memory, as JSON."""
    from transformers import PreTrainedModel

    from taskcluster.config import RunConfig
    from taskcluster.data.datamodule import SequenceDataModule
    from taskcluster.measures.clusterers.kmeans import KMeans
    from taskcluster.measures.clustering import fit_layers_within
    from taskcluster.measures.observation import observe
    from taskcluster.operations.command_line.cli import composed
    from taskcluster.tasks.family import TaskFamily

    config = RunConfig.of(composed(f"task.n_tasks={50 * factor}", f"data.probe_size={1000 * factor}"))
    made: dict[str, object] = {}

    def timed(name: str, work: object) -> float:
        return seconds_of(lambda: made.__setitem__(name, work()))  # type: ignore[operator]

    found = {"task family": timed("family", lambda: config.task.build(TaskFamily))}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["token rows"] = timed("data", lambda: config.data.build(SequenceDataModule, family=made["family"]))
    found["memory of the rows"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    data = made["data"]
    network = config.model.build(PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest)
    found["forward pass over the probe"] = timed("seen", lambda: observe(network, data))
    states = made["seen"].states
    n_init = config.clusterer.arguments["n_init"] if factor < 100 else 1
    clusterer = KMeans(None, n_init, 0)
    found["KMeans"] = timed("fit", lambda: clusterer.fit(states["instruction_end"][-1], 50 * factor))
    labels = made["seen"].labels["input"]
    within = (states["input"][-1:], clusterer, labels["x"], labels["task"])
    found["KMeans within each x"] = timed("within", lambda: fit_layers_within(*within))
    found["peak memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def main(factors: list[int]) -> None:
    found = {}
    for factor in factors:
        command = [sys.executable, __file__, "--one", str(factor)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[factor] = json.loads(printed.splitlines()[-1])
        print(factor, found[factor], flush=True)
    rows = []
    for factor in factors[1:]:
        growth = factor // factors[0]
        for part, value in found[factor].items():
            unit = "GiB" if "memory" in part else "s"
            power = 2 if part.startswith("KMeans") else 1
            one = found[factors[0]][part] * growth**power
            rows.append(row(f"{factor} x: {part}", value, one, f"{growth**power} times that of {factors[0]} x", unit))
    record(rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
    else:
        main([int(argument) for argument in sys.argv[1:]] or FACTORS)
