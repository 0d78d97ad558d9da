"""Turn a task family into training batches and the fixed probe set.

in:  TaskFamily
out: the Batch of every step, a pure function of (seed, step)
     the probe set, {split: Rows}, the same at every measurement of a run
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import count, groupby
from typing import Literal

import pytorch_lightning as pl
import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from taskcluster.data.batches import WEIGHTS, Batch, Hidden, LossOn, Packer, Padding, Weights
from taskcluster.data.prompts import Prompts, Template
from taskcluster.data.rows import Rows, rows_of
from taskcluster.data.tokenizer import Frame, default_template, load_tokenizer, make_tokenizer, render_frame
from taskcluster.tasks.family import Example, TaskFamily, in_rounds
from taskcluster.validation import Seed, validated

Layout = Literal["shared_prefix", "sequences", "padded"]


class TrainingBatches(Dataset[Batch]):
    """Item t is the batch of step t: the t-th run of `n_rows` rows in an endless series of shuffled epochs.

    Process `rank` of `world_size` gets every world_size-th row: the batch is the same however many share it.
    fixed_shape: whether all batches have the same shape; see Packer.
    """

    def __init__(
        self,
        rows: Rows,
        n_rows: int,
        weights: LossOn | Weights,
        seed: int,
        trainer: pl.Trainer,
        padding: Padding | None = None,
        fixed_shape: bool = False,
    ) -> None:
        fixed = n_rows if fixed_shape else None
        self._pack = Packer(rows, weights, trainer.strategy.root_device, padding, n_rows=fixed)
        self._n, self._n_rows, self._seed = len(rows), n_rows, seed
        self._share = trainer.global_rank, trainer.world_size
        self._shuffled: tuple[int, Tensor] = (-1, torch.empty(0))  # the last epoch requested

    def __getitem__(self, step: int) -> Batch:
        return self._pack(self.rows(step), *self._share)

    def rows(self, step: int) -> Tensor:
        """Row numbers of a step's whole batch, (n_rows,)."""
        places = torch.arange(step * self._n_rows, (step + 1) * self._n_rows)
        epochs = places // self._n
        return torch.cat([self._epoch(e)[places[epochs == e] % self._n] for e in epochs.unique().tolist()])

    def _epoch(self, epoch: int) -> Tensor:
        if self._shuffled[0] != epoch:
            seed = random.Random(f"{self._seed}/batches/{epoch}").getrandbits(63)
            self._shuffled = epoch, torch.randperm(self._n, generator=torch.Generator().manual_seed(seed))
        return self._shuffled[1]


class SequenceDataModule(pl.LightningDataModule):
    """Training batches and the probe set of a task family.

    tokenizer: the name or folder of another model's, or None for one that is made from the family; tokenizer_revision,
    tokenizer_gguf_file: see `load_tokenizer`; template: the text of a prompt, by default one that suits the tokenizer,
    with {instruction}, {x} and {y}; prefix: text in front of every prompt; chat: whether the tokenizer's chat template
    is put around what precedes y; chat_frame: what that template wrote when the run began, {"opening": text, "closing":
    text}, None to render it.
    layout: "shared_prefix", each instruction with all its examples in one row; "sequences", each example by itself;
    "padded", likewise, in lines of their own filled up on the padding_side: for models that take no mask of (T, T).
    batch_size: sequences an update; with shared prefixes those of as many instructions as make that number on average.
    probe_size: states a split and position at most: unique instructions, drawn evenly over tasks, at "instruction_end",
    where a state cannot depend on x; examples of these, drawn evenly over (task, x), at "input".
    probe_final_norm: whether measured states of the last layer are after the final norm, or before it.

    loss_on: what the measured loss counts; the training loss too, unless the objective sets other weights.

    probe: {split: Rows} with the splits "train" and "val"; chat_frame: a Frame, None without chat.
    weights: of the parts of a sequence in training, and hidden: which tokens are hidden from which when the model is
    measured, if any; both as the run's objectives have them. fixed_shape: whether all training batches have the same
    shape.
    """

    @validated
    def __init__(
        self,
        family: TaskFamily,
        tokenizer: str | None,
        template: str | None,
        layout: Layout,
        padding_side: Padding,
        batch_size: PositiveInt,
        loss_on: LossOn,
        probe_size: PositiveInt,
        seed: Seed,
        probe_seed: Seed,
        prefix: str | None = None,
        chat: bool = False,
        tokenizer_revision: str | None = None,
        tokenizer_gguf_file: str | None = None,
        probe_final_norm: bool = True,
        chat_frame: dict[Literal["opening", "closing"], str] | None = None,
    ) -> None:
        super().__init__()
        self.family, self.batch_size, self.loss_on, self.seed = family, batch_size, loss_on, seed
        self.probe_final_norm = probe_final_norm
        self.weights = WEIGHTS[loss_on]
        self.hidden: Hidden | None = None
        self.fixed_shape = False
        self.padding: Padding | None = padding_side if layout == "padded" else None
        split = family.split()
        loaded = load_tokenizer(tokenizer, tokenizer_revision, tokenizer_gguf_file) if tokenizer is not None else None
        written = template or default_template(family, loaded), prefix or ""
        self.template = Template(*written)
        self.tokenizer = loaded or make_tokenizer(family, self.template)
        self.chat_frame: Frame | None = None
        if chat:
            self.chat_frame = Frame(**chat_frame) if chat_frame else render_frame(self.tokenizer)
            self.template = Template(*written, *self.chat_frame)
        prompts = Prompts(family, self.tokenizer, self.template)
        pad = self.tokenizer.pad_token_id or 0
        self.train_rows = rows_of(prompts.encode(split["train"]), shared=layout == "shared_prefix", pad=pad)
        self.n_rows = max(1, round(batch_size * len(self.train_rows) / len(split["train"])))
        self.longest = max(self.train_rows.longest, max(len(p.tokens) for p in prompts.encode(split["val"])))
        self.probe = {
            name: rows_of(
                prompts.encode(_probe(examples, probe_size, random.Random(f"{probe_seed}/probe/{name}"))),
                shared=True,
                pad=pad,
            )
            for name, examples in split.items()
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        trainer = self.trainer
        assert trainer is not None
        drawn = self.train_rows, self.n_rows, self.weights, self.seed, trainer, self.padding, self.fixed_shape
        batches = TrainingBatches(*drawn)
        per_step = trainer.accumulate_grad_batches
        # Without an end, since Lightning would take the batches left for those of an epoch already begun.
        return DataLoader(batches, batch_size=None, sampler=count(trainer.global_step * per_step))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch unchanged: every tensor is already on the device that reads it."""
        return batch


def _probe(examples: Sequence[Example], size: int, rng: random.Random) -> list[Example]:
    """Examples of up to `size` instructions: one of each, then a second of each, and so on, up to `size` as well.

    Instructions come evenly from tasks, and those of a task begin with each of its inputs in turn.
    """
    by_task = defaultdict[int, list[list[int]]](list)
    groups = [list(group) for _, group in groupby(range(len(examples)), lambda k: examples[k][:2])]
    for group in rng.sample(groups, len(groups)):
        drawn_of_task = by_task[examples[group[0]].task_id]
        turn = len(drawn_of_task) % len(group)
        drawn_of_task.append(group[turn:] + group[:turn])
    chosen = in_rounds(by_task.values())[:size]
    drawn = set(in_rounds(chosen)[:size])
    return [examples[k] for group in chosen for k in group if k in drawn]
