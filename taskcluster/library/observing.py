"""The hidden states of one's own prompts in any causal LM.

in:  a Hugging Face causal LM, its tokenizer, prompts, labels; positions and sites to read
out: a PromptObservation: activations {site: {position: (layers, N, ...)}}, on the CPU

Prompts run in batches, padded on the left to the longest. Only the asked places of each layer are kept, and logits are
computed at the last token alone, so memory does not grow with the length of prompts or the number of layers.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from taskcluster.data.tokenized import TokenizedPrompts, grid
from taskcluster.library.positions import Positions, TokenizedText, named, resolve
from taskcluster.library.prompt_observation import PromptObservation, coded, observation
from taskcluster.library.saved_states import FIELDS, Store
from taskcluster.measures.edited_prompts import AppliedEdits, Edit
from taskcluster.measures.observation import AT_ONCE, Observation, evaluation
from taskcluster.models.block_sites import SITES, Site, check_sites, reading_sites
from taskcluster.models.hidden_states import check, forward_with_states
from taskcluster.validation import UserError, did_you_mean

Chat = Sequence[Mapping[str, str]]

BATCH = 64  # prompts of a pass, at most


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
            renders up to where the model's reply begins.
        labels: {name: a value of any type for each prompt}.
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
            without a token, a position that a prompt lacks, a site that the architecture
            lacks, a folder that holds other prompts.
    """
    asked = _asked_sites(sites)
    check(model)
    check_sites(model, asked)
    tokenized = _tokenized(tokenizer, prompts, positions, answers)
    reads = getattr(model.config, "max_position_embeddings", None)
    if reads and reads < tokenized.ids.shape[1]:
        longest = int(tokenized.lengths.argmax())
        raise UserError(
            f"prompt {longest} has {tokenized.ids.shape[1]} tokens, and the model reads {reads}; shorten it"
        )
    codes = coded(labels or {}, len(tokenized))
    facts = _facts(model, tokenized, asked, final_norm)
    store = Store(Path(folder), facts) if folder is not None else None
    run = partial(_observation, model, tokenized, codes, asked, final_norm)
    seen = run(store, lambda position, edits: run(None, None, AppliedEdits(position, edits)))
    if store:
        seen.describe(store)
    return seen


def _observation(
    model: PreTrainedModel,
    prompts: TokenizedPrompts,
    codes: Mapping[str, tuple[Tensor, list[Any]]],
    sites: Sequence[Site],
    final_norm: bool,
    store: Store | None,
    edited: Callable[[str, Mapping[int, Edit]], Observation] | None,
    applied: AppliedEdits | None = None,
) -> PromptObservation:
    parts: list[dict[str, Tensor]] = []
    batches = torch.arange(len(prompts)).split(batch_size(model, prompts.ids.shape[1]))
    with evaluation(model):
        for number, lines in enumerate(tqdm(batches, desc="observing", unit="batch", disable=not _watched())):
            part = store.batch(number) if store else None
            if part is None:
                part = run_batch(model, prompts, lines, sites, final_norm, applied)
                if store:
                    store.keep(number, part)
            parts.append(part)
    whole = {key: torch.cat([part[key] for part in parts], dim=0 if key in FIELDS else 1) for key in parts[0]}
    labels = {name: values for name, (values, _) in codes.items()}
    values = {name: distinct for name, (_, distinct) in codes.items()}
    return observation(model, prompts, dict.fromkeys(prompts.columns, labels), values, whole, edited, applied)


def _asked_sites(sites: Sequence[Site]) -> tuple[Site, ...]:
    for site in (sites,) if isinstance(sites, str) else sites:
        if site not in SITES:
            raise UserError(f"sites={site!r}: choose from {', '.join(SITES)}{did_you_mean(str(site), SITES)}")
    return tuple(dict.fromkeys(("resid_post", *((sites,) if isinstance(sites, str) else sites))))


def _tokenized(
    tokenizer: Any, prompts: Sequence[Any], positions: Positions, answers: Sequence[str] | None
) -> TokenizedPrompts:
    if isinstance(prompts, str) or not len(prompts):
        raise UserError("prompts must be a list of texts or of chats, with at least one of them")
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("tokenizer must be a fast one, which knows the characters of each token")
    texts = [_text(tokenizer, prompt, number) for number, prompt in enumerate(prompts)]
    chats = [not isinstance(prompt, str) for prompt in prompts]
    encoded = [
        _encode(tokenizer, text, number, chat) for number, (text, chat) in enumerate(zip(texts, chats, strict=True))
    ]
    if answers is not None and len(answers) != len(texts):
        raise UserError(f"answers has {len(answers)} entries for {len(texts)} prompts; give one for each")
    first = None if answers is None else torch.tensor([_first_token(tokenizer, answer) for answer in answers])
    tokens = [
        TokenizedText(text, tokenizer.convert_ids_to_tokens(ids), offsets)
        for text, (ids, offsets) in zip(texts, encoded, strict=True)
    ]
    ids, mask = grid([ids for ids, _ in encoded], pad=tokenizer.pad_token_id or 0)
    padding = ids.shape[1] - mask.sum(1)
    reads = {name: resolve(name, where, tokens) for name, where in named(positions).items()}
    return TokenizedPrompts(
        ids=ids,
        mask=mask,
        columns={name: read + padding for name, read in reads.items()},
        examples={name: torch.arange(len(texts)) for name in reads},
        answers=first,
        tokenizer=tokenizer,
    )


def _text(tokenizer: Any, prompt: Any, number: int) -> str:
    if isinstance(prompt, str):
        return prompt
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(f"prompt {number} is a chat, but the tokenizer has no chat template; give texts")
    try:
        return str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # whatever a template raises
        reason = " ".join(str(error).split())
        raise UserError(f"prompt {number} is not a chat that the tokenizer's template takes: {reason}") from None


def _encode(tokenizer: Any, text: str, number: int, chat: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and the characters of each. A chat template writes special tokens itself."""
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=not chat)
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in encoding["input_ids"]:
        start, end = encoding["offset_mapping"][encoding["input_ids"].index(tokenizer.unk_token_id)]
        raise UserError(
            f"prompt {number} holds {text[start:end]!r}, for which the tokenizer has no token; leave it out"
        )
    if not encoding["input_ids"]:
        raise UserError(f"prompt {number} ({text!r}) has no token; give it a text")
    return encoding["input_ids"], encoding["offset_mapping"]


def _first_token(tokenizer: Any, answer: str) -> int:
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"the answer {answer!r} has no token; give it a text")
    return int(ids[0])


@torch.no_grad()
def run_batch(
    model: PreTrainedModel,
    prompts: TokenizedPrompts,
    lines: Tensor,
    sites: Sequence[Site] = ("resid_post",),
    final_norm: bool = False,
    applied: AppliedEdits | None = None,
) -> dict[str, Tensor]:
    """What a pass over the prompts `lines` (B,) gives, on the CPU: activations {"SITE/POSITION": (layers, B, ...)} in
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
    logits = output.logits[0].float().cpu()
    found: dict[Site, Tensor] = {"resid_post": states, **{site: torch.stack(each) for site, each in kept.items()}}
    if "resid_pre" in sites:
        found["resid_pre"] = states[:-1]
    by_position = {site: values.float().cpu().split(len(lines), dim=1) for site, values in found.items()}
    part = {f"{site}/{name}": values[k] for site, values in by_position.items() for k, name in enumerate(names)}
    losses = torch.full((len(lines),), math.nan)
    if prompts.answers is not None:
        losses = -logits.log_softmax(1).gather(1, prompts.answers[lines, None]).squeeze(1)
    return {**part, "tokens": logits.argmax(1), "losses": losses}


def batch_size(model: PreTrainedModel, length: int) -> int:
    """How many prompts a pass takes, so that what it holds besides the weights is bounded."""
    config = model.config
    width, heads = getattr(config, "hidden_size", 0), getattr(config, "num_attention_heads", 0)
    of_prompt = length * (16 * width + heads * length) + 3 * config.vocab_size
    return min(BATCH, max(1, AT_ONCE // 8 // of_prompt))


def _watched() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _facts(model: PreTrainedModel, prompts: TokenizedPrompts, sites: Sequence[Site], final_norm: bool) -> Iterator[Any]:
    """What the states depend on, but for the weights, of which a sample stands for all."""
    yield from (type(model).__name__, model.config.to_json_string(), str(model.dtype), sorted(sites), final_norm)
    yield prompts.ids.tolist()
    yield {name: columns.tolist() for name, columns in prompts.columns.items()}
    yield next(model.parameters()).flatten()[:64].float().tolist()
