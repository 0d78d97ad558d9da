"""What is measured of a model at one step: a network and the probe set in, named numbers out.

Training and the analysis of saved checkpoints call the same `Measurement`, so their numbers agree to the last digit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.batches import LossOn, Packer, Padding
from taskcluster.data.rows import Position, Rows
from taskcluster.measures.clustering import Clusterer
from taskcluster.models.hidden_states import forward_with_states
from taskcluster.processes.group import count, share_out

CHUNK = 256  # rows a forward pass
POSITIONS: tuple[Position, Position] = ("instruction_end", "input")


@dataclass(frozen=True)
class Observation:
    """states {position: (L+1, N, D) float32}; loss: mean over predictions; accuracy: all of y right, given I and x."""

    states: dict[Position, Tensor]
    loss: float
    accuracy: float


@torch.no_grad()
def observe(network: PreTrainedModel, rows: Rows, loss_on: LossOn, padding: Padding | None = None) -> Observation:
    """Run `network`, without dropout, over rows; keep every layer's state at both positions, in the order of `rows`.

    The processes of a run divide the chunks of rows, and each gets everything.
    """
    pack = Packer(rows, loss_on, network.device, padding)

    def of_chunk(chosen: Tensor) -> tuple[list[Tensor], float, float, int]:
        """States at each position, the summed loss, its weight, and how many answers are right."""
        batch = pack(chosen)
        places = [batch.places(position) for position in POSITIONS]
        line, column = (torch.cat(axis) for axis in zip(*places, strict=True))
        output, layers = forward_with_states(network, (line, column), **batch.inputs)
        right = int(batch.correct(output.logits).sum())
        parts = layers.float().split([len(lines) for lines, _ in places], dim=1)
        return list(parts), float(batch.loss(output.logits)) * batch.total, batch.total, right

    training = network.training
    network.eval()
    try:
        chunks = share_out(of_chunk, torch.arange(len(rows)).split(CHUNK))
    finally:
        network.train(training)
    parts, losses, weights, right = zip(*chunks, strict=True)
    states = {
        position: torch.cat([part.to(network.device) for part in of_position], dim=1)
        for position, of_position in zip(POSITIONS, zip(*parts, strict=True), strict=True)
    }
    return Observation(states, sum(losses) / sum(weights), sum(right) / rows.n_examples)


@dataclass(frozen=True)
class Measurement:
    """Loss, accuracy and the clustering of every layer on each split of a probe set, {split: Rows}."""

    probe: Mapping[str, Rows]
    loss_on: LossOn
    clusterer: Clusterer
    n_clusters: int
    padding: Padding | None = None

    def __call__(self, network: PreTrainedModel) -> dict[str, float]:
        """Metrics by name, as in "ari/val/layer_3".

        At the separator ("instruction_end") ari, nmi and inertia against the task. At x ("input") the same as
        ari_at_input ..., and inside each value of x ari_within_x against the task and ari_within_x_to_y against y.
        Raises FloatingPointError where the loss is not finite.
        """
        metrics: dict[str, float] = {}
        for split, rows in self.probe.items():
            seen = observe(network, rows, self.loss_on, self.padding)
            if not math.isfinite(seen.loss):
                raise FloatingPointError(f"{split}/loss is {seen.loss}")
            metrics |= {f"{split}/loss": seen.loss, f"{split}/accuracy": seen.accuracy}
            layers = self._at_instruction_end(seen.states["instruction_end"], rows)
            layers |= self._at_input(seen.states["input"], rows)
            metrics |= {f"{name}/{split}/layer_{k}": v for name, values in layers.items() for k, v in enumerate(values)}
        return metrics

    def _at_instruction_end(self, states: Tensor, rows: Rows) -> dict[str, list[float]]:
        tasks = rows.labels("instruction_end")["task"]
        return _by_layer(states, lambda part: self.clusterer.score_layers(part, tasks, self.n_clusters))

    def _at_input(self, states: Tensor, rows: Rows) -> dict[str, list[float]]:
        labels = rows.labels("input")
        tasks, x = labels["task"], labels["x"]
        truths = {"ari_within_x": tasks, "ari_within_x_to_y": labels["y"]}
        plain = _by_layer(states, lambda part: self.clusterer.score_layers(part, tasks, self.n_clusters))
        within = _by_layer(states, lambda part: self.clusterer.score_layers_within(part, x, tasks, truths))
        return {f"{name}_at_input": values for name, values in plain.items()} | within


def _by_layer(states: Tensor, score: Callable[[Tensor], dict[str, list[float]]]) -> dict[str, list[float]]:
    """`score` of states (L+1, N, D), whose layers the processes of a run divide."""
    n = min(count(), len(states))
    scored = share_out(score, [states[k::n] for k in range(n)])
    return {name: [scored[k % n][name][k // n] for k in range(len(states))] for name in scored[0]}
