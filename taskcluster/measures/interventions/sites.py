"""Sites of interventions: where states are edited, and which states are compared with them.

in:  the probe set of a split, Pairs
out: Items: every state that gives centroids and every state that is edited, with the group and the cell of each

At one position a prompt has one state. All tokens of an instruction are edited at once, so there every token has a
state of its own, and it is compared with tokens at the same place of instructions of the same length.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.rows import Position, Rows
from taskcluster.measures.interventions.edits import EDITS
from taskcluster.measures.interventions.task_pairs import Pairs
from taskcluster.models.patching import Prompts, Suffixes
from taskcluster.validation import UserError

CHUNK = 512  # prompts that are run at once, at most
ROOM = 2**29  # bytes

Layers = Annotated[list[NonNegativeInt], Field(min_length=1)] | PositiveInt | None

SiteName = Literal["instruction_end", "input", "answer", "instruction", "instruction_end_to_input"]


class Site(NamedTuple):
    """source: the position whose states give centroids; edited: where they are patched in; whole: in all tokens up to
    it. edits: those that can be asked there."""

    source: Position
    edited: Position
    whole: bool = False
    edits: Collection[str] = EDITS


SITES: dict[SiteName, Site] = {
    "instruction_end": Site("instruction_end", "instruction_end"),
    "input": Site("input", "input"),
    "answer": Site("answer", "answer"),
    # Few tokens share a place and a length, and every edit computes all of the prompt.
    "instruction": Site(
        "instruction_end", "instruction_end", True, ("add", "interchange", "mean", "random", "third_task")
    ),
    "instruction_end_to_input": Site(
        "instruction_end", "input", False, ("add", "interchange", "cluster", "random", "shuffled", "third_task")
    ),
}


def chunks(network: PreTrainedModel, rows: Rows, examples: Tensor) -> list[Tensor]:
    """Examples (E,) in parts that are run at once: at most CHUNK, fewer where keys, values and states need ROOM."""
    config, length = network.config, int(rows.prefixes.max() + rows.reads.max())
    size = 12 * length * getattr(config, "hidden_size", 1) * (config.num_hidden_layers + 1)  # of an example, in bytes
    return list(examples.split(max(1, min(CHUNK, ROOM // size))))


def edited_layers(network: PreTrainedModel, layers: Layers, key: str) -> list[int]:
    """All layers for None; for a number as many, spread evenly from 1 to L. Raises UserError, naming `key`, for a layer
    that the network does not have."""
    n_layer = network.config.num_hidden_layers
    if layers is None:
        return [*range(n_layer + 1)]
    if isinstance(layers, int):
        return sorted({round(1 + k * (n_layer - 1) / max(1, layers - 1)) for k in range(layers)})
    if wrong := [layer for layer in layers if layer > n_layer]:
        raise UserError(f"{key}={wrong[0]}: the model has layers 0 to {n_layer}; lower it")
    return sorted({*layers})


class Placed:
    """The prompts of examples, run once, whose suffixes are found by position.

    last: up to the last token of y instead of the one that predicts its first, with the logits of so many places.
    """

    def __init__(
        self, network: PreTrainedModel, rows: Rows, examples: Tensor, pad: int, last: int | None = None
    ) -> None:
        tokens, mask, back = rows.prompts(examples, pad, whole=last is not None)
        device = network.device
        self._prompts = Prompts(network, tokens.to(device), mask.to(device), last)
        self._first = (mask.sum(1) - 1).to(device)
        self._back = {position: places.to(device) for position, places in back.items()}

    def at(self, position: Position, whole: bool = False, earlier: int = 0) -> Suffixes:
        """From the position on, or so many tokens earlier; `whole`: all tokens up to it are among its places."""
        back = torch.minimum(self._back[position] + earlier, self._first)
        return self._prompts.at(back, self._first if whole else None)

    def has(self, position: Position, earlier: int) -> Tensor:
        """Whether each prompt has a token so much earlier, (B,)."""
        return self._back[position] + earlier <= self._first


@dataclass(frozen=True)
class Items:
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

    def of(self, chosen: Tensor) -> Tensor:
        """Which of the M belong to the pairs with numbers `chosen`, consecutive ones."""
        return ((self.pair >= chosen[0]) & (self.pair <= chosen[-1])).nonzero().squeeze(1)


def items_of(name: SiteName, rows: Rows, pairs: Pairs, generator: torch.Generator) -> Items:
    """The items of a site. Raises UserError where no two instructions of different tasks have the same length."""
    site, known = SITES[name], pairs.groups
    if site.whole:
        return _tokens(rows, pairs, generator)
    of_group, cells = torch.arange(len(known.x)), known.x
    if site.source == "instruction_end":  # where no state depends on x
        tasks, of_group = known.task.unique(return_inverse=True)
        cells = torch.zeros_like(tasks)
    a, b, third = (_lookup(of_group, groups) for groups in (pairs.a, pairs.b, pairs.third))
    every = torch.arange(len(pairs))
    return Items(pairs.centroid_examples, of_group[known.of_example], cells, every, a, b, third, pairs.source)


def _lookup(values: Tensor, numbers: Tensor) -> Tensor:
    """The values of numbers (N,), -1 for -1."""
    return torch.where(numbers >= 0, values[numbers], -1)


def _tokens(rows: Rows, pairs: Pairs, generator: torch.Generator) -> Items:
    """An item for every token before x: of one example of each instruction, and of every pair."""
    instruction = rows.numbers[pairs.centroid_examples, 2]
    first = torch.cat([torch.tensor([True]), instruction.diff() != 0])  # examples of an instruction follow each other
    examples = pairs.centroid_examples[first]
    lengths = rows.prefixes[torch.arange(len(rows.counts)).repeat_interleave(rows.counts)].long()
    longest, base = int(lengths.max()) + 1, lengths[pairs.base]
    kinds = rows.numbers[examples, 0].long() * longest + lengths[examples]  # a number for each task and length
    tasks = (_lookup(pairs.groups.task, groups) for groups in (pairs.a, pairs.b, pairs.third))
    wanted = [task * longest + base for task in tasks]
    a, b, third = (torch.where(torch.isin(kind, kinds), kind, -1) for kind in wanted)
    if not (b >= 0).any():
        raise UserError(
            "measures.interventions.at: 'instruction' needs instructions of one length in two tasks, and the probe set "
            "has none; leave it out, or raise data.probe_size"
        )
    drawn = torch.rand(len(pairs), len(examples), generator=generator)
    source = torch.where(kinds == b[:, None], drawn, -1.0).argmax(1)

    begins = lengths[examples].cumsum(0) - lengths[examples]
    example, place = _each(lengths[examples])
    pair, place_of_pair = _each(base)
    keys, groups = (kinds[example] * longest + place).unique(return_inverse=True)
    cells = (keys % longest**2).unique(return_inverse=True)[1]
    a, b, third = (
        torch.where(kind[pair] >= 0, torch.searchsorted(keys, kind[pair] * longest + place_of_pair), -1)
        for kind in (a, b, third)
    )
    source_states = torch.where(b >= 0, begins[source][pair] + place_of_pair, 0)
    return Items(examples, groups, cells, pair, a, b, third, source_states)


def _each(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Of every token of prompts with these lengths: its prompt, and its place there."""
    prompt = torch.arange(len(lengths)).repeat_interleave(lengths)
    return prompt, torch.arange(len(prompt)) - (lengths.cumsum(0) - lengths)[prompt]
