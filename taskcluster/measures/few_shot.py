"""Few-shot prompts of tasks, and which of their answers are right.

in:  a family specified by demonstrations
out: examples with different x for vectors, for the choice of a layer, and for the test; their prompts with
     demonstrations, with shuffled ones, and without any; which answers are right by their first token, and as a whole
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.data.rows import Rows, rows_of
from taskcluster.measures.interventions.sites import ProbePrompts, chunks
from taskcluster.tasks.family import Example
from taskcluster.tasks.prompting import Layout
from taskcluster.validation import UserError

PARTS = {"vectors": (0, 2), "choice": (2, 3), "test": (3, 4)}  # from which to which quarter of the x of a task


class Questions:
    """Examples with numbers `examples` (B,), whose y have K tokens each: the `prompts` are run up to the last of them;
    up to the token that predicts the first, K = 1, where they are not `whole`.
    """

    def __init__(self, network: PreTrainedModel, rows: Rows, examples: Tensor, whole: bool) -> None:
        first, n = rows.at("answer")[examples], int(rows.answers[examples].max()) if whole else 1
        self._tokens = rows.targets[first[:, None] + torch.arange(n)].long().to(network.device)
        self.prompts = ProbePrompts(network, rows, examples, n if whole else None).at("answer")

    def correct(self, logits: Tensor) -> Tensor:
        """Which answers are right by logits (B, K, V) or (B, V) at the last places: by their first token, and in K
        tokens, each given those before it. (B, 2), float64."""
        hits = logits.view(*self._tokens.shape, -1).argmax(2) == self._tokens
        return torch.stack([hits[:, 0], hits.all(1)], dim=1).double().cpu()


def question_chunks(network: PreTrainedModel, rows: Rows, whole: bool = True) -> list[Tensor]:
    """All examples in parts that are run at once; of whole answers, those of one length, so that no place is padded."""
    lengths = rows.answers if whole else torch.ones_like(rows.answers)
    of_length = [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]
    return [chunk for examples in of_length for chunk in chunks(network, rows, examples)]


def correct(network: PreTrainedModel, rows: Rows) -> Tensor:
    """Which answers of all N examples are right, without any edit, (N, 2)."""
    right = torch.zeros(rows.n_examples, 2, dtype=torch.float64)
    for chunk in question_chunks(network, rows):
        questions = Questions(network, rows, chunk, whole=True)
        right[chunk] = questions.correct(questions.prompts.logits)
    return right


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
    few = [example.instruction for example in examples]
    shuffled = [layout.shuffled(i, random.Random(f"{seed}/shuffled/{i}")) for i in few]
    demonstrated, mixed, zero = (
        rows_of(prompts.encode([e._replace(instruction=i) for e, i in zip(examples, kind, strict=True)]), shared=False)
        for kind in (few, shuffled, [layout.query] * len(few))
    )
    return FewShot(demonstrated, mixed, zero, torch.tensor([example.task_id for example in examples]))


def split_examples(data: SequenceDataModule, n_prompts: int, seed: int) -> dict[str, list[Example]]:
    """Validation examples of every task, no two of a task with the same x, in PARTS. Raises UserError for too few."""
    if not data.family.layout:
        raise UserError("measures.vectors needs few-shot prompts; choose task.describe=demonstrations")
    by_x = defaultdict[tuple[int, str], list[Example]](list)
    for example in data.family.split()["val"]:
        by_x[example.task_id, example.x].append(example)
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for task in data.family.tasks:
        inputs = sorted(x for task_id, x in by_x if task_id == task.task_id)
        if len(inputs) < 4:
            raise UserError(
                f"measures.vectors: task {task.task_id} has {len(inputs)} inputs in validation, but needs 4; add some"
            )
        rng = random.Random(f"{seed}/vectors/{task.task_id}")
        chosen = [rng.choice(by_x[task.task_id, x]) for x in rng.sample(inputs, min(n_prompts, len(inputs)))]
        for part, (begin, end) in PARTS.items():
            parts[part] += chosen[len(chosen) * begin // 4 : len(chosen) * end // 4]
    return parts
