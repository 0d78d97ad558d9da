"""Whether the clusters matter: does the answer follow when a state is moved from one task's cluster to another's?

The base is a prompt of task A. At a position and a layer its state is edited towards task B, which maps the same x to
another y, and the rest of the network is run. Measured are how often the answer becomes B's, how often it stays A's,
and how much of the difference between their logits is recovered (1: as much as B's own prompts have).

Centroids come from one half of the validation instructions, tests from the other. An edit
that changes nothing must leave every logit bit-equal, or the measure fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures import effects
from taskcluster.measures.clusterer import Clusterer
from taskcluster.measures.edits import EDITS, ControlName, EditName, Place, Space
from taskcluster.measures.measure import Measure, Values
from taskcluster.measures.observation import Observation
from taskcluster.measures.pairs import pairs_of
from taskcluster.measures.sites import SITES, Items, Layers, Placed, SiteName, chunks, edited_layers, items_of
from taskcluster.metrics import Metric
from taskcluster.models.patching import Suffixes
from taskcluster.processes.group import share_out
from taskcluster.validation import Seed, validated

NOTHING = torch.zeros(5, dtype=torch.float64)

Counts = dict[tuple[object, ...], Tensor]  # sums over prompts of what `_count` gives


class Interventions(Measure):
    """Edits of states at sites, for pairs of validation prompts and tasks: whether the answer follows.

    Attributes:
        edits, controls: of `taskcluster.measures.edits`.
        at: the sites, of `taskcluster.measures.sites`.
        alphas: how far states are moved, in differences of centroids; not for edits that replace or project.
        layers: those that are edited, or how many; None for all. The others have no numbers.
        n_pairs: number of pairs, at most.
        seed: of the choice of pairs and of what is random in edits.

    Raises:
        UserError: no two tasks share an x and disagree about the first token of y.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (  # of all edits at two sites; those of a run depend on its settings
        *effects.OF_PAIRS,
        *(m for site in ("instruction_end", "input") for e in EDITS for m in effects.of_intervention(e, site)),
    )
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        clusterer: Clusterer,
        edits: Annotated[list[EditName], Field(min_length=1)],
        at: Annotated[list[SiteName], Field(min_length=1)],
        alphas: Annotated[list[FiniteFloat], Field(min_length=1)],
        controls: list[ControlName],
        layers: Layers,
        n_pairs: PositiveInt,
        seed: Seed,
        every_n_steps: PositiveInt | None,
    ) -> None:
        super().__init__(every_n_steps)
        self._clusterer, self._seed, self._sites = clusterer, seed, list(dict.fromkeys(at))
        self._layers = layers
        self._rows, self._pad = data.probe["val"], data.tokenizer.pad_token_id or 0
        self.pairs = pairs_of(self._rows, n_pairs, self._generator())
        self._items = {site: items_of(site, self._rows, self.pairs, self._generator()) for site in self._sites}
        self._declared = {
            site: {
                (edit, alpha): effects.of_intervention(edit, site, alpha)
                for edit in dict.fromkeys([*edits, *controls])
                if edit in SITES[site].edits
                for alpha in (dict.fromkeys(alphas) if edit not in effects.UNSCALED else [1.0])
            }
            for site in self._sites
        }
        every = (m for at_site in self._declared.values() for of_edit in at_site.values() for m in of_edit)
        self.metrics = (*effects.OF_PAIRS, *every)  # type: ignore[misc]  # which edits there are is configured

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, n_layer = observation.network, observation.network.config.num_hidden_layers
        layers = edited_layers(network, self._layers, "measures.interventions.layers")
        training = network.training
        network.eval()
        try:
            spaces, sources = self._spaces(network)
            parts = chunks(network, self._rows, torch.arange(len(self.pairs)))
            counted = share_out(partial(self._of_pairs, network, spaces, sources, layers), parts)
        finally:
            network.train(training)
        totals = {key: torch.stack([part[key] for part in counted]).sum(0) for key in counted[0]}
        clean, source = totals["clean",], totals["source",]
        found: dict[Metric, Values] = dict(
            zip(effects.OF_PAIRS, ((part / clean[0]).item() for part in (clean[1], clean[2], source[2])), strict=True)
        )
        for site, at_site in self._declared.items():
            for edit, declared in at_site.items():
                of_layers = [totals.get((site, *edit, layer), NOTHING) for layer in range(n_layer + 1)]
                n, a, b, moved, possible = torch.stack(of_layers).unbind(1)
                of_kind = {"effect": b / n, "kept": a / n, "recovered": moved / possible}
                found |= {metric: of_kind[metric.key.partition("_")[0]].tolist() for metric in declared}
        return found

    def _generator(self, of: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed + of)

    def _spaces(self, network: PreTrainedModel) -> tuple[dict[SiteName, list[Space]], Tensor]:
        """The space of every site and layer, 0 to L; and for each pair the logits of a prompt of B, (P, V)."""
        pairs, single = self.pairs, [site for site in self._sites if not SITES[site].whole]
        states, logits = self._look(network, pairs.centroid_examples, single)
        once, again = pairs.base.unique(return_inverse=True)
        tested = {site: of_once[:, again] for site, of_once in self._look(network, once, single)[0].items()}
        for site in self._sites:
            if site not in states:
                states |= self._look(network, self._items[site].examples, [site])[0]
                tested[site] = states[site][:, :0]  # where none is matched with clusters
        spaces = {site: self._space(self._items[site], states[site], tested[site]) for site in self._sites}
        return spaces, logits[pairs.source]

    def _look(
        self, network: PreTrainedModel, examples: Tensor, sites: Sequence[SiteName]
    ) -> tuple[dict[SiteName, Tensor], Tensor]:
        """Raw states of every layer at the sources of sites, (L+1, S, D) each; logits of the answer, (E, V)."""
        states, logits = dict[SiteName, list[Tensor]](), []
        for chunk in chunks(network, self._rows, examples):
            prompts = Placed(network, self._rows, chunk, self._pad)
            logits.append(prompts.at("answer").logits)
            for site in sites:
                states.setdefault(site, []).append(prompts.at(SITES[site].source, SITES[site].whole).states)
        return {site: torch.cat(parts, 1) for site, parts in states.items()}, torch.cat(logits)

    def _space(self, items: Items, states: Tensor, tested: Tensor) -> list[Space]:
        """The space of every layer, 0 to L, from its states (L+1, S, D)."""
        groups, cells, tested_groups = items.groups, items.cells, items.own[: tested.shape[1]]
        order = torch.rand(len(groups), generator=self._generator()).argsort()
        sorted_by = partial(torch.argsort, stable=True)
        shuffled, half = torch.empty_like(groups), torch.empty_like(groups)
        shuffled[sorted_by(cells[groups])] = groups[order[sorted_by(cells[groups][order])]]
        half[order[sorted_by(groups[order])]] = torch.arange(len(groups)) % 2
        labels = [
            labels.to(states.device, non_blocking=True) for labels in (groups, cells, tested_groups, half, shuffled)
        ]
        groups, cells, tested_groups, half, shuffled = labels
        return [
            Space(of_layer, groups, cells, of_tested, tested_groups, half, shuffled, self._clusterer, self._seed)
            for of_layer, of_tested in zip(states, tested, strict=True)
        ]

    def _of_pairs(
        self,
        network: PreTrainedModel,
        spaces: Mapping[SiteName, list[Space]],
        sources: Tensor,
        layers: Sequence[int],
        chosen: Tensor,
    ) -> Counts:
        """The counts of every site, edit and layer for the pairs with numbers `chosen`.

        sources (P, V): the logits of prompts of B.
        """
        pairs, device = self.pairs, network.device
        a, b = (tokens[chosen].to(device, non_blocking=True) for tokens in (pairs.token_a, pairs.token_b))
        prompts = Placed(network, self._rows, pairs.base[chosen], self._pad)
        source, clean = sources[chosen.to(device, non_blocking=True)], prompts.at("answer").logits
        count = partial(_count, a=a, b=b, clean=clean, source=source)
        counts: Counts = {("clean",): count(clean), ("source",): count(source)}
        for site, at_site in self._declared.items():
            position, whole = SITES[site].edited, SITES[site].whole
            suffixes, earlier = prompts.at(position, whole), prompts.at(position, earlier=1)
            for layer in layers:
                _assert_exact(suffixes, layer)
                place, pair = self._place(self._items[site], spaces[site][layer], chosen, suffixes.states[layer], layer)
                for edit, alpha in at_site:
                    states = EDITS[edit](replace(place, alpha=alpha))
                    if elsewhere := edit == "wrong_position":
                        logits = earlier.edited(layer, earlier.states[layer] + states - place.base)
                    else:
                        logits = suffixes.edited(layer, states)
                    used = prompts.has(position, earlier=elsewhere)
                    cannot = torch.zeros(len(used), dtype=torch.long, device=device)
                    used &= cannot.index_add_(0, pair, (~place.can(edit)).long()) == 0
                    counts[site, edit, alpha, layer] = count(logits, used=used)
        return dict(zip(counts, torch.stack([*counts.values()]).cpu(), strict=True))

    def _place(self, items: Items, space: Space, chosen: Tensor, base: Tensor, layer: int) -> tuple[Place, Tensor]:
        """What is known of the edited states (M, D) of some pairs, and which of these pairs each belongs to, (M,)."""
        of, device = items.of(chosen), base.device
        numbers = items.own, items.target, items.third, items.source
        own, target, third, source = (n[of].to(device, non_blocking=True) for n in numbers)
        directions = torch.randn(len(items.pair), base.shape[1], generator=self._generator(layer + 1))[of]
        directions = directions.to(device, base.dtype, non_blocking=True)
        place = Place(space, base, own, target, third, source, directions)
        return place, (items.pair[of] - chosen[0]).to(device, non_blocking=True)


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
    return (table if used is None else table.where(used, 0.0)).sum(1)
