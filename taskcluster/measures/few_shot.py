"""Few-shot prompts of tasks, and how many of their answers are right.

in:  a family specified by demonstrations
out: examples with different x for vectors, for the choice of a layer, and for the test; their prompts with
     demonstrations, with shuffled ones, and without any; which answers are right by their first token, and as a whole
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.data.rows import Rows, rows_of
from taskcluster.measures.interventions.sites import Placed, chunks
from taskcluster.tasks.family import Example
from taskcluster.tasks.prompting import Layout
from taskcluster.validation import UserError

PARTS = {"vectors": 2, "choice": 1, "test": 1}  # of every four x of a task


class Questions:
    """Examples with numbers `examples` (B,), of which the `prompts` are run up to the last token of y."""

    def __init__(self, network: PreTrainedModel, rows: Rows, examples: Tensor, pad: int) -> None:
        tokens, mask = rows.answer_tokens(examples)
        self._tokens, self._mask = tokens.to(network.device), mask.to(network.device)
        self._first = self._mask.long().argmax(1, keepdim=True)
        self.prompts = Placed(network, rows, examples, pad, tokens.shape[1]).at("answer")

    def correct(self, logits: Tensor) -> Tensor:
        """How many answers are right by logits (B, K, V) at the last places: by their first token, and in all tokens,
        each given those before it. (2,)."""
        hits = logits.argmax(2) == self._tokens
        return torch.stack([hits.gather(1, self._first).sum(), (hits | ~self._mask).all(1).sum()]).cpu()


def correct(network: PreTrainedModel, rows: Rows, pad: int) -> Tensor:
    """How many answers of all examples are right, without any edit, (2,)."""
    every = (Questions(network, rows, chunk, pad) for chunk in chunks(network, rows, torch.arange(rows.n_examples)))
    return torch.stack([questions.correct(questions.prompts.logits) for questions in every]).sum(0)


@dataclass(frozen=True)
class FewShot:
    """The prompts of N examples: with demonstrations, with shuffled ones, and without any. task (N,): of each."""

    few: Rows
    shuffled: Rows
    zero: Rows
    task: Tensor


def few_shot(data: SequenceDataModule, examples: Sequence[Example], seed: int) -> FewShot:
    """The prompts of examples. seed: of how their demonstrations are shuffled."""
    layout, prompts = Layout(data.family.layout), Prompts(data.family, data.tokenizer, data.template)

    def rows(instructions: Sequence[str]) -> Rows:
        changed = [e._replace(instruction=i) for e, i in zip(examples, instructions, strict=True)]
        return rows_of(prompts.encode(changed), shared=False, pad=data.tokenizer.pad_token_id or 0)

    few = [example.instruction for example in examples]
    return FewShot(
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
    whole, shares = sum(PARTS.values()), list(accumulate(PARTS.values(), initial=0))
    for task_id, by_x in by_task.items():
        if len(by_x) < whole:
            raise UserError(
                f"measures.vectors: task {task_id} has {len(by_x)} inputs in validation, but needs {whole}; add some"
            )
        rng = random.Random(f"{seed}/vectors/{task_id}")
        chosen = [rng.choice(by_x[x]) for x in rng.sample(sorted(by_x), min(n_prompts, len(by_x)))]
        for part, (begin, end) in zip(PARTS, pairwise(len(chosen) * share // whole for share in shares), strict=True):
            parts[part] += chosen[begin:end]
    return parts
