"""Edit states towards another value of a label, and count the answers that change.

in:  a model, prompts with labels and the answers that it gives, an edit
out: PatchEffects: by layer, how many answers become those of the source prompts, and those that stay, beside a control

The edits are those of `taskcluster.measures.interventions`, for prompts without a task family: the centroid of a value
(given `within`, of a value among the prompts that share these labels) is the mean over half of its prompts, and the
other half is tested. The control is a random direction of the norm of the
edit's own change.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import altair as alt
import polars
import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.tokenized import TokenizedPrompts
from taskcluster.measures.interventions.edits import alternating, group_means
from taskcluster.measures.interventions.sites import edited_layers
from taskcluster.models.hidden_states import evaluation
from taskcluster.models.patching import Prompts, Suffixes, runs_at_once
from taskcluster.validation import UserError

PatchEdit = Literal["add", "centroid", "replace"]


@dataclass(frozen=True)
class PatchEffects:
    """Answers after an edit, by layer, as shares of the pairs.

    Attributes:
        label, edit, position: see `PromptObservation.patch`.
        within: the labels that base and source share.
        n_pairs: how many pairs of prompts there are. Before the edit, every base has its own answer (share 1) and none
            that of its source (share 0).
        effects: {"layer", "flipped": share of answers that become the source's, "kept": that stay, "random": flipped by
            a random direction of the same norm}.
    """

    label: str
    edit: PatchEdit
    position: str
    within: tuple[str, ...]
    n_pairs: int
    effects: polars.DataFrame

    def table(self) -> polars.DataFrame:
        """A row for each layer: flipped, kept, random."""
        return self.effects

    @property
    def title(self) -> str:
        return f"{self.edit} {self.label} at {self.position}: answers of {self.n_pairs} pairs"

    def plot(self) -> alt.Chart:
        """The shares by layer."""
        data = alt.Data(
            values=self.effects.unpivot(index="layer", variable_name="answers", value_name="share").to_dicts()
        )
        x = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True))
        y = alt.Y("share:Q", title="fraction of answers", scale=alt.Scale(domain=[0, 1]))
        color = alt.Color("answers:N", title=None, sort=["flipped", "kept", "random"])
        tip = ["layer:O", "answers:N", alt.Tooltip("share:Q", format=".3f")]
        return (
            alt.Chart(data, title=self.title, width=360, height=220)
            .mark_line(point=True)
            .encode(x=x, y=y, color=color, tooltip=tip)
        )

    def _repr_html_(self) -> str:
        return f"<p>{self.title}</p>{self.effects._repr_html_()}"


class Patched(NamedTuple):
    """The edited prompts: columns (E,), the edited position of each; labels {name: codes (E,)}; answers (E,), likeliest
    tokens."""

    network: PreTrainedModel
    prompts: TokenizedPrompts
    columns: Tensor
    labels: Mapping[str, Tensor]
    answers: Tensor


def patch_effects(
    patched: Patched,
    label: str,
    edit: PatchEdit,
    within: str | Sequence[str] | None,
    position: str,
    layers: Sequence[int] | int | None,
    n_pairs: int,
    alpha: float,
    seed: int,
) -> PatchEffects:
    """See `PromptObservation.patch`. Raises UserError where no pairs exist or a layer does not, and for a value that an
    argument cannot have."""
    if edit not in get_args(PatchEdit):
        raise UserError(f"edit={edit!r}: choose from {', '.join(get_args(PatchEdit))}")
    if not isinstance(n_pairs, int) or n_pairs < 1:
        raise UserError(f"n_pairs={n_pairs!r}: give a number from 1 on")
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"alpha={alpha!r}: give a finite number")
    chosen = [layers] if isinstance(layers, int) else layers
    if chosen is not None and not (len(chosen) and all(isinstance(layer, int) for layer in chosen)):
        raise UserError(f"layers={layers!r}: give a list of numbers, such as [1, 2], or leave it out")
    try:
        asked = edited_layers(patched.network.config.num_hidden_layers, chosen)
    except ValueError as error:
        raise UserError(str(error)) from None
    generator = torch.Generator().manual_seed(seed)
    shared = _shared(patched, label, within)
    within_codes = [patched.labels[name] for name in shared] if within is not None else []
    groups = torch.stack([patched.labels[label], *within_codes], dim=1).unique(dim=0, return_inverse=True)[1]
    base, source = _pairs(patched, label, shared, groups, n_pairs, generator)
    every = _suffixes(patched, torch.arange(len(patched.prompts)))
    raw = torch.cat([suffixes.states.float().cpu() for _, suffixes in every], dim=1)  # before the final norm
    targets, controls = [], []
    for layer in asked:
        target = _edited(edit, raw[layer], groups, base, source, alpha)
        change = target - raw[layer][base]
        direction = torch.randn(change.shape, generator=generator)
        targets.append(target)
        controls.append(raw[layer][base] + direction * (change.norm(dim=1) / direction.norm(dim=1))[:, None])
    answers = _answers(patched, base, asked * 2, targets + controls)
    a, b = patched.answers[base], patched.answers[source]
    rows = [
        {"layer": layer, "flipped": _share(edited, b), "kept": _share(edited, a), "random": _share(random, b)}
        for layer, edited, random in zip(asked, answers[: len(asked)], answers[len(asked) :], strict=True)
    ]
    effects = polars.DataFrame(rows)
    return PatchEffects(label, edit, position, tuple(shared), len(base), effects)


def _share(answers: Tensor, of: Tensor) -> float:
    return float((answers == of).float().mean())


def _shared(patched: Patched, label: str, within: str | Sequence[str] | None) -> list[str]:
    """The labels that base and source share: those given, or all others if there are such prompts."""
    if within is not None:
        names = [within] if isinstance(within, str) else list(within)
        if unknown := [name for name in names if name not in patched.labels or name == label]:
            raise UserError(
                f"within={unknown[0]!r} is not another label; choose from {', '.join({*patched.labels} - {label})}"
            )
        return names
    others = [name for name in patched.labels if name != label]
    return others if bool(_differing(patched, label, others).any()) else []


def _differing(patched: Patched, label: str, shared: Sequence[str]) -> Tensor:
    """Whether each two prompts have different values of the label, and the same of those that are shared, (E, E)."""
    truth = patched.labels[label]
    differing = truth[:, None] != truth
    for name in shared:
        differing &= patched.labels[name][:, None] == patched.labels[name]
    return differing


def _pairs(
    patched: Patched, label: str, shared: Sequence[str], groups: Tensor, n_pairs: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Numbers of base and source prompts, (P,) each: bases are those that give no centroids."""
    possible = _differing(patched, label, shared) & (patched.answers[:, None] != patched.answers)
    possible[alternating(groups)] = False
    pairs = possible.nonzero()
    if not len(pairs):
        raise UserError(
            "no two prompts differ in the label and in the model's answer while sharing the labels of within; give "
            "more prompts, or change within"
        )
    chosen = torch.randperm(len(pairs), generator=generator)[:n_pairs].sort().values
    base, source = pairs[chosen].unbind(1)
    return base, source


def _edited(edit: PatchEdit, states: Tensor, group: Tensor, base: Tensor, source: Tensor, alpha: float) -> Tensor:
    """Return the states (P, D) that replace those of the bases, given the states of all prompts (E, D)."""
    if edit == "replace":
        return states[source]
    first = alternating(group)
    centroids = group_means(states[first], group[first], int(group.max()) + 1)
    if edit == "centroid":
        return centroids[group[source]]
    return states[base] + alpha * (centroids[group[source]] - centroids[group[base]])


def _suffixes(patched: Patched, examples: Tensor) -> Iterator[tuple[Tensor, Suffixes]]:
    """Chunk after chunk of N prompts, given by number, which of the N (B,), and what follows the edited places."""
    network, prompts, columns, device = patched.network, patched.prompts, patched.columns, patched.network.device
    length = prompts.ids.shape[1]
    with evaluation(network):
        for chunk in torch.arange(len(examples)).split(runs_at_once(network, length)):
            lines = examples[chunk]
            run = Prompts(network, prompts.ids[lines].to(device), prompts.mask[lines].to(device))
            yield chunk, run.at((length - 1 - columns[lines]).to(device))


def _answers(patched: Patched, base: Tensor, layers: Sequence[int], states: Sequence[Tensor]) -> list[Tensor]:
    """The likeliest next token (P,) of base prompts (P,) for each of `layers` whose states become `states` (P, D)."""
    parts = []
    for chunk, suffixes in _suffixes(patched, base):
        put = [each[chunk].to(suffixes.states) for each in states]
        logits = (suffixes.edited(layer, each) for layer, each in zip(layers, put, strict=True))
        parts.append(torch.stack([each.argmax(1).cpu() for each in logits]))
    return [*torch.cat(parts, dim=1)]
