"""Activation patching: an edited pass of 1,500 prompts, ours beside hooks on the whole model, nnsight, TransformerLens.

in:  the run folder of `make reproduce`
out: rows of results.json: seconds for one edit at one position and layer, the mean over layers 1 to L and two
     positions, with what precedes it (ours: the first pass). The logits of all four agree to 1e-5, or it fails.
     Printed besides: seconds of whole maps, of all checkpoints of the run, with one control and with all.

    python benchmarks/interventions.py [RUN]
"""

import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nnsight import LanguageModel
from side_by_side import Row, alternate, record, row, seconds_of
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from taskcluster import LoadedRun, load_run
from taskcluster.measures.interventions.causal_effects import Interventions
from taskcluster.measures.interventions.edits import CONTROLS, ControlName
from taskcluster.measures.observation import observe
from taskcluster.models.patching import Prompts
from taskcluster.training.progress import quieten

REPEATS = 1
POSITIONS = ("instruction_end", "input")
EDITS = ("add", "replace", "interchange")  # beside the controls and the edit that changes nothing
PEERS = {
    "hooks": "forward hooks on GPT2LMHeadModel",
    "nnsight": "nnsight, one trace an edit",
    "lens": "TransformerLens, run_with_hooks",
}

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
        self.bridge = TransformerBridge.boot_transformers(  # it takes the model over: a copy. No weight is processed
            "trained", hf_model=copy.deepcopy(network), tokenizer=copy.deepcopy(tokenizer), device="cpu"
        )

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

    @torch.no_grad()
    def lens(self) -> dict[Case, Tensor]:
        found = {}
        inputs = {"attention_mask": self.mask, "position_ids": self.positions}
        for (position, layer), other in self.others.items():
            columns = self.width - 1 - self.back[position]

            def edit(states: Tensor, hook: Any, at: Tensor = columns, new: Tensor = other) -> Tensor:
                states[self.lines, at] = new
                return states

            hooks = [(f"blocks.{layer - 1}.hook_resid_post", edit)]
            found[position, layer] = self.bridge.run_with_hooks(self.tokens, fwd_hooks=hooks, **inputs)[:, -1].clone()
        return found


def beside_peers(patched: Patched) -> list[Row]:
    ways: dict[str, Callable[[], dict[Case, Tensor]]] = {"ours": patched.ours}
    ways |= {name: getattr(patched, name) for name in PEERS}
    logits = {name: way() for name, way in ways.items()}
    for case, wanted in logits["ours"].items():
        for name in PEERS:
            torch.testing.assert_close(logits[name][case], wanted, rtol=1e-5, atol=1e-5)
    seconds = alternate({name: partial(seconds_of, way) for name, way in ways.items()}, REPEATS)
    of_pass = {name: whole / len(patched.cases) for name, whole in seconds.items()}
    title = f"edited pass, {len(patched.tokens)} prompts"
    return [row(title, of_pass["ours"], of_pass[name], peer, "s") for name, peer in PEERS.items()]


def intervening(run: LoadedRun, controls: Sequence[ControlName]) -> Interventions:
    return Interventions(
        data=run.data,
        clusterer=run.measurement.measures["clustering"].clusterer,  # type: ignore[attr-defined]
        edits=[*EDITS],
        at=[*POSITIONS],
        alphas=[1.0],
        controls=[*controls],
        layers=None,
        n_layer=run.network.config.num_hidden_layers,
        n_pairs=1500,
        seed=0,
        every_n_steps=1,
    )


def time_map(run: LoadedRun, controls: Sequence[ControlName]) -> None:
    """Print the seconds of the map of every checkpoint, from its weights to its numbers."""
    steps, measure = [step for step, _ in run.run.saved()], intervening(run, controls)

    def whole_map() -> None:
        for step in steps:
            run.go_to(step)
            measure.measure(observe(run.network, run.data, "val", []))

    n = len(steps) * len(POSITIONS) * (run.network.config.n_layer + 1) * (len(EDITS) + len(controls) + 1)
    seconds = seconds_of(whole_map)
    print(f"the map of {len(steps)} checkpoints, {n} edited passes, controls {', '.join(controls)}: {seconds:.1f} s")


def main(folder: Path) -> None:
    quieten()
    run = load_run(folder)
    tokens, mask, back = run.data.probe["val"].prompts(intervening(run, []).pairs.base, 0)
    record(beside_peers(Patched(run.network, tokens, mask, back, run.data.tokenizer)))
    time_map(run, ["random"])
    time_map(run, CONTROLS)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reproduce/seed=0"))
