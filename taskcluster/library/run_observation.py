"""A run's probe set as an observation that can be clustered and patched like prompts of one's own."""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.library.observing import batch_size, run_batch
from taskcluster.library.prompt_observation import PromptObservation
from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.observation import Observation, evaluation, observe


@torch.no_grad()
def observe_run(
    network: PreTrainedModel,
    data: SequenceDataModule,
    split: str,
    positions: Sequence[Position],
    final_norm: bool | None,
    clusterer: Clusterer,
) -> PromptObservation:
    """See `LoadedRun.observe`."""
    seen = observe(network, data, split, positions, final_norm=final_norm)
    prompts = replace(seen.prompts, columns={}, examples={})  # whose states are known
    batches = torch.arange(len(prompts)).split(batch_size(network, prompts.ids.shape[1]))
    with evaluation(network):
        parts = [run_batch(network, prompts, lines, sites=()) for lines in batches]
    return PromptObservation(
        **{field.name: getattr(seen, field.name) for field in fields(Observation)},
        activations={"resid_post": {at: states.cpu() for at, states in seen.states.items()}},
        answer_tokens=torch.cat([part["tokens"] for part in parts]),
        losses=torch.cat([part["losses"] for part in parts]),
        clusterer=clusterer,
    )
