"""Checkpoints of a series that have the same weights: suites of checkpoints hold copies, over which curves are flat.

in:  the network at each step, as its weights were loaded
out: the earlier steps with the same weights, to the bit; status.json has all of them
"""

import hashlib

import torch
from transformers import PreTrainedModel

from taskcluster.runs.folder import RunFolder


class Copies:
    """The steps of a run up to `measured`, and those that are added, by what weights they have.

    status.json: `weights`, {step: SHA-256 of its weights}, which a resumed run compares with; `copies`, lists of the
    steps that have the same.
    """

    def __init__(self, run: RunFolder, measured: int) -> None:
        self._run = run
        self._weights = {
            int(step): sha for step, sha in run.status().get("weights", {}).items() if int(step) <= measured
        }

    def add(self, step: int, network: PreTrainedModel) -> list[int]:
        """The earlier steps with the weights that the network now has at `step`."""
        own = fingerprint(network)
        earlier = [other for other, sha in self._weights.items() if sha == own]
        self._weights[step] = own
        by_weights: dict[str, list[int]] = {}
        for other, sha in self._weights.items():
            by_weights.setdefault(sha, []).append(other)
        copies = [steps for steps in by_weights.values() if len(steps) > 1]
        self._run.write_status("running", weights=self._weights, copies=copies)
        return earlier


def fingerprint(network: PreTrainedModel) -> str:
    """The SHA-256 of all weights in the precision that they have, and of their names."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.named_parameters()):
        digest.update(f"{name} {weight.dtype} {[*weight.shape]}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
