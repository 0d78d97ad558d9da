"""Texts as tokens, refused where the tokenizer has none for a part of them.

in:  a fast tokenizer, texts
out: an Encoding for each text; or one sentence with the parts that are missing

A tokenizer answers in one of three ways to what is not in its vocabulary: by an exception (ours does), by one token for
all that is unknown, or by leaving it out. The last two would change prompts silently.
"""

import re
from collections.abc import Sequence

from tokenizers import Encoding
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

NAMED = 5  # missing parts that a sentence names


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Encoding]:
    """Without truncation and padding. Raises ValueError where there is no token for a part of a text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    token = tokenizer.unk_token or getattr(backend.model, "unk_token", None)
    unknown = backend.token_to_id(token) if token else None
    encodings: list[Encoding] = []
    try:
        encodings = backend.encode_batch(texts)
        missing = {word for encoded in zip(texts, encodings, strict=True) for word in _unwritten(*encoded, unknown)}
    except Exception:  # tokenizers has no kind of its own
        missing = _parts(backend, texts) - backend.get_vocab().keys()
    if missing or not encodings:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"tokenizer={tokenizer.name_or_path!r} has no token for {', '.join(map(repr, sorted(missing)[:NAMED]))}"
            f"{more}, which the prompts hold; choose tasks, data.template and data.prefix in its symbols; of an "
            "exported run, leave out task=, data= and experiment="
        )
    return encodings


def _unwritten(text: str, encoding: Encoding, unknown: int | None) -> list[str]:
    """The words of a text with a character that no token holds, or only the one for all that is unknown."""
    spans = [span for number, span in zip(encoding.ids, encoding.offsets, strict=True) if number != unknown]
    written = {place for span in spans for place in range(*span)}
    return [word.group() for word in re.finditer(r"\S+", text) if not written.issuperset(range(*word.span()))]


def _parts(backend: Backend, texts: Sequence[str]) -> set[str]:
    """The words or symbols between special tokens that a tokenizer looks up."""
    special = [re.escape(token.content) for token in backend.get_added_tokens_decoder().values()]
    parts = {part for text in texts for part in re.split("|".join(special) or r"(?!)", text)}
    return {piece for part in parts for piece, _ in backend.pre_tokenizer.pre_tokenize_str(part)}
