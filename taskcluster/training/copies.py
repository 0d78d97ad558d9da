"""Checkpoints of a series that have the same weights: suites of checkpoints hold copies, over which curves are flat.

in:  the network at each step, with the weights of that step
out: the earlier steps with the same weights, to the bit; status.json has all of them
"""

import hashlib

import torch
from transformers import PreTrainedModel

from taskcluster.runs.folder import RunFolder


class Copies:
    """The steps of a run up to `measured`, and those that are added, by their weights.

    status.json: `weights`, {step: SHA-256 of its weights}, which a resumed run compares with; `copies`, lists of the
    steps that have the same.
    """

    def __init__(self, run: RunFolder, measured: int) -> None:
        self._run = run
        recorded = run.status().get("weights", {})
        self._weights = {int(step): sha for step, sha in recorded.items() if int(step) <= measured}

    def add(self, step: int, network: PreTrainedModel) -> list[int]:
        """The earlier steps with the weights that the network now has at `step`."""
        sha = fingerprint(network)
        earlier = self._steps(sha)
        self._weights[step] = sha
        alike = [self._steps(known) for known in dict.fromkeys(self._weights.values())]
        copies = [steps for steps in alike if len(steps) > 1]
        self._run.write_status("running", weights=self._weights, copies=copies)
        return earlier

    def _steps(self, sha: str) -> list[int]:
        return [step for step, known in self._weights.items() if known == sha]


def fingerprint(network: PreTrainedModel) -> str:
    """The SHA-256 of all weights in the precision that they have, and of their names."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.named_parameters()):
        digest.update(f"{name} {weight.dtype} {[*weight.shape]}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
