"""Prompts of tasks told by demonstrations, and how many of their answers are right.

in:  a family told by demonstrations
out: examples with different x for vectors, for the choice of a layer, and for the test; their prompts with
     demonstrations, with shuffled ones, and without any; which answers are right by their first token, and as a whole
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.data.rows import Rows, rows_of
from taskcluster.measures.sites import Placed, chunks
from taskcluster.models.patching import Suffixes
from taskcluster.tasks.family import Example
from taskcluster.tasks.prompting import Layout
from taskcluster.validation import UserError

PARTS = {"vectors": 2, "choice": 1, "test": 1}  # of every four x of a task


class Right(NamedTuple):
    """How many answers are right: by their first token, and in all tokens, each given those before it."""

    first: int = 0
    whole: int = 0

    def __add__(self, other: object) -> Self:
        assert isinstance(other, Right)
        return type(self)(self.first + other.first, self.whole + other.whole)


class Asked:
    """The answers to examples with numbers `examples` (B,), of which the prompts are run up to the last token of y."""

    def __init__(self, network: PreTrainedModel, rows: Rows, examples: Tensor, pad: int) -> None:
        tokens, mask = rows.answer_tokens(examples)
        self._tokens, self._mask = tokens.to(network.device), mask.to(network.device)
        self._first = self._mask.long().argmax(1, keepdim=True)
        self.prompts: Suffixes = Placed(network, rows, examples, pad, tokens.shape[1]).at("answer")

    def right(self, logits: Tensor) -> Right:
        """Of logits (B, K, V) at the last places."""
        hits = logits.argmax(2) == self._tokens
        return Right(int(hits.gather(1, self._first).sum()), int((hits | ~self._mask).all(1).sum()))


def right(network: PreTrainedModel, rows: Rows, pad: int) -> Right:
    """Of all examples, without any edit."""
    found = Right()
    for chunk in chunks(network, rows, torch.arange(rows.n_examples)):
        asked = Asked(network, rows, chunk, pad)
        found += asked.right(asked.prompts.logits)
    return found


@dataclass(frozen=True)
class Told:
    """The prompts of N examples, told in three ways: with demonstrations, with shuffled ones, and without any.

    task (N,): of each.
    """

    few: Rows
    shuffled: Rows
    zero: Rows
    task: Tensor


def tell(data: SequenceDataModule, examples: Sequence[Example], seed: int) -> Told:
    """The prompts of examples. seed: of how their demonstrations are shuffled."""
    layout, prompts = Layout(data.family.layout), Prompts(data.family, data.tokenizer, data.template)

    def rows(instructions: Sequence[str]) -> Rows:
        retold = [e._replace(instruction=i) for e, i in zip(examples, instructions, strict=True)]
        return rows_of(prompts.encode(retold), shared=False, pad=data.tokenizer.pad_token_id or 0)

    few = [example.instruction for example in examples]
    return Told(
        rows(few),
        rows([layout.shuffled(i, random.Random(f"{seed}/shuffled/{i}")) for i in few]),
        rows([layout.query] * len(few)),
        torch.tensor([example.task_id for example in examples]),
    )


def parts_of(data: SequenceDataModule, n_prompts: int, seed: int) -> dict[str, list[Example]]:
    """Validation examples of every task, each with an x of its own, in parts. Raises UserError for too few."""
    family = data.family
    if not family.layout:
        raise UserError("measures.vectors needs few-shot prompts; choose task.describe=demonstrations")
    by_task: dict[int, dict[str, list[Example]]] = {task.task_id: {} for task in family.tasks}
    for example in family.split()["val"]:
        by_task[example.task_id].setdefault(example.x, []).append(example)
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    whole = sum(PARTS.values())
    for task_id, by_x in by_task.items():
        if len(by_x) < whole:
            raise UserError(
                f"measures.vectors: task {task_id} has {len(by_x)} inputs in validation, but needs {whole}; add some"
            )
        rng = random.Random(f"{seed}/vectors/{task_id}")
        chosen = [rng.choice(by_x[x]) for x in rng.sample(sorted(by_x), min(n_prompts, len(by_x)))]
        shares = list(accumulate(PARTS.values()))
        ends = [0, *(len(chosen) * share // whole for share in shares)]
        for part, (begin, end) in zip(PARTS, pairwise(ends), strict=True):
            parts[part] += chosen[begin:end]
    return parts
