"""Observations read back from a folder, without their model.

in:  a folder that `PromptObservation.save` or `observe(..., folder=)` wrote
out: a PromptObservation, mapped to the files
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars
import torch

from taskcluster.data.tokenized import TokenizedPrompts, padded_prompts
from taskcluster.library.prompt_observation import PromptObservation, observation
from taskcluster.library.saved_states import read_folder


def load_states(folder: str | Path) -> PromptObservation:
    """The observation in a folder, mapped to its files and without its model: it can be clustered, not patched.

    Raises UserError for a folder that holds none, or one that is not finished.
    """
    facts, table, whole = read_folder(Path(folder))
    padded = padded_prompts(
        table["ids"].to_list(),
        pad=0,
        reads={name: torch.tensor(read) for name, read in facts["reads"].items()},
        examples={name: torch.tensor(example) for name, example in facts["examples"].items()},
        answers=None if facts["expected"] is None else torch.tensor(facts["expected"]),
        tokenizer=None,
    )
    prompts = SavedPrompts(**vars(padded), table=table, answered=whole["tokens"].tolist())
    labels = {at: {name: torch.tensor(codes) for name, codes in by.items()} for at, by in facts["labels"].items()}
    return observation(None, prompts, labels, facts["values"], whole)


@dataclass(frozen=True, kw_only=True)
class SavedPrompts(TokenizedPrompts):
    """Prompts without their tokenizer.

    Attributes, beside those of `TokenizedPrompts`:
        table: a row for each prompt, as `PromptObservation.describe` wrote it.
        answered: the token that the model gave as the answer of each.
    """

    table: polars.DataFrame
    answered: Sequence[int]

    @cached_property
    def texts(self) -> list[str]:
        return self.table["prompt"].to_list()

    @cached_property
    def strings(self) -> list[list[str]]:
        return self.table["tokens"].to_list()

    @cached_property
    def pieces(self) -> list[list[str]]:
        return self.table["words"].to_list()

    def texts_at(self, position: str) -> list[str]:
        reads = zip(self.examples[position].tolist(), self.reads(position).tolist(), strict=True)
        return ["".join(self.pieces[prompt][: read + 1]) for prompt, read in reads]

    def words(self, ids: Sequence[int]) -> list[str]:
        """Tokens as text: those of the prompts and of the answers, which are all that is known."""
        lines = zip(self.unpadded, self.pieces, strict=True)
        known = {token: piece for line in lines for token, piece in zip(*line, strict=True)}
        known |= dict(zip(self.answered, self.table["answer"], strict=True))
        return [known[token] for token in ids]
