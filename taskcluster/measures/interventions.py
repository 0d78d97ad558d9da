"""Whether the clusters matter: does the answer follow when a state is moved from one task's cluster to another's?

The base is a prompt of task A. At a position and a layer its state is edited towards task B, which maps the same x to
another y, and the rest of the network is run. Measured are how often the answer becomes B's, how often it stays A's,
and how much of the difference between their logits is recovered (1: as much as B's own prompts have).

Centroids come from one half of the validation instructions, tests from the other. The controls are always there, and an
edit that changes nothing must leave every logit bit-equal, or the measure fails.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster import metrics
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures.edits import CONTROLS, EDITS, EditName, Place, Space
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.measures.pairs import pairs_of
from taskcluster.metrics import Metric
from taskcluster.models.patching import Prompts, Suffixes
from taskcluster.processes.group import share_out
from taskcluster.validation import Seed, validated

CHUNK = 512  # prompts that are run at once

Counts = dict[tuple[str, ...], Tensor]  # sums over prompts of what `_count` gives


class Interventions(Measure):
    """Edits of the states at positions, for pairs of validation prompts and tasks: whether the answer follows.

    Attributes:
        edits: of `taskcluster.measures.edits`; the controls come in addition.
        at: the positions.
        alpha: how far states are moved, in differences of centroids; not for edits that replace or project.
        n_pairs: number of pairs, at most.
        seed: of the choice of pairs and of what is random in edits.

    Raises:
        UserError: no two tasks share an x and disagree about the first token of y.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (  # of all edits at two positions; those of a run depend on its settings
        *metrics.OF_PAIRS,
        *(m for p in ("instruction_end", "input") for e in EDITS for m in metrics.of_intervention(e, p)),
    )
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: KMeans,
        edits: Annotated[list[EditName], Field(min_length=1)],
        at: Annotated[list[Position], Field(min_length=1)],
        alpha: FiniteFloat,
        n_pairs: PositiveInt,
        seed: Seed,
        every_n_steps: PositiveInt | None,
    ) -> None:
        super().__init__(every_n_steps)
        self._clusterer, self._alpha, self._seed = clusterer, alpha, seed
        self._rows, self._pad = data.probe["val"], data.tokenizer.pad_token_id or 0
        self._at, self._edits = list(dict.fromkeys(at)), [*dict.fromkeys(edits), *CONTROLS]
        self.pairs = pairs_of(self._rows, n_pairs, torch.Generator().manual_seed(seed))
        self._declared = {(e, p): metrics.of_intervention(e, p) for p in self._at for e in self._edits}
        every = (metric for of_edit in self._declared.values() for metric in of_edit)
        self.metrics = (*metrics.OF_PAIRS, *every)  # type: ignore[misc]  # which edits there are is configured

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, pairs = observation.network, self.pairs
        training = network.training
        network.eval()
        try:
            known, logits = self._look(network, pairs.centroid_examples)
            once, again = pairs.base.unique(return_inverse=True)
            tested, _ = self._look(network, once)
            spaces = {p: self._spaces(p, known[p], tested[p][:, again]) for p in self._at}
            parts = torch.arange(len(pairs)).split(CHUNK)
            counted = share_out(partial(self._of_pairs, network, spaces, logits[pairs.source]), parts)
        finally:
            network.train(training)
        totals = {key: torch.stack([part[key] for part in counted]).sum(0) for key in counted[0]}
        clean, source = totals["clean",], totals["source",]
        found: dict[Metric, Values] = dict(
            zip(metrics.OF_PAIRS, ((part / clean[0]).item() for part in (clean[1], clean[2], source[2])), strict=True)
        )
        for (edit, position), declared in self._declared.items():
            of_layers = [totals[edit, position, str(layer)] for layer in range(len(spaces[position]))]
            n, a, b, moved, possible = torch.stack(of_layers).unbind(1)
            of_kind = {"effect": b / n, "kept": a / n, "recovered": moved / possible}
            found |= {metric: of_kind[metric.key.partition("_")[0]].tolist() for metric in declared}
        return found

    def _look(self, network: PreTrainedModel, examples: Tensor) -> tuple[dict[Position, Tensor], Tensor]:
        """Raw states of every layer at the positions, (L+1, M, D) each, and the logits of the answer, (M, V)."""
        states, logits = dict[Position, list[Tensor]](), []
        for chunk in examples.split(CHUNK):
            prompts, back = self._run(network, chunk)
            logits.append(prompts.at(back["answer"]).logits)
            for position in self._at:
                states.setdefault(position, []).append(prompts.at(back[position]).states)
        return {position: torch.cat(parts, 1) for position, parts in states.items()}, torch.cat(logits)

    def _run(self, network: PreTrainedModel, examples: Tensor) -> tuple[Prompts, dict[Position, Tensor]]:
        """Prompts, and how many places before the last each position is."""
        tokens, mask, back = self._rows.prompts(examples, self._pad)
        device = network.device
        prompts = Prompts(network, tokens.to(device), mask.to(device))
        return prompts, {position: places.to(device) for position, places in back.items()}

    def _spaces(self, position: Position, states: Tensor, tested: Tensor) -> list[Space]:
        """The space of every layer, 0 to L."""
        groups, tested_groups, cells = self._groups(position)
        order = torch.rand(len(groups), generator=torch.Generator().manual_seed(self._seed)).argsort()
        sorted_by = partial(torch.argsort, stable=True)
        shuffled, half = torch.empty_like(groups), torch.empty_like(groups)
        shuffled[sorted_by(cells[groups])] = groups[order[sorted_by(cells[groups][order])]]
        half[order[sorted_by(groups[order])]] = torch.arange(len(groups)) % 2
        labels = [labels.to(states.device) for labels in (groups, cells, tested_groups, half, shuffled)]
        groups, cells, tested_groups, half, shuffled = labels
        return [
            Space(of_layer, groups, cells, of_tested, tested_groups, half, shuffled, self._clusterer)
            for of_layer, of_tested in zip(states, tested, strict=True)
        ]

    def _groups(self, position: Position) -> tuple[Tensor, Tensor, Tensor]:
        """Groups of the centroid half (C,) and of the tested prompts (P,), and the cell of each group (G,)."""
        known, own = self.pairs.groups, self.pairs.own
        if position == "instruction_end":  # where no state depends on x
            tasks, of_group = known.task.unique(return_inverse=True)
            return of_group[known.of_example], of_group[own], torch.zeros_like(tasks)
        return known.of_example, own, known.x

    def _of_pairs(
        self, network: PreTrainedModel, spaces: Mapping[Position, list[Space]], sources: Tensor, chosen: Tensor
    ) -> Counts:
        """The counts of every edit, position and layer for the pairs with numbers `chosen`.

        sources (P, V): the logits of prompts of B.
        """
        pairs, device = self.pairs, network.device
        a, b = pairs.token_a[chosen].to(device), pairs.token_b[chosen].to(device)
        prompts, back = self._run(network, pairs.base[chosen])
        source, clean = sources[chosen.to(device)], prompts.at(back["answer"]).logits
        count = partial(_count, a=a, b=b, clean=clean, source=source)
        counts: Counts = {("clean",): count(clean), ("source",): count(source)}
        for position in self._at:
            suffixes = prompts.at(back[position])
            for layer, space in enumerate(spaces[position]):
                _assert_exact(suffixes, layer)
                place = self._place(space, position, chosen, suffixes.states[layer], layer)
                for edit in self._edits:
                    logits = suffixes.edited(layer, EDITS[edit](place))
                    used = place.third >= 0 if edit == "third_task" else None
                    counts[edit, position, str(layer)] = count(logits, used=used)
        return counts

    def _place(self, space: Space, position: Position, chosen: Tensor, base: Tensor, layer: int) -> Place:
        pairs, device = self.pairs, base.device
        groups = [numbers[chosen] for numbers in (pairs.own, pairs.target, pairs.third)]
        if position == "instruction_end":
            of_group = pairs.groups.task.unique(return_inverse=True)[1]
            groups = [torch.where(numbers >= 0, of_group[numbers], -1) for numbers in groups]
        own, target, third = (numbers.to(device) for numbers in groups)
        generator = torch.Generator().manual_seed(self._seed + layer + 1)
        directions = torch.randn(len(pairs), base.shape[1], generator=generator)[chosen].to(device, base.dtype)
        source = pairs.source[chosen].to(device)
        return Place(space, base, own, target, third, source, directions, self._alpha)


def _assert_exact(suffixes: Suffixes, layer: int) -> None:
    if not torch.equal(suffixes.edited(layer, suffixes.states[layer]), suffixes.logits):
        raise RuntimeError(f"an edit of layer {layer} that changes nothing changes its logits")


def _count(logits: Tensor, a: Tensor, b: Tensor, clean: Tensor, source: Tensor, used: Tensor | None = None) -> Tensor:
    """Sums over prompts, of those that are `used`: how many they are; answers of A; answers of B; by how much the
    difference of B's and A's logits has grown; by how much it would have in prompts of B. (5,), float64."""

    def difference(of: Tensor) -> Tensor:
        return (of.gather(1, b[:, None]) - of.gather(1, a[:, None])).squeeze(1)

    answers, before = logits.argmax(1), difference(clean)
    columns = (
        torch.ones_like(before),
        answers == a,
        answers == b,
        difference(logits) - before,
        difference(source) - before,
    )
    table = torch.stack([column.double() for column in columns])
    return (table if used is None else table[:, used]).sum(1).cpu()
