"""Texts as tokens, refused where the tokenizer has none for a part of them.

in:  a fast tokenizer, texts
out: an Encoding for each text; or one sentence with the symbols that are missing

What is not in its vocabulary a tokenizer answers in its own way: by an exception of no kind (WordLevel, Unigram), by
leaving it out (BPE), or by the one token of all that is unknown. The last two would change prompts without a word.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Encoding, models
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from taskcluster.runs.atomic_files import EXPORTED_CONFIG

OF_WORDS = (models.WordLevel, models.WordPiece)  # which know whole words; others, characters
SHOWN = 5  # symbols that a sentence names


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Encoding]:
    """Without truncation and padding. Raises ValueError where there is no token for a part of a text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    try:
        encodings = backend.encode_batch(texts)
    except Exception:  # tokenizers has no kind of its own
        if not (missing := unknown(backend, texts)):
            raise
        raise ValueError(_sentence(tokenizer.name_or_path, missing)) from None
    if not _raises(backend.model) and (missing := unknown(backend, texts)):
        raise ValueError(_sentence(tokenizer.name_or_path, missing))
    return encodings


def unknown(backend: Backend, texts: Sequence[str]) -> list[str]:
    """The words or characters of texts that the vocabulary lacks, sorted; white space aside."""
    of_words = isinstance(backend.model, OF_WORDS)
    special = {token.content for token in backend.get_added_tokens_decoder().values()}
    if not of_words and not _lacking(backend, set().union(*texts) - special):  # quickly, of those in special tokens too
        return []
    split = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)").split
    rest = [part for text in texts for part in split(text) if part]
    if not of_words:
        return _lacking(backend, set().union(*rest))
    return sorted({word for part in rest for word in _pieces(backend, part) if _is_unknown(backend.model, word)})


def _lacking(backend: Backend, characters: Iterable[str]) -> list[str]:
    return sorted(
        character
        for character in characters
        if not character.isspace()
        and any(_is_unknown(backend.model, c) for piece in _pieces(backend, character) for c in piece)
    )


def _pieces(backend: Backend, text: str) -> list[str]:
    """What the model of a tokenizer is given of a text without special tokens: its parts, in normal form."""
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(normal)] if backend.pre_tokenizer else [normal]


def _is_unknown(model: models.Model, piece: str) -> bool:
    try:
        tokens = model.tokenize(piece)
    except Exception:  # as above
        return True
    of_all = getattr(model, "unk_token", None)
    return not tokens or any(
        token.value in (of_all, None) or model.id_to_token(token.id) != token.value for token in tokens
    )


def _raises(model: models.Model) -> bool:
    return isinstance(model, OF_WORDS) and model.token_to_id(model.unk_token) is None


def _sentence(name: str, missing: Sequence[str]) -> str:
    own = "choose tasks, data.template and data.prefix in its symbols"
    if Path(name, EXPORTED_CONFIG).is_file():
        again = f"taskcluster-train model=pretrained model.path={name} trainer.max_steps=0"
        own = f"leave out task=, data= and experiment=, so that they follow {EXPORTED_CONFIG}, as in {again}"
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    shown = ", ".join(map(repr, missing[:SHOWN]))
    return f"tokenizer={name!r} has no token for {shown}{more}, which the prompts hold; {own}"
