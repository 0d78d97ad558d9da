"""Causal effect of clusters: does the answer follow when a state is steered from one task's cluster to another's?

The base is a prompt of task A. At a position and a layer its state is edited towards task B, which maps the same x to
another y, and the rest of the network is run. The measure counts how often the answer flips to B's and how often it
remains A's, and computes how much of the logit difference is recovered (1: as much as B's prompts have).

Centroids come from one half of the validation instructions, tests from the other. An identity edit must leave every
logit bit-equal, or the measure fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from itertools import chain
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, FiniteFloat, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.measures.clustering import ClusterMeasure
from taskcluster.measures.interventions.edits import EDITS, BaseStates, ControlName, EditName, Space, effect_metrics
from taskcluster.measures.interventions.sites import (
    SITES,
    Layers,
    ProbePrompts,
    SiteName,
    chunks,
    edited_layers,
    site_states,
    task_pairs,
)
from taskcluster.measures.measure import Values, configured
from taskcluster.measures.observation import Observation, shared_prefix
from taskcluster.metrics import Metric
from taskcluster.models.hidden_states import evaluation
from taskcluster.validation import Seed
from taskcluster.work import each

CLEAN, SOURCE = ("clean",), ("source",)  # unedited prompts of A and of B
OF_SIMILAR_LENGTH = 64  # pairs that are edited in several tokens at once

Run = Callable[[Tensor], ProbePrompts]  # takes the numbers of examples


def _span(value: Any) -> Any:
    if value in ("layer", "from") or (
        isinstance(value, list) and value and all(type(k) is int and k >= 0 for k in value)
    ):
        return value
    raise ValueError("a span is layer, from or a list of layers such as [2,3]")


Span = Annotated[str | list[int], BeforeValidator(_span)]  # layers that are edited together

Counts = dict[tuple[object, ...], Tensor]  # sums over prompts of what `_count` gives

PAIR_METRICS = tuple(
    Metric(key, f"answers of {task}", f"in prompts of {prompt}", by_layer=False, low=0, high=1)
    for key, task, prompt in (("clean_a", "A", "A"), ("clean_b", "B", "A"), ("source_b", "B", "B"))
)


EQUAL_LENGTH = Metric(
    "equal_length", "pairs with instructions of equal length", "of those drawn", by_layer=False, low=0, high=1
)


@configured
class Interventions(ClusterMeasure):
    """Edits of states at sites, for pairs of validation prompts and tasks: whether the answer follows.

    Attributes:
        edits, controls: of `taskcluster.measures.interventions.edits`.
        at: the sites, of `taskcluster.measures.interventions.sites`.
        alphas: strength of steering, in differences of centroids; unused by edits that replace or project.
        layers: the edited layers, or how many; None for all. Other layers have no numbers.
        spans: which layers are edited together: "layer", each by itself; "from", each with all above it, so that layer
            0 means the whole stream; or a list, of which the first is one of `layers`. Several at once only by edits
            that replace states.
        n_pairs: number of pairs, at most.
        seed: of the choice of pairs and of random edits.

    Raises:
        ValueError: no two tasks share an x and disagree about the first token of y; the model has no such layer; no
            edit is possible at a site.
    """

    splits = ("val",)
    needs = ("data", "clusterer", "n_layer")
    n_layer: int
    edits: Annotated[list[EditName], Field(min_length=1)]
    at: Annotated[list[SiteName], Field(min_length=1)]
    alphas: Annotated[list[FiniteFloat], Field(min_length=1)]
    controls: list[ControlName]
    layers: Layers
    spans: Annotated[list[Span], Field(min_length=1)] = field(default_factory=lambda: ["layer"])
    n_pairs: PositiveInt
    seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        self._layers = edited_layers(self.n_layer, self.layers)
        spans = dict.fromkeys(_checked(span, self._layers, self.n_layer) for span in self.spans)
        self._rows = self.data.probe["val"]
        self.pairs = task_pairs(self._rows, self.n_pairs, torch.Generator().manual_seed(self.seed))
        self._sites = {
            site: site_states(site, self._rows, self.pairs, torch.Generator().manual_seed(self.seed))
            for site in self.at
        }
        self._single = [site for site in self._sites if not SITES[site].whole]
        self._whole = [site for site in self._sites if SITES[site].whole]
        self._equal_length: dict[Metric, Values] = {}
        if self._whole:
            tokens = self._sites[self._whole[0]]
            self._matched = tokens.pair[tokens.b >= 0].unique()
            self._equal_length[EQUAL_LENGTH] = len(self._matched) / len(self.pairs.base)
        self._declared = {
            (site, edit, alpha, span): effect_metrics(edit, site, alpha, span)
            for site in self._sites
            for edit in dict.fromkeys([*self.edits, *self.controls])
            if edit in SITES[site].edits
            for alpha in (dict.fromkeys(self.alphas) if EDITS[edit].kind == "move" else [1.0])
            for span in spans
            if span == "layer" or EDITS[edit].replaces
        }
        if missing := [site for site in self.at if site not in {site for site, *_ in self._declared}]:
            raise ValueError(
                f"edits={self.edits}: none of them is possible at {missing[0]} with spans={self.spans}; choose "
                "interchange, or other sites and spans"
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*PAIR_METRICS, *self._equal_length, *chain.from_iterable(self._declared.values()))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, layers = observation.network, self._layers
        with evaluation(network):
            hidden = self.data.hidden
            # One token less, as some edits are made one place before the first position.
            prefix = None if hidden or self._whole else shared_prefix(network, self._rows, fewer=1)[1]
            run = partial(ProbePrompts, network, self._rows, prefix=prefix, hidden=hidden)
            spaces, sources = self._spaces(network, run)
            parts = [(self._single, part) for part in chunks(network, self._rows, torch.arange(len(self.pairs.base)))]
            if self._whole:
                parts += [(self._whole, part) for part in self._by_length(network)]
            counted = observation.executor(partial(self._count_chunk, network, run, spaces, sources, layers), parts)
        totals: Counts = {}
        for key, counts in chain.from_iterable(part.items() for part in counted):
            totals[key] = totals.get(key, 0) + counts
        n, a, b, *_ = totals[CLEAN]
        numbers: dict[Metric, Values] = dict(
            zip(PAIR_METRICS, (float(answers / n) for answers in (a, b, totals[SOURCE][2])), strict=True)
        )
        numbers |= self._equal_length
        every = range(network.config.num_hidden_layers + 1)
        for edit, declared in self._declared.items():
            at = [edit[-1][0]] if isinstance(edit[-1], tuple) else every
            by_layer = [totals.get((*edit, layer), torch.zeros(5, dtype=torch.float64)) for layer in at]
            n, a, b, moved, possible = torch.stack(by_layer).unbind(1)
            kinds = {"effect": b / n, "kept": a / n, "recovered": moved / possible}
            values = {metric: kinds[metric.key.partition("_")[0]].tolist() for metric in declared}
            numbers |= {metric: of if metric.by_layer else of[0] for metric, of in values.items()}
        return numbers

    def _spaces(self, network: PreTrainedModel, run: Run) -> tuple[dict[SiteName, list[Space]], Tensor]:
        """The space of every site and layer, 0 to L; and for each pair the logits of a prompt of B, (P, V)."""
        pairs, single = self.pairs, self._single
        states, logits = self._states(network, run, pairs.states.examples, single)
        once, again = pairs.base.unique(return_inverse=True)
        tested = {site: at_once[:, again] for site, at_once in self._states(network, run, once, single)[0].items()}
        for site in self._sites.keys() - states.keys():
            states |= self._states(network, run, self._sites[site].examples, [site])[0]
            tested[site] = states[site][:, :0]  # where none is matched with clusters
        spaces = {}
        for site, known in self._sites.items():
            groups, cells, tested_groups = (
                labels.to(network.device, non_blocking=True)
                for labels in (known.groups, known.cells, known.a[: tested[site].shape[1]])
            )
            spaces[site] = [
                Space(layer, groups, cells, tested_layer, tested_groups, self.clusterer, self.seed)
                for layer, tested_layer in zip(states[site], tested[site], strict=True)
            ]
        return spaces, logits[pairs.states.source]

    def _by_length(self, network: PreTrainedModel) -> list[Tensor]:
        """The pairs of instructions of equal length, in parts of similar length, as every pass computes the longest."""
        rows, base = self._rows, self.pairs.base[self._matched]
        by_length = self._matched[rows.prefixes[rows.row_of_example[base]].argsort(stable=True)]
        n = min(OF_SIMILAR_LENGTH, max(map(len, chunks(network, rows, base))))
        return [part.sort().values for part in by_length.split(n)]

    def _states(
        self, network: PreTrainedModel, run: Run, examples: Tensor, sites: Sequence[SiteName]
    ) -> tuple[dict[SiteName, Tensor], Tensor]:
        """Raw states of every layer at the sources of sites, (L+1, S, D) each; logits of the answer, (E, V)."""
        states, logits = dict[SiteName, list[Tensor]](), []
        for chunk in chunks(network, self._rows, examples):
            prompts = run(chunk)
            logits.append(prompts.at("answer").logits)
            for site in sites:
                states.setdefault(site, []).append(prompts.at(SITES[site].source, SITES[site].whole).states)
        return {site: torch.cat(parts, 1) for site, parts in states.items()}, torch.cat(logits)

    def _count_chunk(
        self,
        network: PreTrainedModel,
        run: Run,
        spaces: Mapping[SiteName, list[Space]],
        sources: Tensor,
        layers: Sequence[int],
        part: tuple[Sequence[SiteName], Tensor],
    ) -> Counts:
        """The counts of every edit and layer at some sites, for the pairs with some numbers, in ascending order.

        sources (P, V): the logits of prompts of B.
        """
        sites, chosen = part
        device = network.device
        a, b = (tokens[chosen].to(device, non_blocking=True) for tokens in (self.pairs.token_a, self.pairs.token_b))
        prompts = run(self.pairs.base[chosen])
        source, clean = sources[chosen.to(device, non_blocking=True)], prompts.at("answer").logits
        count = partial(_count, a=a, b=b, clean=clean, source=source)
        spans = {span for *_, span in self._declared}
        counts: Counts = {} if sites is self._whole else {CLEAN: count(clean), SOURCE: count(source)}
        for site, (_, position, whole, _, last, without) in ((site, SITES[site]) for site in sites):
            suffixes, earlier = prompts.at(position, whole, without, last), prompts.at(position, earlier=1)
            of_layer = {
                layer: self._base_states(site, spaces[site][layer], chosen, suffixes.states[layer], layer)
                for layer in (layers if spans == {"layer"} else range(len(suffixes.states)))
            }
            pair = of_layer[layers[0]][1]
            for layer in each(layers, f"{site}, layer"):
                if not torch.equal(suffixes.edited(layer, suffixes.states[layer]), suffixes.logits):
                    raise RuntimeError(f"an edit of layer {layer} that changes nothing changes the logits")
                for of_site, name, alpha, span in self._declared:
                    together = span_layers(span, layer, len(suffixes.states))
                    if of_site != site or not together:
                        continue
                    bases = {k: replace(of_layer[k][0], alpha=alpha) for k in together}
                    states = {k: EDITS[name].edited(base) for k, base in bases.items()}
                    if elsewhere := name == "wrong_position":
                        moved = states[layer] - bases[layer].base
                        logits = earlier.edited(layer, earlier.states[layer] + moved)
                    else:
                        logits = suffixes.edited(layer, states.pop(layer), states)
                    impossible = torch.zeros(len(chosen), device=device).index_add_(
                        0, pair, (~bases[layer].possible(name)).float()
                    )
                    used = prompts.has(position, earlier=int(elsewhere) or without) & (impossible == 0)
                    counts[site, name, alpha, span, layer] = count(logits, used=used)
        return dict(zip(counts, torch.stack([*counts.values()]).cpu(), strict=True))

    def _base_states(
        self, site: SiteName, space: Space, chosen: Tensor, base: Tensor, layer: int
    ) -> tuple[BaseStates, Tensor]:
        """The edited states (M, D) of some pairs with their groups, and which of these pairs each belongs to, (M,)."""
        known, device = self._sites[site], base.device
        which = torch.isin(known.pair, chosen)
        a, b, third, source, pair = (
            numbers[which].to(device, non_blocking=True)
            for numbers in (known.a, known.b, known.third, known.source, torch.searchsorted(chosen, known.pair))
        )
        directions = torch.randn(
            len(known.pair), base.shape[1], generator=torch.Generator().manual_seed(self.seed + layer + 1)
        )[which]
        return BaseStates(space, base, a, b, third, source, directions.to(base, non_blocking=True)), pair


def _checked(span: Span, layers: Sequence[int], n_layer: int) -> str | tuple[int, ...]:
    """A span, of a list its layers in order. Raises ValueError for layers that cannot be edited."""
    if isinstance(span, str):
        return span
    together = tuple(sorted({*span}))
    if together[-1] > n_layer:
        raise ValueError(f"spans={span}: the model has layers 0 to {n_layer}; choose from these")
    if together[0] not in layers:
        raise ValueError(f"spans={span}: layers={[*layers]} lacks {together[0]}, where this span begins; add it")
    return together


def span_layers(span: str | tuple[int, ...], layer: int, n: int) -> list[int]:
    """Of n layers, those that are edited together with a layer, the first of them; none if it is not the first."""
    if span == "layer":
        return [layer]
    together = [*range(layer, n)] if span == "from" else [*map(int, span)]
    return together if together[0] == layer else []


def _count(logits: Tensor, a: Tensor, b: Tensor, clean: Tensor, source: Tensor, used: Tensor | None = None) -> Tensor:
    """Sums over prompts, of those that are `used`: how many they are; answers of A; answers of B; by how much the
    difference of B's and A's logits has grown; by how much it would have in prompts of B. (5,), float64."""
    edited, before, possible = (
        (of.gather(1, b[:, None]) - of.gather(1, a[:, None])).squeeze(1) for of in (logits, clean, source)
    )
    answers = logits.argmax(1)
    columns = torch.ones_like(before), answers == a, answers == b, edited - before, possible - before
    table = torch.stack([column.double() for column in columns])
    return (table if used is None else table.where(used, 0.0)).sum(1)
