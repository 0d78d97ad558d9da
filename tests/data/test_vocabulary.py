"""Words that a tokenizer lacks are named, however the tokenizer itself treats them."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from taskcluster.data.prompts import encoded

LETTERS = "abcdefghij"
PIECES = {name: number for number, name in enumerate([*LETTERS, "ab", "<unk>"])}
SCORES = [(letter, -1.0) for letter in [*LETTERS, "<unk>"]]
MODELS = {
    "words": models.WordLevel({"ab": 0, "cd": 1}),
    "words, one token for the others": models.WordLevel({"ab": 0, "cd": 1, "[UNK]": 2}, unk_token="[UNK]"),
    "byte pairs": models.BPE(PIECES, [("a", "b")]),
    "byte pairs, one token for the others": models.BPE(PIECES, [("a", "b")], unk_token="<unk>"),
    "unigrams, one token for the others": models.Unigram(SCORES, unk_id=10),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_tokenizer_names_the_words_that_it_lacks(kind: str) -> None:
    backend = Tokenizer(MODELS[kind])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_tokens([AddedToken("<x:red>", normalized=False)])
    unknown = {"unk_token": "<unk>"} if "unigrams" in kind else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **unknown)
    assert len(encoded(tokenizer, ["ab cd", "<x:red>"])) == 2
    with pytest.raises(ValueError, match=r"^tokenizer='' has no token for 'xyx', which the prompts contain; choose"):
        encoded(tokenizer, ["ab cd", "ab xyx <x:red> cd"])
    with pytest.raises(ValueError, match=r"'k', 'l', 'm', 'n', 'o' and 3 more, which"):
        encoded(tokenizer, ["k l m n o p q r"])
