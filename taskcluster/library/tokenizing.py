"""Tokenize prompts, chats and answers, and find the token that is read at each position.

in:  texts or chats, a tokenizer, positions
out: TokenizedPrompts
"""

from collections.abc import Sequence
from typing import Any

import torch

from taskcluster.data.tokenized import TokenizedPrompts, padded_prompts
from taskcluster.library.positions import Positions, TokenizedText, named, resolve
from taskcluster.validation import UserError


def tokenized(
    tokenizer: Any, prompts: Sequence[Any], positions: Positions, answers: Sequence[str] | None, most: int | None
) -> TokenizedPrompts:
    """See `observe` for the arguments; most: tokens that the model reads, where that is known.

    Raises UserError for what has no token or too many, for answers of another number, and for a position that a prompt
    lacks.
    """
    if isinstance(prompts, str) or not len(prompts):
        raise UserError("prompts must be a non-empty list of texts or of chats")
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("tokenizer must be a fast one, which knows the characters of each token")
    texts = [_text(tokenizer, prompt, number) for number, prompt in enumerate(prompts)]
    encoded = [
        _encode(tokenizer, text, number, chat=not isinstance(prompt, str))
        for number, (text, prompt) in enumerate(zip(texts, prompts, strict=True))
    ]
    if answers is not None and len(answers) != len(texts):
        raise UserError(f"answers has {len(answers)} entries for {len(texts)} prompts; give one for each")
    lengths = [len(ids) for ids, _ in encoded]
    if most and most < max(lengths):
        raise UserError(
            f"prompt {lengths.index(max(lengths))} has {max(lengths)} tokens, but the model reads at most {most}; "
            "shorten it"
        )
    tokens = [
        TokenizedText(text, tokenizer.convert_ids_to_tokens(ids), offsets)
        for text, (ids, offsets) in zip(texts, encoded, strict=True)
    ]
    reads = {name: resolve(name, where, tokens) for name, where in named(positions).items()}
    return padded_prompts(
        [ids for ids, _ in encoded],
        tokenizer.pad_token_id or 0,
        reads,
        examples={name: torch.arange(len(texts)) for name in reads},
        answers=None if answers is None else torch.tensor([_first_token(tokenizer, answer) for answer in answers]),
        tokenizer=tokenizer,
    )


def _text(tokenizer: Any, prompt: Any, number: int) -> str:
    if isinstance(prompt, str):
        return prompt
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(f"prompt {number} is a chat, but the tokenizer has no chat template; give texts")
    try:
        return str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # any error of a template
        reason = " ".join(str(error).split())
        raise UserError(f"prompt {number} is not a chat that the tokenizer's template accepts: {reason}") from None


def _encode(tokenizer: Any, text: str, number: int, chat: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and the characters of each. A chat template writes special tokens itself."""
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=not chat)
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in encoding["input_ids"]:
        start, end = encoding["offset_mapping"][encoding["input_ids"].index(tokenizer.unk_token_id)]
        raise UserError(
            f"prompt {number} holds {text[start:end]!r}, which the tokenizer has no token for; leave it out"
        )
    if not encoding["input_ids"]:
        raise UserError(f"prompt {number} ({text!r}) has no token; give it a text")
    return encoding["input_ids"], encoding["offset_mapping"]


def _first_token(tokenizer: Any, answer: str) -> int:
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"the answer {answer!r} has no token; give it a text")
    return int(ids[0])
