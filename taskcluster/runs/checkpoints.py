"""Checkpoints that are written whole or not at all, with a SHA-256, and read without running their content.

in:  Lightning's dictionary of the whole state of training, plain containers and tensors
out: FILE and FILE.sha256, which `sha256sum --check` reads
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from taskcluster.runs.atomic_files import replace_file
from taskcluster.runs.folder import digest_file, drop_checkpoint
from taskcluster.validation import UserError


class TrustedCheckpointIO(CheckpointIO):
    """Lightning's way to the disk. A file in place is never touched before its successor is complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()  # torch reports a full disk differently from one version to the next; Python does not
        torch.save(checkpoint, buffer)
        content, path = buffer.getbuffer(), Path(path)
        replace_file(digest_file(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
        replace_file(path, content)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        drop_checkpoint(Path(path))


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU. Raises UserError for a file that is not a checkpoint or contains code, which is
    never run."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise UserError(
            f"{path} contains more than tensors and plain containers, possibly code; it was refused, and none of it "
            "was run"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read as a checkpoint ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict) or not {"state_dict", "optimizer_states", "global_step"} <= content.keys():
        raise UserError(f"{path} is not a complete training checkpoint; choose another")
    return content


def network_weights(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint's weights, by the names that the network itself has for them."""
    return {name.removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}


def put_weights(path: Path, network: torch.nn.Module) -> None:
    """Load a checkpoint's weights into a network, in their precision. Raises UserError if they do not fit."""
    weights = network_weights(load(path))
    refuse_other_weights(path, weights, network)
    network.to(dtype=next(weight.dtype for weight in weights.values() if weight.is_floating_point()))
    network.load_state_dict(weights)


def refuse_other_weights(path: object, weights: Mapping[str, torch.Tensor], network: torch.nn.Module) -> None:
    """Raise UserError, naming `path`, unless weights have the names and shapes of the network's."""
    saved, expected = (
        {name: " x ".join(map(str, weight.shape)) for name, weight in state.items()}
        for state in (weights, network.state_dict())
    )
    for name in sorted(saved.keys() | expected.keys()):
        there, here = saved.get(name, "missing"), expected.get(name, "missing")
        if there != here:
            raise UserError(
                f"{path} has a different architecture: {name} is {there} in the checkpoint and {here} in this model; "
                "use the configuration that it was trained with"
            )
