"""Symbols that a tokenizer lacks are named, whatever the tokenizer itself makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from taskcluster.data.vocabulary import encode, unknown

LETTERS = "abcdefghij"
SPACES = pre_tokenizers.WhitespaceSplit()


def fast(
    model: models.Model, pre: pre_tokenizers.PreTokenizer | None = SPACES, **kwargs: str
) -> PreTrainedTokenizerFast:
    backend = Tokenizer(model)
    if pre is not None:
        backend.pre_tokenizer = pre
    return PreTrainedTokenizerFast(tokenizer_object=backend, **kwargs)


def bpe(**kwargs: str) -> models.BPE:
    names = [*LETTERS, "ab", "<unk>"]
    return models.BPE({name: number for number, name in enumerate(names)}, [("a", "b")], **kwargs)


def word_piece(*more: str) -> models.WordPiece:
    return models.WordPiece({name: k for k, name in enumerate([*LETTERS, *(f"##{c}" for c in LETTERS), *more])})


SCORES = [(letter, -1.0) for letter in LETTERS]
WORDS = {"ab": 0, "cd": 1, "[UNK]": 2}
TOKENIZERS = {  # and what each calls unknown in "ab xyx cd"
    "words": (fast(models.WordLevel({"ab": 0, "cd": 1})), ["xyx"]),
    "words, one token for the others": (fast(models.WordLevel(WORDS, unk_token="[UNK]")), ["xyx"]),
    "word pieces": (fast(word_piece()), ["xyx"]),
    "word pieces, one token for the others": (fast(word_piece("[UNK]")), ["xyx"]),
    "byte pairs": (fast(bpe()), ["x", "y"]),
    "byte pairs, one token for the others": (fast(bpe(unk_token="<unk>")), ["x", "y"]),
    "byte pairs, no parts": (fast(bpe(), pre=None), ["x", "y"]),
    "byte pairs after a mark": (
        fast(models.BPE({name: k for k, name in enumerate(["▁", *LETTERS])}, []), pre_tokenizers.Metaspace()),
        ["x", "y"],
    ),
    "unigrams": (fast(models.Unigram(SCORES)), ["x", "y"]),
    "unigrams, one token for the others": (fast(models.Unigram([*SCORES, ("<unk>", -9.0)], unk_id=10)), ["x", "y"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_kind_of_tokenizer_names_what_it_lacks(kind: str) -> None:
    tokenizer, missing = TOKENIZERS[kind]
    with pytest.raises(ValueError, match=r"^tokenizer='' has no token for ") as refused:
        encode(tokenizer, ["ab cd", "ab xyx cd"])
    assert f"has no token for {', '.join(map(repr, missing))}, which the prompts hold; choose tasks" in str(
        refused.value
    )
    assert len(encode(tokenizer, ["ab cd", "cd"])) == 2


def test_bytes_and_characters_in_normal_form_are_known() -> None:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(["ab"], vocab_size=260, show_progress=False)
    of_bytes = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)
    assert encode(of_bytes, ["aξ\n日本 👍"])[0].ids
    backend = Tokenizer(bpe())
    backend.normalizer, backend.pre_tokenizer = (
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        SPACES,
    )
    assert encode(PreTrainedTokenizerFast(tokenizer_object=backend), ["á b\u0301"])[0].tokens == ["a", "b"]


def test_special_tokens_are_known_whatever_they_are_written_with() -> None:
    backend = Tokenizer(bpe())
    backend.decoder = decoders.BPEDecoder()
    backend.add_tokens([AddedToken("<x:red>", normalized=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert encode(tokenizer, ["a<x:red>b"])[0].tokens == ["a", "<x:red>", "b"]
    with pytest.raises(ValueError, match="has no token for 'r', 'z', which"):
        encode(tokenizer, ["a<x:red>b", "rz"])


def test_five_symbols_are_named_and_the_rest_counted() -> None:
    with pytest.raises(ValueError, match=r"'k', 'l', 'm', 'n', 'o' and 3 more, which"):
        encode(fast(bpe()), ["klmnopqr"])


@given(st.lists(st.text("abcxyzξ \n", max_size=8), min_size=1, max_size=4))
def test_what_is_encoded_loses_nothing(texts: list[str]) -> None:
    tokenizer, _ = TOKENIZERS["byte pairs"]
    lacking = sorted({c for text in texts for c in text if not c.isspace() and c not in LETTERS})
    assert unknown(tokenizer.backend_tokenizer, texts) == lacking
    if not lacking:
        whole = ["".join(text.split()) for text in texts]
        assert ["".join(encoding.tokens) for encoding in encode(tokenizer, texts)] == whole
