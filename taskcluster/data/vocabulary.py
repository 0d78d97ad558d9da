"""Texts as tokens, refused where the tokenizer has none for a part of them.

in:  a fast tokenizer, texts
out: an Encoding for each text; or one sentence with the parts that are missing

A tokenizer answers in one of three ways to what is not in its vocabulary: by an exception (ours does), by one token for
all that is unknown, or by leaving it out. The last two would change prompts silently.
"""

import re
from collections.abc import Sequence

from tokenizers import Encoding, models
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

NAMED = 5  # missing parts that a sentence names


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Encoding]:
    """Without truncation and padding. Raises ValueError where there is no token for a part of a text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encodings: list[Encoding] = []
    try:
        encodings = backend.encode_batch(texts)
        missing = _replaced(tokenizer, texts, encodings) | _left_out(backend, texts)
    except Exception:  # tokenizers has no kind of its own
        missing = _raised(backend, texts)
    if missing or len(encodings) < len(texts):
        named = ", ".join(map(repr, sorted(missing)[:NAMED])) + f" and {len(missing) - NAMED} more" * (
            len(missing) > NAMED
        )
        raise ValueError(
            f"tokenizer={tokenizer.name_or_path!r} has no token for {named}, which the prompts hold; choose tasks, "
            "data.template and data.prefix in its symbols; of an exported run, leave out task=, data= and experiment="
        )
    return encodings


def _replaced(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], encodings: Sequence[Encoding]) -> set[str]:
    """The parts of texts whose token is the one for all that is unknown."""
    backend = tokenizer.backend_tokenizer
    token = tokenizer.unk_token or getattr(backend.model, "unk_token", None)
    unknown = backend.token_to_id(token) if token else None
    replaced = {
        text[slice(*span)]
        for text, encoding in zip(texts, encodings, strict=True)
        if unknown in encoding.ids
        for number, span in zip(encoding.ids, encoding.offsets, strict=True)
        if number == unknown
    }
    return replaced - {token}


def _left_out(backend: Backend, texts: Sequence[str]) -> set[str]:
    """The characters of texts that a tokenizer of byte pairs leaves out, white space aside."""
    if not isinstance(backend.model, models.BPE):
        return set()
    characters = {character for character in set().union(*_ordinary(backend, texts)) if not character.isspace()}
    return {c for c in characters if not backend.encode(c, add_special_tokens=False).ids}


def _raised(backend: Backend, texts: Sequence[str]) -> set[str]:
    """The words or symbols that are not in the vocabulary of a tokenizer that raises an exception."""
    pre = backend.pre_tokenizer
    parts = _ordinary(backend, texts)
    pieces = {piece for part in parts for piece, _ in pre.pre_tokenize_str(part)} if pre else parts
    return pieces - backend.get_vocab().keys()


def _ordinary(backend: Backend, texts: Sequence[str]) -> set[str]:
    """The parts of texts between special tokens."""
    special = [re.escape(token.content) for token in backend.get_added_tokens_decoder().values()]
    return {part for text in texts for part in re.split("|".join(special) or r"(?!)", text)}
