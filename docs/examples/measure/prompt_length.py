"""How far the states of a layer follow the length of the prompt: a measure that reads texts."""

from collections.abc import Mapping

import torch
from torch import Tensor

from taskcluster import Measure, Metric, Observation

LENGTH = Metric("prompt_length", "r²", "with the length of the text", position="instruction_end", low=0, high=1)


def shared_variance(states: Tensor, lengths: Tensor) -> float:
    """The squared correlation of the first principal component of states (N, D) with lengths (N,); NaN where either is
    constant."""
    centred = states.double() - states.double().mean(0)
    component = torch.linalg.svd(centred, full_matrices=False)[0][:, 0]  # of length 1
    deviations = lengths.double() - lengths.double().mean()
    share = float((component @ deviations).square() / deviations.square().sum())
    return share if bool(centred.any()) else float("nan")


class PromptLength(Measure):
    metrics = (LENGTH,)
    positions = ("instruction_end",)

    def measure(self, observation: Observation) -> Mapping[Metric, list[float]]:
        texts = observation.prompts.texts_at("instruction_end")  # what the model has read there, of each state
        lengths = torch.tensor([len(text) for text in texts])
        return {LENGTH: [shared_variance(layer.cpu(), lengths) for layer in observation.states["instruction_end"]]}
