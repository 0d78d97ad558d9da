"""Sites of interventions: which states are edited, for which pairs of tasks, and which states give centroids.

in:  the probe set of a split
out: Pairs (A, B) of tasks that share x and disagree about y; for a site SiteStates: every state that gives centroids
     and every state that is edited, with the group and the cell of each

A pair is a tested example of task A and a task B that maps its x to a y with another first token. Centroids and
source prompts come from the other half of the instructions, which no test uses.

At one position a prompt has one state. All tokens of an instruction are edited at once, so there every token has a
state, and it is compared with tokens at the same place of instructions of the same length.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from taskcluster.data.batches import Hidden
from taskcluster.data.rows import Position, Rows
from taskcluster.data.tokenized import hidden_keys
from taskcluster.measures.interventions.edits import EDITS, alternating
from taskcluster.models.patching import Prompts, Suffixes, runs_at_once

Layers = Annotated[list[NonNegativeInt], Field(min_length=1)] | PositiveInt | None

SiteName = Literal[
    "instruction_end",
    "input",
    "answer",
    "instruction_end_to_input",
    "instruction",
    "instruction_last_1",
    "instruction_last_2",
    "instruction_last_4",
    "instruction_without_end",
]


class Site(NamedTuple):
    """source: the position whose states give centroids; edited: where they are patched in; whole: in several tokens up
    to it, all but so many `without`, or only the `last`, of prompts of equal length. edits: those that are possible."""

    source: Position
    edited: Position
    whole: bool = False
    edits: Collection[str] = EDITS
    last: int | None = None
    without: int = 0


SITES: dict[SiteName, Site] = {
    "instruction_end": Site("instruction_end", "instruction_end"),
    "input": Site("input", "input"),
    "answer": Site("answer", "answer"),
    "instruction_end_to_input": Site(
        "instruction_end", "input", False, ("add", "interchange", "cluster", "random", "shuffled", "third_task")
    ),
}

# Few tokens share a place and a length, and every edit computes all of the prompt.
_TOKENS = Site("instruction_end", "instruction_end", True, ("add", "interchange", "mean", "random", "third_task"))
SITES |= {
    "instruction": _TOKENS,
    "instruction_last_1": _TOKENS._replace(last=1),
    "instruction_last_2": _TOKENS._replace(last=2),
    "instruction_last_4": _TOKENS._replace(last=4),
    "instruction_without_end": _TOKENS._replace(without=1),
}


def edited_layers(n_layer: int, layers: Sequence[int] | int | None) -> list[int]:
    """All layers, 0 to L, for None; for a number as many, spread evenly from 1 to L. Raises ValueError for a layer that
    a model of L = n_layer blocks does not have."""
    if layers is None:
        return [*range(n_layer + 1)]
    if isinstance(layers, int):
        return sorted({round(1 + k * (n_layer - 1) / max(1, layers - 1)) for k in range(layers)})
    if wrong := [layer for layer in layers if not 0 <= layer <= n_layer]:
        raise ValueError(f"layers={wrong[0]}: the model has layers 0 to {n_layer}; choose from these")
    return sorted({*layers})


def chunks(network: PreTrainedModel, rows: Rows, examples: Tensor) -> list[Tensor]:
    """Examples (E,) in parts that are run at once."""
    return list(examples.split(runs_at_once(network, int(rows.prefixes.max() + rows.reads.max()))))


class ProbePrompts:
    """The prompts of examples with numbers `examples` (B,), run once, whose suffixes are found by position.

    last: up to the last token of y instead of the one that predicts its first, with the logits of so many places.
    prefix: see `Prompts`; with one, no suffix is `whole`. hidden: which tokens are hidden from which, if any.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        rows: Rows,
        examples: Tensor,
        last: int | None = None,
        prefix: Cache | None = None,
        hidden: Hidden | None = None,
    ) -> None:
        tokens, mask, back = rows.prompts(examples, pad=0, whole=last is not None)  # masked tokens are never read
        ends = mask.sum(1) - 1 - back["instruction_end"]
        masked = hidden_keys(hidden, mask, ends).to(network.device) if hidden else None
        self._prompts = Prompts(network, tokens.to(network.device), mask.to(network.device), last, prefix, masked)
        self._first = (mask.sum(1) - 1).to(network.device)
        self._back = {position: places.to(network.device) for position, places in back.items()}

    def at(self, position: Position, whole: bool = False, earlier: int = 0, last: int | None = None) -> Suffixes:
        """From the position on, or so many tokens earlier; `whole`: all tokens up to it are among its places, or only
        the `last`, and of a prompt that has no such token none."""
        back = self._back[position] + earlier
        if not whole:
            return self._prompts.at(torch.minimum(back, self._first))
        return self._prompts.at(back, self._first if last is None else torch.minimum(back + last - 1, self._first))

    def has(self, position: Position, earlier: int) -> Tensor:
        """Whether each prompt has a token so much earlier, (B,)."""
        return self._back[position] + earlier <= self._first


@dataclass(frozen=True)
class SiteStates:
    """S states that give centroids, in G groups, and M states that are edited.

    examples (E,): whose states at the site are the S, in this order. groups (S,): the group of each; cells (G,): which
    groups can be compared. pair (M,): the pair that an edited state belongs to, in ascending order. a, b, third (M,):
    its groups of A, of B and of a third task, -1 where there is none. source (M,): which of the S is of B.
    """

    examples: Tensor
    groups: Tensor
    cells: Tensor
    pair: Tensor
    a: Tensor
    b: Tensor
    third: Tensor
    source: Tensor


@dataclass(frozen=True)
class Pairs:
    """P interventions.

    base (P,): the tested example. token_a, token_b (P,): the first tokens of the answers of its task A and of B.
    states: where states depend on x. A group is a task and an x, and a pair has one edited state. group_task (G,): the
    task of each group.
    """

    base: Tensor
    token_a: Tensor
    token_b: Tensor
    states: SiteStates
    group_task: Tensor


def halves(rows: Rows) -> tuple[Tensor, Tensor]:
    """The examples of the first, third, ... instruction of every task, and those of the others."""
    odd = alternating(rows.numbers[rows.first_examples, 0].long()).repeat_interleave(rows.counts[:-1])
    return odd.nonzero().squeeze(1), (~odd).nonzero().squeeze(1)


def task_pairs(rows: Rows, n_pairs: int, generator: torch.Generator) -> Pairs:
    """Up to `n_pairs` pairs, drawn from all. Raises ValueError where no two tasks share an x and disagree."""
    centroid, tested = halves(rows)
    token = rows.targets[rows.at("answer")].long()
    task, x = rows.numbers[:, 0].long(), rows.numbers[:, 3].long()
    width = int(x.max()) + 1
    keys, groups = (task * width + x)[centroid].unique(return_inverse=True)
    group_task, group_x = keys // width, keys % width
    group_token = token[torch.zeros_like(keys).scatter_(0, groups, centroid)]

    same_x = x[tested][:, None] == group_x
    disagrees = same_x & (token[tested][:, None] != group_token)
    same_task = same_x & (task[tested][:, None] == group_task)
    possible = (disagrees & same_task.any(1, keepdim=True)).nonzero()
    if not len(possible):
        raise ValueError(
            "no two tasks of the probe set share an x but differ in the first token of y, so no pair of prompts can be "
            "patched; choose other tasks, or raise data.probe_size"
        )
    test, b = possible[torch.randperm(len(possible), generator=generator)[:n_pairs].sort().values].unbind(1)
    third = _draw(disagrees[test] & (group_token != group_token[b][:, None]), generator)
    a, source = same_task[test].long().argmax(1), _draw(groups == b[:, None], generator)
    states = SiteStates(centroid, groups, group_x, torch.arange(len(b)), a, b, third, source)
    return Pairs(tested[test], token[tested[test]], group_token[b], states, group_task)


def _draw(possible: Tensor, generator: torch.Generator) -> Tensor:
    """A random column where each row of `possible` (N, M) is true, (N,); -1 where none is."""
    drawn = torch.rand(possible.shape, generator=generator).where(possible, -1.0).max(1)
    return drawn.indices.where(drawn.values >= 0, -1)


def site_states(name: SiteName, rows: Rows, pairs: Pairs, generator: torch.Generator) -> SiteStates:
    """Those of a site. Raises ValueError for sites of tokens where no pair has instructions of equal length."""
    if SITES[name].whole:
        return _token_states(name, rows, pairs, generator)
    known = pairs.states
    if SITES[name].source != "instruction_end":
        return known
    tasks, groups = pairs.group_task.unique(return_inverse=True)  # where no state depends on x
    a, b, third = (_lookup(groups, numbers) for numbers in (known.a, known.b, known.third))
    return replace(known, groups=groups[known.groups], cells=torch.zeros_like(tasks), a=a, b=b, third=third)


def _lookup(values: Tensor, numbers: Tensor) -> Tensor:  # (N,), -1 for -1
    return torch.where(numbers >= 0, values[numbers], -1)


def _token_states(name: SiteName, rows: Rows, pairs: Pairs, generator: torch.Generator) -> SiteStates:
    """The state of every token before x, of one example of each instruction; and of every pair, those of the site."""
    site, known = SITES[name], pairs.states
    # Examples of an instruction follow each other.
    first = torch.cat([torch.tensor([True]), rows.numbers[known.examples, 2].diff() != 0])
    examples = known.examples[first]
    lengths = rows.prefixes[rows.row_of_example].long()
    longest, base = int(lengths.max()) + 1, lengths[pairs.base]
    kinds = rows.numbers[examples, 0].long() * longest + lengths[examples]  # a number for each task and length
    wanted = [_lookup(pairs.group_task, groups) * longest + base for groups in (known.a, known.b, known.third)]
    of_pair = [torch.where(torch.isin(kind, kinds), kind, -1) for kind in wanted]
    if not (of_pair[1] >= 0).any():
        raise ValueError(
            f"at={name}: no pair of prompts has instructions of equal length; leave it out, or raise n_pairs or "
            "data.probe_size"
        )
    source = _draw(kinds == of_pair[1][:, None], generator)

    begins = lengths[examples].cumsum(0) - lengths[examples]
    (example, place), (pair, base_place) = _tokens(lengths[examples]), _tokens(base)
    left = base[pair] - base_place  # tokens from here to the end
    chosen = (left > site.without) & (left <= (site.last or longest))
    pair, base_place = pair[chosen], base_place[chosen]
    keys, groups = (kinds[example] * longest + place).unique(return_inverse=True)
    cells = (keys % longest**2).unique(return_inverse=True)[1]
    a, b, third = (
        torch.where(kind[pair] >= 0, torch.searchsorted(keys, kind[pair] * longest + base_place), -1)
        for kind in of_pair
    )
    return SiteStates(
        examples, groups, cells, pair, a, b, third, source=torch.where(b >= 0, begins[source][pair] + base_place, 0)
    )


def _tokens(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Of every token of prompts with these lengths: its prompt, and its place there."""
    prompt = torch.arange(len(lengths)).repeat_interleave(lengths)
    return prompt, torch.arange(len(prompt)) - (lengths.cumsum(0) - lengths)[prompt]
