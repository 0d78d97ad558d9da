"""Observations read back from a folder, without their model.

in:  a folder that `PromptObservation.save` or `observe(..., folder=)` wrote
out: a PromptObservation, mapped to the files
"""

from collections.abc import Sequence
from pathlib import Path

import polars
import torch

from taskcluster.data.tokenized import padded_prompts
from taskcluster.library.prompt_observation import PromptObservation, observation
from taskcluster.library.saved_states import read_folder


def load_states(folder: str | Path) -> PromptObservation:
    """The observation in a folder, mapped to its files and without its model: it can be clustered, not patched.

    Raises UserError for a folder that holds none, or one that is not finished.
    """
    facts, table, whole = read_folder(Path(folder))
    prompts = padded_prompts(
        table["ids"].to_list(),
        pad=0,
        reads={name: torch.tensor(read) for name, read in facts["reads"].items()},
        examples={name: torch.tensor(example) for name, example in facts["examples"].items()},
        answers=None if facts["expected"] is None else torch.tensor(facts["expected"]),
        tokenizer=SavedWords(table, whole["tokens"].tolist()),
    )
    labels = {at: {name: torch.tensor(codes) for name, codes in by.items()} for at, by in facts["labels"].items()}
    return observation(None, prompts, labels, facts["values"], whole)


class SavedWords:
    """The strings of tokens in a table of saved prompts, in place of their tokenizer."""

    def __init__(self, table: polars.DataFrame, answers: Sequence[int]) -> None:
        words = table["answer"].to_list()
        self._strings = dict(zip(answers, zip(words, words, strict=True), strict=True))
        columns = (table[name].explode().to_list() for name in ("ids", "tokens", "words"))
        self._strings |= {token: (string, word) for token, string, word in zip(*columns, strict=True)}

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self._strings[token][0] for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._strings[int(token)][1] for token in ids)
