"""Store observations in a folder: written batch by batch, read without the model.

    FOLDER/
      observation.json         what was observed: a fingerprint, positions, labels' values
      batch=00000.safetensors  activations of a batch, {"SITE/POSITION": (layers, B, ...)}, its answers and losses
      prompts.parquet          a row for each prompt: text, token ids, read columns, labels, answer, loss

A batch is in the folder whole or not at all, so an observation that was killed resumes with the first missing one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taskcluster.measures.edited_prompts import Answers
from taskcluster.runs.atomic_files import replace_file
from taskcluster.validation import UserError

META, PROMPTS = "observation.json", "prompts.parquet"
FIELDS = Answers._fields  # what a batch has beside activations


class Store:
    """A folder that receives the batches of an observation. Raises UserError for a folder that holds another one."""

    def __init__(self, folder: Path, facts: Iterable[Any]) -> None:
        self.folder = folder
        self.fingerprint = hashlib.sha256(json.dumps(list(facts), sort_keys=True, default=str).encode()).hexdigest()
        if folder.exists() and not folder.is_dir():
            raise UserError(f"folder={str(folder)!r} is a file; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        meta = folder / META
        if meta.exists() and json.loads(meta.read_text())["fingerprint"] != self.fingerprint:
            raise UserError(
                f"folder={str(folder)!r} contains an observation of different prompts, answers, positions, sites or "
                "model; choose another folder"
            )
        replace_file(meta, json.dumps({"fingerprint": self.fingerprint}).encode())

    def _file(self, number: int) -> Path:
        return self.folder / f"batch={number:05d}.safetensors"

    def batch(self, number: int) -> dict[str, Tensor] | None:
        """The batch with this number, memory-mapped; None where it is not there yet, or damaged."""
        with suppress(FileNotFoundError, SafetensorError):
            return load_file(self._file(number))
        return None

    def keep(self, number: int, batch: dict[str, Tensor]) -> None:
        partial = self._file(number).with_suffix(".partial")
        save_file({key: values.contiguous() for key, values in batch.items()}, partial)
        partial.replace(self._file(number))

    def finish(self, table: polars.DataFrame, facts: Mapping[str, Any]) -> None:
        """Write what is known of the prompts: a row for each, and facts about all."""
        table.write_parquet(self.folder / PROMPTS)
        replace_file(self.folder / META, json.dumps({"fingerprint": self.fingerprint, **facts}, default=str).encode())


def sampled_weights(model: nn.Module) -> list[list[float]]:
    """Some numbers of every parameter, by which models of one architecture differ. Quantized parameters have types of
    their own and are left out."""
    return [
        weights.detach().flatten()[:: 1 + weights.numel() // 64].float().tolist()
        for weights in model.parameters()
        if type(weights) is nn.Parameter and not weights.is_meta
    ]


def read_folder(folder: Path) -> tuple[dict[str, Any], polars.DataFrame, dict[str, Tensor]]:
    """Facts and the table, as `Store.finish` wrote them, and the activations, answers and losses of all batches joined;
    those of a single batch stay mapped to its file.

    Raises UserError for a folder that holds no observation, or one that is not finished or not whole."""
    try:
        facts = json.loads((folder / META).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{str(folder)!r} contains no observation; PromptObservation.save writes one") from None
    if "labels" not in facts:
        raise UserError(f"the observation in {str(folder)!r} is not finished; run the same observe(..., folder=) again")
    try:
        table = polars.read_parquet(folder / PROMPTS)
        batches = [load_file(file) for file in sorted(folder.glob("batch=*.safetensors"))]
    except (OSError, SafetensorError, polars.exceptions.ComputeError) as error:
        raise UserError(f"{str(folder)!r} cannot be read ({error}); observe the prompts again") from None
    if sum(len(batch["tokens"]) for batch in batches) != len(table):
        raise UserError(f"{str(folder)!r} lacks states of its {len(table)} prompts; observe them again")
    parts = {key: [batch[key] for batch in batches] for key in batches[0]}
    whole = {
        key: values[0] if len(values) == 1 else torch.cat(values, dim=0 if key in FIELDS else 1)
        for key, values in parts.items()
    }
    return facts, table, whole
