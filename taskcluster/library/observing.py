"""Read the hidden states of prompts in any causal LM.

in:  a Hugging Face causal LM, its tokenizer, prompts, labels; positions and sites to read
out: a PromptObservation: activations {site: {position: (layers, N, ...)}}, on the CPU

Prompts run in batches, padded on the left to the longest. Only the asked places of each layer are kept, and logits are
computed at the last token alone, so memory does not grow with the length of prompts or the number of layers.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from taskcluster.data.tokenized import TokenizedPrompts
from taskcluster.library.label_codes import Labels, coded
from taskcluster.library.positions import Positions
from taskcluster.library.prompt_observation import PromptObservation, observation
from taskcluster.library.saved_states import FIELDS, Store, sampled_weights
from taskcluster.library.tokenizing import tokenized
from taskcluster.measures.edited_prompts import AppliedEdits, Edit, answers_by, prompts_at_once
from taskcluster.measures.observation import Observation
from taskcluster.models.block_sites import SITES, Site, check_sites, reading_sites
from taskcluster.models.hidden_states import check, evaluation, forward_with_states
from taskcluster.validation import UserError, did_you_mean

Chat = Sequence[Mapping[str, str]]


def observe(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[str] | Sequence[Chat],
    labels: Mapping[str, Sequence[Any]] | None = None,
    *,
    positions: Positions = "last",
    sites: Sequence[Site] = ("resid_post",),
    answers: Sequence[str] | None = None,
    final_norm: bool = False,
    folder: str | Path | None = None,
) -> PromptObservation:
    """Run a model over prompts, without dropout, and keep what it computes at some tokens.

    Args:
        model: any Hugging Face causal LM, on any device.
        tokenizer: its tokenizer.
        prompts: texts, or chats as lists of messages {"role": ..., "content": ...}, which the tokenizer's chat template
            renders up to where the model's reply begins, or to the end of a reply that they begin.
        labels: {name: a value of any type for each prompt}, or a data frame.
        positions: "last" (the token that predicts the answer), an index, a text (the last token of its last
            occurrence), a span of characters (start, end), a function of a prompt's token strings that returns an
            index, a list with one of these for each prompt, or several by name, {name: position}.
        sites: "resid_post" (states after each block, layer 0 the embedding output), "resid_pre", "resid_mid",
            "attn_out", "mlp_out", "heads" (see `taskcluster.models.block_sites`).
        answers: the expected continuation of each prompt, with its leading space if it has one; its first token is
            scored.
        final_norm: whether the last layer of "resid_post" is read after the final norm, as in transformers'
            `output_hidden_states`, or as the last block leaves it.
        folder: a folder to which each batch is written as it comes. The same call with the same folder resumes.

    Raises:
        UserError: labels or answers of another length, a prompt that is longer than the model reads or has a part
            without a token, a position that a prompt lacks, a site that the architecture lacks, a folder that holds
            other prompts or was written with other weights, what is not a causal LM.
    """
    asked = _asked_sites(sites)
    check(model)
    check_sites(model, asked)
    read = tokenized(tokenizer, prompts, positions, answers, getattr(model.config, "max_position_embeddings", None))
    _refuse_other_tokenizer(model, read)
    codes = coded({} if labels is None else labels, len(read))
    store = Store(Path(folder), _facts(model, read, asked, final_norm)) if folder is not None else None
    run = partial(_observation, model, read, codes, asked, final_norm)

    def edited(position: str | None, edits: Mapping[int, Edit]) -> PromptObservation:
        on_cpu = {layer: partial(_edited, layer, edit) for layer, edit in edits.items()}
        return run(None, None, AppliedEdits(seen.position(position), on_cpu))

    seen = run(store, edited)
    if store:
        seen.describe(store)
    return seen


def _observation(
    model: PreTrainedModel,
    prompts: TokenizedPrompts,
    labels: Labels,
    sites: Sequence[Site],
    final_norm: bool,
    store: Store | None,
    edited: Callable[[str, Mapping[int, Edit]], Observation] | None,
    applied: AppliedEdits | None = None,
) -> PromptObservation:
    parts: list[dict[str, Tensor]] = []
    batches = torch.arange(len(prompts)).split(prompts_at_once(model, prompts.ids.shape[1]))
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    with evaluation(model):
        for number, lines in enumerate(tqdm(batches, desc="observing", unit="batch", disable=not watched)):
            part = store.batch(number) if store else None
            if part is None:
                part = run_batch(model, prompts, lines, sites, final_norm, applied)
                if store:
                    store.keep(number, part)
            parts.append(part)
    whole = {key: torch.cat([part[key] for part in parts], dim=0 if key in FIELDS else 1) for key in parts[0]}
    codes, values = labels
    return observation(model, prompts, dict.fromkeys(prompts.columns, codes), values, whole, edited, applied)


def _edited(layer: int, edit: Edit, states: Tensor, which: Tensor) -> Tensor:
    """What an edit of your own makes of states (M, D). It gets them on the CPU, where an observation's states are."""
    new: Any = edit(states.cpu(), which.cpu())
    try:
        return new.to(states).expand_as(states)
    except (AttributeError, RuntimeError):
        shape = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        raise UserError(
            f"the edit of layer {layer} returns {shape} for states of shape {tuple(states.shape)}; let it return a "
            "tensor of that shape"
        ) from None


def _refuse_other_tokenizer(model: PreTrainedModel, prompts: TokenizedPrompts) -> None:
    embedding: Any = model.get_input_embeddings()
    embeddings = len(embedding.weight)
    for number, ids in enumerate(prompts.unpadded):
        if embeddings <= (largest := max(ids)):
            raise UserError(
                f"prompt {number} has token {largest} ({prompts.words([largest])[0]!r}), but the model has embeddings "
                f"for {embeddings} tokens; give the model's own tokenizer"
            )


def _asked_sites(sites: Sequence[Site]) -> tuple[Site, ...]:
    each = [*sites] if isinstance(sites, Iterable) and not isinstance(sites, str) else [sites]
    for site in each:
        if site not in SITES:
            raise UserError(f"sites={site!r}: choose from {', '.join(SITES)}{did_you_mean(str(site), SITES)}")
    return tuple(dict.fromkeys(("resid_post", *each)))


@torch.no_grad()
def run_batch(
    model: PreTrainedModel,
    prompts: TokenizedPrompts,
    lines: Tensor,
    sites: Sequence[Site] = ("resid_post",),
    final_norm: bool = False,
    applied: AppliedEdits | None = None,
) -> dict[str, Tensor]:
    """Run the prompts `lines` (B,) and return, on the CPU: activations {"SITE/POSITION": (layers, B, ...)} in
    float32; "tokens" (B,), the likeliest next tokens; "losses" (B,), those of the expected answers in nats, NaN where
    none are known. applied: edits of states on the way.
    """
    names, row = [*prompts.columns], torch.arange(len(lines))
    places = row.repeat(len(names)), torch.cat([row[:0], *(prompts.columns[name][lines] for name in names)])
    last = row, torch.full_like(row, prompts.ids.shape[1] - 1)
    changes = applied.changes(prompts, lines) if applied else {}
    with reading_sites(model, sites, places) as kept:
        output, states = forward_with_states(
            model, places, final_norm=final_norm, logits_at=last, **changes, **prompts.inputs(lines, model)
        )
    answers = answers_by(prompts, lines, output.logits[0].float().cpu())
    found: dict[Site, Tensor] = {"resid_post": states, "resid_pre": states[:-1]}
    found |= {site: torch.stack([each.to(states.device) for each in values]) for site, values in kept.items()}
    if "resid_mid" in sites:
        found["resid_mid"] = states[:-1] + found["attn_out"]
    by_position = {site: found[site].float().cpu().split(len(lines), dim=1) for site in sites}
    part = {f"{site}/{name}": values[k] for site, values in by_position.items() for k, name in enumerate(names)}
    return {**part, **answers._asdict()}


def _facts(model: PreTrainedModel, prompts: TokenizedPrompts, sites: Sequence[Site], final_norm: bool) -> list[Any]:
    """Return what the states and losses depend on, for a fingerprint; of the weights, a sample of every parameter."""
    return [
        *(type(model).__name__, model.config.to_json_string(), str(model.dtype), sorted(sites), final_norm),
        *(prompts_at_once(model, prompts.ids.shape[1]), prompts.ids.tolist()),
        {name: columns.tolist() for name, columns in prompts.columns.items()},
        None if prompts.answers is None else prompts.answers.tolist(),
        sampled_weights(model),
    ]
