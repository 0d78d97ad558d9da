"""Symbols that a tokenizer lacks are named, however the tokenizer itself treats them."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from taskcluster.data.vocabulary import encode

LETTERS = "abcdefghij"


def fast(model: models.Model, **kwargs: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_tokens([AddedToken("<x:red>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **kwargs)


def bpe(**kwargs: str) -> models.BPE:
    names = [*LETTERS, "ab", "<unk>"]
    return models.BPE({name: number for number, name in enumerate(names)}, [("a", "b")], **kwargs)


SCORES = [(letter, -1.0) for letter in [*LETTERS, "<unk>"]]
WORDS = {"ab": 0, "cd": 1, "[UNK]": 2}
TOKENIZERS = {  # and what each calls unknown in "ab xyx cd"
    "words": (fast(models.WordLevel({"ab": 0, "cd": 1})), ["xyx"]),
    "words, one token for the others": (fast(models.WordLevel(WORDS, unk_token="[UNK]")), ["xyx"]),
    "byte pairs": (fast(bpe()), ["x", "y"]),
    "byte pairs, one token for the others": (fast(bpe(unk_token="<unk>")), ["x", "y"]),
    "unigrams, one token for the others": (fast(models.Unigram(SCORES, unk_id=10), unk_token="<unk>"), ["xyx"]),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_kind_of_tokenizer_names_what_it_lacks(kind: str) -> None:
    tokenizer, missing = TOKENIZERS[kind]
    with pytest.raises(ValueError, match=r"^tokenizer='' has no token for ") as refused:
        encode(tokenizer, ["ab cd", "ab xyx <x:red> cd"])
    assert f"has no token for {', '.join(map(repr, missing))}, which the prompts hold; choose" in str(refused.value)
    assert len(encode(tokenizer, ["ab cd", "<x:red>"])) == 2


def test_five_symbols_are_named_and_the_rest_counted() -> None:
    with pytest.raises(ValueError, match=r"'k', 'l', 'm', 'n', 'o' and 3 more, which"):
        encode(fast(bpe()), ["klmnopqr"])
