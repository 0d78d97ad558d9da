"""Tokenize prompts, chats and answers, and find the token that is read at each position.

in:  texts or chats, a tokenizer, positions
out: TokenizedPrompts
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from taskcluster.data.tokenized import TokenizedPrompts, padded_prompts
from taskcluster.library.positions import Positions, TokenizedText, named, resolve
from taskcluster.validation import UserError


def tokenized(
    tokenizer: Any, prompts: Iterable[Any], positions: Positions, answers: Sequence[str] | None, most: int | None
) -> TokenizedPrompts:
    """See `observe` for the arguments; most: tokens that the model reads, where that is known.

    Raises UserError for what has no token or too many, for answers of another number, and for a position that a prompt
    lacks.
    """
    prompts = [*prompts] if isinstance(prompts, Iterable) and not isinstance(prompts, str | Mapping) else []
    if not prompts:
        raise UserError("prompts must be a non-empty list of texts or of chats")
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("tokenizer must be a fast one, which knows the characters of each token")
    texts = [_text(tokenizer, prompt, number) for number, prompt in enumerate(prompts)]
    chats = [not isinstance(prompt, str) for prompt in prompts]
    encoded = [
        _encode(tokenizer, text, number, chat) for number, (text, chat) in enumerate(zip(texts, chats, strict=True))
    ]
    ids = [tokens for tokens, _ in encoded]
    lengths = [len(tokens) for tokens in ids]
    if most and most < max(lengths):
        raise UserError(
            f"prompt {lengths.index(max(lengths))} has {max(lengths)} tokens, but the model reads at most {most}; "
            "shorten it"
        )
    tokens = [
        TokenizedText(text, tokenizer.convert_ids_to_tokens(each), offsets)
        for text, (each, offsets) in zip(texts, encoded, strict=True)
    ]
    reads = {name: resolve(name, where, tokens) for name, where in named(positions).items()}
    return padded_prompts(
        ids,
        tokenizer.pad_token_id or 0,
        reads,
        examples={name: torch.arange(len(texts)) for name in reads},
        answers=None if answers is None else _first_tokens(tokenizer, texts, ids, chats, answers),
        tokenizer=tokenizer,
    )


def _text(tokenizer: Any, prompt: Any, number: int) -> str:
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, Sequence) or not all(isinstance(message, Mapping) for message in prompt):
        raise UserError(
            f"prompt {number} is neither a text nor a chat, but of type {type(prompt).__name__}; give texts, or chats "
            'as lists of messages {"role": ..., "content": ...}'
        )
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(f"prompt {number} is a chat, but the tokenizer has no chat template; give texts")
    begun = bool(prompt) and prompt[-1].get("role") == "assistant"  # the reply, which the model continues
    ending = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template([*prompt], tokenize=False, **ending))
    except Exception as error:  # any error of a template
        reason = " ".join(str(error).split())
        raise UserError(f"prompt {number} is not a chat that the tokenizer's template accepts: {reason}") from None


def _encode(tokenizer: Any, text: str, number: int, chat: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and the characters of each.

    Special tokens are not added to a chat, nor to a text that begins with the first of them. Those that a tokenizer
    adds at the end are dropped, so that the last token is the one that predicts the answer.
    """
    begun = chat or bool(tokenizer.bos_token and text.startswith(tokenizer.bos_token))
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=not begun)
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    while len(ids) > 1 and ids[-1] in tokenizer.all_special_ids and offsets[-1][0] == offsets[-1][1]:
        ids, offsets = ids[:-1], offsets[:-1]
    for token, (start, end) in zip(ids, offsets, strict=True):
        if token == tokenizer.unk_token_id and text[start:end] not in ("", tokenizer.unk_token):
            raise UserError(
                f"prompt {number} holds {text[start:end]!r}, which the tokenizer has no token for; leave it out"
            )
    if not ids:
        raise UserError(f"prompt {number} ({text!r}) has no token; give it a text")
    return ids, offsets


def _first_tokens(
    tokenizer: Any,
    texts: Sequence[str],
    prompts: Sequence[Sequence[int]],
    chats: Sequence[bool],
    answers: Sequence[str],
) -> torch.Tensor:
    """The first token of each answer: the next one where the answer continues its prompt or, where one token would span
    both, the first one of the answer alone."""
    if isinstance(answers, str) or len(answers) != len(texts):
        raise UserError(f"answers has {len(answers)} entries for {len(texts)} prompts; give a list with one for each")
    first = []
    for number, (text, ids, chat, answer) in enumerate(zip(texts, prompts, chats, answers, strict=True)):
        alone = tokenizer(answer, add_special_tokens=False)["input_ids"] if isinstance(answer, str) else []
        if not alone:
            raise UserError(f"answers[{number}]={answer!r} has no token; give it a text")
        whole, _ = _encode(tokenizer, text + answer, number, chat)
        first.append(whole[len(ids)] if whole[: len(ids)] == ids and len(whole) > len(ids) else alone[0])
    return torch.tensor(first)
