"""Activation patching: an edited pass of 1,500 prompts, ours beside hooks on the whole model and beside nnsight.

in:  the run folder of `make reproduce`
out: rows of results.json: seconds for one edit at one position and layer, the mean over layers 1 to L and two
     positions, with what precedes it (ours: the first pass). The logits of all three agree to 1e-5, or it fails.

    python benchmarks/interventions.py [RUN]
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nnsight import LanguageModel
from side_by_side import alternate, record, row, seconds_of
from torch import Tensor, nn

from taskcluster import load_run, observe
from taskcluster.measures.interventions import Interventions
from taskcluster.models.patching import Prompts
from taskcluster.training.progress import quieten

REPEATS = 3
POSITIONS = ("instruction_end", "input")
EDITS = ("add", "replace", "interchange")  # beside the controls and the edit that changes nothing

Case = tuple[str, int]  # position, layer


class Patched:
    """The states of other prompts put in place of the prompts' own, each way."""

    def __init__(self, network: Any, tokens: Tensor, mask: Tensor, back: dict[Any, Tensor], tokenizer: Any) -> None:
        self.network, self.tokens, self.mask, self.back = network, tokens, mask, back
        self.positions = (mask.cumsum(1) - 1).clamp(min=0)
        self.lines, self.width = torch.arange(len(tokens)), tokens.shape[1]
        self.cases = [(p, layer) for p in POSITIONS for layer in range(1, network.config.n_layer + 1)]
        prompts = Prompts(network, tokens, mask)
        self.others = {(p, layer): prompts.at(back[p]).states[layer].flip(0) for p, layer in self.cases}
        self.traced = LanguageModel(network, tokenizer=tokenizer)

    def ours(self) -> dict[Case, Tensor]:
        prompts, found = Prompts(self.network, self.tokens, self.mask), {}
        for position in POSITIONS:
            suffixes = prompts.at(self.back[position])
            found |= {
                case: suffixes.edited(case[1], other) for case, other in self.others.items() if case[0] == position
            }
        return found

    @torch.no_grad()
    def hooks(self) -> dict[Case, Tensor]:
        found = {}
        for (position, layer), other in self.others.items():
            columns = self.width - 1 - self.back[position]

            def edit(module: nn.Module, args: Any, output: Tensor, at: Tensor = columns, new: Tensor = other) -> Tensor:
                output = output.clone()
                output[self.lines, at] = new
                return output

            hook = self.network.transformer.h[layer - 1].register_forward_hook(edit)
            logits = self.network(input_ids=self.tokens, attention_mask=self.mask, position_ids=self.positions).logits
            hook.remove()
            found[position, layer] = logits[:, -1].clone()
        return found

    @torch.no_grad()
    def nnsight(self) -> dict[Case, Tensor]:
        found = {}
        inputs = {"input_ids": self.tokens, "attention_mask": self.mask, "position_ids": self.positions}
        for (position, layer), other in self.others.items():
            columns, lines = self.width - 1 - self.back[position], self.lines
            with self.traced.trace(**inputs):
                self.traced.transformer.h[layer - 1].output[lines, columns] = other
                logits = self.traced.lm_head.output[:, -1].save()
            found[position, layer] = logits.detach().clone()
        return found


def main(folder: Path) -> None:
    quieten()
    run = load_run(folder)
    measure = Interventions(
        data=run.data,
        clusterer=run.measurement.measures["clustering"].clusterer,  # type: ignore[attr-defined]
        edits=[*EDITS],
        at=[*POSITIONS],
        alphas=[1.0],
        n_pairs=1500,
        seed=0,
        every_n_steps=1,
    )
    tokens, mask, back = run.data.probe["val"].prompts(measure.pairs.base, 0)
    patched = Patched(run.network, tokens, mask, back, run.data.tokenizer)
    ways: dict[str, Callable[[], dict[Case, Tensor]]] = {
        "ours": patched.ours, "hooks": patched.hooks, "nnsight": patched.nnsight,
    }  # fmt: skip
    logits = {name: way() for name, way in ways.items()}
    for case, wanted in logits["ours"].items():
        for name in ("hooks", "nnsight"):
            torch.testing.assert_close(logits[name][case], wanted, rtol=1e-5, atol=1e-5)
    each = len(patched.cases)
    seconds = alternate({name: partial(seconds_of, way) for name, way in ways.items()}, REPEATS)
    rows = [
        row(f"edited pass, {len(tokens)} prompts", seconds["ours"] / each, seconds[name] / each, peer, "s")
        for name, peer in (("hooks", "forward hooks on GPT2LMHeadModel"), ("nnsight", "nnsight, one trace an edit"))
    ]
    steps = [step for step, _ in run.run.saved()]

    def whole_map() -> None:
        for step in steps:
            run.go_to(step)
            measure.measure(observe(run.network, run.data, "val", []))

    n_passes = len(steps) * len(POSITIONS) * (run.network.config.n_layer + 1) * (len(EDITS) + 5)
    record(rows)
    print(f"the map of {len(steps)} checkpoints, {n_passes} edited passes with controls: {seconds_of(whole_map):.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reproduce/seed=0"))
