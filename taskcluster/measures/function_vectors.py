"""Function vectors: what the heads that carry a task add to the residual stream (Todd et al., arXiv 2310.15213).

in:  prompts with demonstrations, and the same with the labels of the demonstrations shuffled
out: a vector of each task
"""

from itertools import product

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.rows import Rows
from taskcluster.measures.few_shot import FewShot
from taskcluster.measures.interventions.sites import Placed, chunks
from taskcluster.models.heads import added, projections, reading, replacing


def function_vectors(
    network: PreTrainedModel, prompts: FewShot, n_tasks: int, n_heads: int, n_trials: int, pad: int
) -> Tensor:
    """The sum of what `n_heads` heads add in the mean over the prompts of each task with demonstrations, (K, D).

    The heads are those with the highest average indirect effect: by how much the right answer becomes more likely
    where the mean output of a head takes the place of its own, over `n_trials` prompts of each task with shuffled
    labels.
    """
    shuffled, task = prompts.shuffled, prompts.task
    means = _mean_outputs(network, prompts.few, task, n_tasks, pad)
    effects = torch.zeros(means.shape[:2])
    first = torch.cat([(task == k).nonzero().squeeze(1)[:n_trials] for k in range(n_tasks)])
    answer = shuffled.targets[shuffled.at("answer")].long()
    for chunk in chunks(network, shuffled, first):
        suffixes, tasks = Placed(network, shuffled, chunk, pad).at("answer"), task[chunk]
        before = _likelihood(suffixes.logits, answer[chunk])
        for block, head in product(*map(range, effects.shape)):
            with replacing(network, block, head, means[block, head, tasks]):
                logits = suffixes.edited(block, suffixes.states[block])
            effects[block, head] += (_likelihood(logits, answer[chunk]) - before).sum()
    chosen = [
        divmod(int(head), effects.shape[1]) for head in effects.flatten().topk(min(n_heads, effects.numel())).indices
    ]
    return torch.stack([added(network, block, head, means[block, head]) for block, head in chosen]).sum(0)


def _mean_outputs(network: PreTrainedModel, few: Rows, task: Tensor, n_tasks: int, pad: int) -> Tensor:
    """Mean output of every head at the last token of the prompts of each task, (L, H, K, d)."""
    sums: Tensor | float = 0.0
    for chunk in chunks(network, few, torch.arange(len(task))):
        prompts = Placed(network, few, chunk, pad)
        with reading(network) as outputs:
            prompts.at("answer")
        heads = torch.stack(outputs[-len(projections(network)) :])  # (L, B, H, d)
        sums = sums + torch.einsum("lbhd,bk->lhkd", heads, torch.nn.functional.one_hot(task[chunk], n_tasks).to(heads))
    assert isinstance(sums, Tensor)
    return sums / torch.bincount(task, minlength=n_tasks).to(sums)[:, None]


def _likelihood(logits: Tensor, answer: Tensor) -> Tensor:
    """Of the right first token, (B,)."""
    return logits.float().softmax(1).cpu().gather(1, answer[:, None]).squeeze(1)
