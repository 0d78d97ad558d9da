"""What is measured of a model at one step: a network and the probe set in, named numbers out.

Training and the analysis of saved checkpoints call the same `Measurement`, so their numbers agree to the last digit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.batches import LossOn, Packer, Position
from taskcluster.clustering import Clusterer
from taskcluster.hidden_states import forward_with_states
from taskcluster.tokenizer import Rows

CHUNK = 256  # rows a forward pass


@dataclass(frozen=True)
class Observation:
    """states {position: (L+1, N, D) float32}; loss: mean over predictions; accuracy: y right, given I and x."""

    states: dict[Position, Tensor]
    loss: float
    accuracy: float


@torch.no_grad()
def observe(network: PreTrainedModel, rows: Rows, loss_on: LossOn) -> Observation:
    """Run `network`, without dropout, over rows; keep every layer's state at both positions, in the order of `rows`."""
    training = network.training
    network.eval()
    pack = Packer(rows, loss_on, network.device)
    states: dict[Position, list[Tensor]] = {"instruction_end": [], "input": []}
    loss, weight, right = 0.0, 0.0, 0
    for chosen in torch.arange(len(rows)).split(CHUNK):
        batch = pack(chosen)
        places = {position: batch.places(position) for position in states}
        line, column = (torch.cat(axis) for axis in zip(*places.values(), strict=True))
        output, layers = forward_with_states(network, (line, column), **batch.inputs)
        parts = layers.float().split([len(lines) for lines, _ in places.values()], dim=1)
        for position, part in zip(states, parts, strict=True):
            states[position].append(part)
        loss, weight = loss + float(batch.loss(output.logits)) * batch.total, weight + batch.total
        answers = output.logits[places["input"]].argmax(-1)
        right += int((answers == batch.targets[places["input"]]).sum())
    network.train(training)
    in_order = {position: torch.cat(chunks, dim=1) for position, chunks in states.items()}
    return Observation(in_order, loss / weight, right / len(rows.examples))


@dataclass(frozen=True)
class Measurement:
    """Loss, accuracy and the clustering of every layer on each split of a probe set, {split: Rows}."""

    probe: Mapping[str, Rows]
    loss_on: LossOn
    clusterer: Clusterer
    n_clusters: int

    def __call__(self, network: PreTrainedModel) -> dict[str, float]:
        """Metrics by name, as in "ari/val/layer_3".

        At the separator ("instruction_end") ari, nmi and inertia against the task. At x ("input") the same as
        ari_at_input ..., and inside each value of x ari_within_x against the task and ari_within_x_to_y against y.
        Raises FloatingPointError where the loss is not finite.
        """
        metrics: dict[str, float] = {}
        for split, rows in self.probe.items():
            seen = observe(network, rows, self.loss_on)
            if not math.isfinite(seen.loss):
                raise FloatingPointError(f"{split}/loss is {seen.loss}")
            metrics |= {f"{split}/loss": seen.loss, f"{split}/accuracy": seen.accuracy}
            layers = self._at_instruction_end(seen.states["instruction_end"], rows)
            layers |= self._at_input(seen.states["input"], rows)
            metrics |= {f"{name}/{split}/layer_{k}": v for name, values in layers.items() for k, v in enumerate(values)}
        return metrics

    def _at_instruction_end(self, states: Tensor, rows: Rows) -> dict[str, list[float]]:
        return self.clusterer.score_layers(states, rows.task_ids[:-1], self.n_clusters)

    def _at_input(self, states: Tensor, rows: Rows) -> dict[str, list[float]]:
        x, y = rows.tokens[rows.examples], rows.targets[rows.examples]
        tasks = rows.task_ids[rows.row_of[rows.examples]]
        plain = self.clusterer.score_layers(states, tasks, self.n_clusters)
        truths = {"ari_within_x": tasks, "ari_within_x_to_y": y}
        within = self.clusterer.score_layers_within(states, x, n_clusters_from=tasks, truths=truths)
        return {f"{name}_at_input": values for name, values in plain.items()} | within
