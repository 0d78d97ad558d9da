"""How often a run waits for its device, counted on a device that is made up.

in:  overrides of the default configuration
out: as JSON: {place: waits} of each of 12 updates by Lightning, and of a measurement; and the ARI of clusters found
     on the device with those that are there, twice, with the inertia

    PYTHONPATH=. python tests/waiting.py [OVERRIDE ...]
"""

import json
import sys
from typing import Any

import pytorch_lightning as pl
import torch
from device import DEVICE, Accelerator, Waits
from pytorch_lightning.strategies import SingleDeviceStrategy

from taskcluster.config import RunConfig
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import OURS, language_model, measuring, prepare
from taskcluster.training.progress import quieten

STEPS = 12


class Counting(pl.Callback):
    def __init__(self, waits: Waits) -> None:
        self.waits, self.steps = waits, list[dict[str, int]]()

    def on_train_batch_start(self, *_: Any) -> None:
        if not self.steps:  # what comes before the first batch
            self.waits.at.clear()

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps.append(dict(self.waits.at))
        self.waits.at.clear()


def main(overrides: list[str]) -> None:
    quieten()
    config = RunConfig.of(composed(*overrides, f"trainer.max_steps={STEPS}"))
    data, network = prepare(config)
    model, measurement = language_model(config, network), measuring(config, data)
    strategy = SingleDeviceStrategy(DEVICE, accelerator=Accelerator())
    with Waits() as waits:
        counting = Counting(waits)
        wired: dict[str, Any] = {"gradient_clip_val": 1.0, "strategy": strategy, "callbacks": [counting], **OURS}
        pl.Trainer(max_steps=STEPS, **wired).fit(model, data)
        model.to(DEVICE)
        waits.at.clear()
        measurement(network, STEPS, last=False)
        in_measurement = dict(waits.at.most_common())
        clusterings = [planted(), planted()]
    print(json.dumps({"steps": counting.steps, "measurement": in_measurement, "planted": clusterings}))


def planted() -> tuple[float, float]:
    truth = torch.arange(10).repeat_interleave(30)
    random = torch.Generator().manual_seed(0)
    states = 20 * torch.randn(10, 16, generator=random)[truth] + torch.randn(300, 16, generator=random)
    clusters = KMeans(None, 10, 0).fit(states.to(DEVICE), 10).clusters
    return clusters.ari(truth), clusters.inertia


if __name__ == "__main__":
    main(sys.argv[1:])
