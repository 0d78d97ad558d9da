"""A task family as training batches and as the fixed probe set.

in:  TaskFamily
out: the batch of every step, {"input_ids", "labels"} of (B, T), a pure function of (seed, step)
     the probe set, {split: {position: Sequences}}, the same at every measurement of a run
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import chain, zip_longest
from typing import Literal

import pytorch_lightning as pl
import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from taskcluster.tasks import Example, TaskFamily
from taskcluster.tokenizer import PAD, Position, Sequences, Tokenizer
from taskcluster.validation import Seed, validated

IGNORED = -100  # the label that the loss leaves out, as transformers has it

LossOn = Literal["sequence", "y"]


def labels_of(sequences: Sequences, loss_on: LossOn) -> Tensor:
    """What each position should be (N, T): every token but padding, or y alone. The model shifts them by one."""
    if loss_on == "sequence":
        return sequences.tokens.masked_fill(sequences.tokens == PAD, IGNORED)
    columns = torch.arange(sequences.tokens.shape[1], device=sequences.tokens.device)
    return sequences.tokens.masked_fill(columns != sequences.separators[:, None] + 2, IGNORED)


class TrainingBatches(Dataset[dict[str, Tensor]]):
    """Item t is the batch of step t: the t-th run of `batch_size` rows in an endless series of shuffled epochs.

    Process `rank` of `world_size` gets every world_size-th row: the batch is the same however many share it.
    """

    def __init__(
        self, sequences: Sequences, batch_size: int, loss_on: LossOn, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._sequences, self._batch_size, self._loss_on, self._seed = sequences, batch_size, loss_on, seed
        self._share = slice(rank, None, world_size)
        self._shuffled: tuple[int, Tensor] = (-1, torch.empty(0))  # the last epoch asked for

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        batch = self._sequences[self.rows(step)[self._share]]
        return {"input_ids": batch.tokens, "labels": labels_of(batch, self._loss_on)}

    def rows(self, step: int) -> Tensor:
        """Row numbers of a step's whole batch, (batch_size,)."""
        places = torch.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs = places // len(self._sequences)
        return torch.cat([self._epoch(e)[places[epochs == e] % len(self._sequences)] for e in epochs.unique().tolist()])

    def _epoch(self, epoch: int) -> Tensor:
        if self._shuffled[0] != epoch:
            seed = random.Random(f"{self._seed}/batches/{epoch}").getrandbits(63)
            order = torch.randperm(len(self._sequences), generator=torch.Generator().manual_seed(seed))
            self._shuffled = epoch, order
        return self._shuffled[1]


class SequenceDataModule(pl.LightningDataModule):
    """Training batches and the probe set of a task family.

    `probe_size` is the number of states a split and position at most: unique instructions, drawn evenly over tasks, at
    "instruction_end", where a state cannot depend on x; examples, drawn evenly over (task, x), at "input".

    probe: {split: {position: Sequences}} with the splits "train" and "val".
    """

    @validated
    def __init__(
        self,
        family: TaskFamily,
        batch_size: PositiveInt,
        loss_on: LossOn,
        probe_size: PositiveInt,
        seed: Seed,
        probe_seed: Seed,
    ) -> None:
        super().__init__()
        self.family, self.batch_size, self.loss_on, self.seed = family, batch_size, loss_on, seed
        self.tokenizer = Tokenizer(family)
        split = family.split()
        self.sequences = {name: self.tokenizer.sequences(examples) for name, examples in split.items()}
        self.probe: dict[str, dict[Position, Sequences]] = {}
        for name, examples in split.items():
            rng = random.Random(f"{probe_seed}/probe/{name}")
            unique = list({e.instruction: e for e in rng.sample(examples, len(examples))}.values())
            drawn: dict[Position, list[Example]] = {
                "instruction_end": _evenly(unique, lambda e: e.task_id, probe_size, rng),
                "input": _evenly(examples, lambda e: (e.task_id, e.x), probe_size, rng),
            }
            self.probe[name] = {position: self.tokenizer.sequences(chosen) for position, chosen in drawn.items()}

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, validation included."""
        return max(sequences.tokens.shape[1] for sequences in self.sequences.values())

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        trainer = self.trainer
        assert trainer is not None
        batches = TrainingBatches(
            self.sequences["train"], self.batch_size, self.loss_on, self.seed, trainer.global_rank, trainer.world_size
        )
        per_step = trainer.accumulate_grad_batches
        due = range(trainer.global_step * per_step, trainer.max_steps * per_step)
        return DataLoader(batches, batch_size=None, sampler=due)


def _evenly(
    examples: Sequence[Example], stratum: Callable[[Example], Hashable], size: int, rng: random.Random
) -> list[Example]:
    """Up to `size` of the examples: one of every stratum, then a second of every stratum, and so on."""
    strata = defaultdict[Hashable, list[Example]](list)
    for example in rng.sample(examples, len(examples)):
        strata[stratum(example)].append(example)
    rounds = zip_longest(*strata.values())
    return [example for example in chain.from_iterable(rounds) if example is not None][:size]
