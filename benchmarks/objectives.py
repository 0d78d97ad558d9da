"""Updates under each objective beside those of the default one: `python benchmarks/objectives.py [REPEATS]`."""

import sys

from side_by_side import alternate, record, row
from updates import ours

from taskcluster.training.progress import quieten

BESIDE = {
    "bottleneck": ("objective=[next_token,bottleneck]",),
    "bottleneck in half of the sequences": (
        "objective=[next_token,bottleneck]",
        "objective.bottleneck.probability=0.5",
    ),
    "detached": ("objective=[next_token,detached]",),
    "pull at the separator": ("objective=[next_token,pull]",),
    "pull at x": ("objective=[next_token,pull]", "objective.pull.at=input"),
}


def main(repeats: int) -> None:
    quieten()
    timed = {name: ours(*words)[0] for name, words in {"next_token": (), **BESIDE}.items()}
    found = alternate(timed, repeats)
    plain = found.pop("next_token")
    rows = [row(f"objective: {name}", value, plain, "next_token alone", "sequences/s") for name, value in found.items()]
    record(rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
