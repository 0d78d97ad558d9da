"""What is measured of a model at one step: a network and the probe set in, named numbers out.

Training and the analysis of saved checkpoints call the same `Measurement`, so their numbers agree to the last digit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.clustering import Clusterer
from taskcluster.datamodule import IGNORED, LossOn, labels_of
from taskcluster.hidden_states import forward_with_states
from taskcluster.tokenizer import Position, Sequences

CHUNK = 256  # sequences a forward pass


@dataclass(frozen=True)
class Observation:
    """states (L+1, N, D) float32 on the CPU; loss: mean over labels; accuracy: y right, given I and x."""

    states: Tensor
    loss: float
    accuracy: float


@torch.no_grad()
def observe(network: PreTrainedModel, sequences: Sequences, position: Position, loss_on: LossOn) -> Observation:
    """Run `network`, without dropout, over N sequences; keep every layer's state at `position`."""
    training = network.training
    network.eval()
    by_length = sequences.separators.argsort(stable=True)  # so that chunks hold little padding
    states, loss, n_labels, n_right = [], 0.0, 0, 0
    for rows in by_length.split(CHUNK):
        chunk = sequences[rows].to(network.device)
        labels = labels_of(chunk, loss_on)
        output, layers = forward_with_states(network, chunk.tokens, chunk.index_of(position), labels=labels)
        states.append(layers.float().cpu())
        labelled = int((labels[:, 1:] != IGNORED).sum())
        loss, n_labels = loss + float(output.loss) * labelled, n_labels + labelled
        answers = output.logits[torch.arange(len(chunk), device=network.device), chunk.index_of("input")].argmax(-1)
        n_right += int((answers == chunk.y_ids).sum())
    network.train(training)
    in_order = torch.cat(states, dim=1)[:, by_length.argsort()]
    return Observation(in_order, loss / n_labels, n_right / len(sequences))


@dataclass(frozen=True)
class Measurement:
    """Loss, accuracy and the clustering of every layer on each split of a probe set, {split: {position: Sequences}}."""

    probe: Mapping[str, Mapping[Position, Sequences]]
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
        for split, at in self.probe.items():
            end = observe(network, at["instruction_end"], "instruction_end", self.loss_on)
            x = observe(network, at["input"], "input", self.loss_on)
            if not math.isfinite(x.loss):
                raise FloatingPointError(f"{split}/loss is {x.loss}")
            metrics |= {f"{split}/loss": x.loss, f"{split}/accuracy": x.accuracy}
            layers = self._at_instruction_end(end.states, at["instruction_end"]) | self._at_input(x.states, at["input"])
            metrics |= {f"{name}/{split}/layer_{k}": v for name, values in layers.items() for k, v in enumerate(values)}
        return metrics

    def _at_instruction_end(self, states: Tensor, sequences: Sequences) -> dict[str, list[float]]:
        return self.clusterer.score_layers(states, sequences.task_ids, self.n_clusters)

    def _at_input(self, states: Tensor, sequences: Sequences) -> dict[str, list[float]]:
        tasks, x, y = sequences.task_ids, sequences.x_ids, sequences.y_ids
        plain = self.clusterer.score_layers(states, tasks, self.n_clusters)
        truths = {"ari_within_x": tasks, "ari_within_x_to_y": y}
        within = self.clusterer.score_layers_within(states, x, n_clusters_from=tasks, truths=truths)
        return {f"{name}_at_input": values for name, values in plain.items()} | within
