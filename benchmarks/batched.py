"""Several seeds in one process: networks stacked and trained as one (torch.func.vmap), beside one after the other.

in:  the default run's tasks, and of every seed a network and batches of its own; `--small` to try the script itself;
     `--compile`: a mode of torch.compile for the stacked seeds, or aot_eager, as in trainer.compile
out: rows of results.json (small ones printed alone): seconds of an update of all seeds beside one after the other, and
     beside the goal, twice one seed; medians over repeats that take turns. On a GPU if there is one, otherwise on one
     thread. An update is that of a run: the loss of shared prefixes, clipped gradients, AdamW.
     A known answer first: in float64, the weights of every seed after some updates are those of its own run, to
     `rounding`, the norm of the difference divided by that of the updates; the script fails above LIMIT

    python benchmarks/batched.py [SEEDS] [--compile MODE] [--small]
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence

import pytorch_lightning as pl
import torch
import torch._dynamo
from gpu import SMALL
from side_by_side import Row, alternate, record, row, seconds_of, show
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.optim import Optimizer
from transformers import PreTrainedModel
from updates import wait

from taskcluster.config import RunConfig
from taskcluster.data.batches import Batch
from taskcluster.data.datamodule import TrainingBatches
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import OURS, prepare
from taskcluster.training.progress import quieten

UPDATES = 3  # timed at once
REPEATS = 5
LIMIT = 1e-6
CLIP = 1.0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = {"128 wide, 6 layers": (), "32 wide, 2 layers": ("model.n_embd=32", "model.n_layer=2", "model.n_head=2")}
SIZES_OF_GPU = SIZES | {"768 wide, 6 layers": ("model=gpt2_768", "optimizer.lr=3e-4")}
SMALLEST = {"16 wide, 2 layers": (*SMALL, "model.n_embd=16")}

Update = Callable[[], None]


class Seeds:
    """n networks of one condition, and the first UPDATES batches of each, of one shape."""

    def __init__(self, overrides: Sequence[str], n: int, mode: str | None) -> None:
        self.mode = mode
        self.config, self.n = RunConfig.of(composed(*overrides, "trainer.compile=default")), n
        self.data, _ = prepare(self.config)
        trainer = pl.Trainer(accelerator="auto", devices=1, **OURS)
        rows = self.data.train_rows, self.data.n_rows, self.data.weights
        drawn = [TrainingBatches(*rows, seed, trainer, fixed_shape=True) for seed in range(n)]
        self.batches = [[each[step] for step in range(UPDATES)] for each in drawn]

    def network(self, seed: int, dtype: torch.dtype) -> PreTrainedModel:
        """As the run of a seed begins with it."""
        config = RunConfig.of(self.config.as_dict() | {"model": self.config.as_dict()["model"] | {"seed": seed}})
        sizes = {"vocab_size": len(self.data.tokenizer), "longest": self.data.longest}
        return config.model.build(PreTrainedModel, **sizes).to(DEVICE, dtype)

    def optimizer(self, weights: Sequence[Tensor], of_each: int) -> Optimizer:
        """Without weight decay on weights of one dimension; `of_each`: dimensions more than those of one seed."""
        matrices, vectors = ([w for w in weights if (w.ndim - of_each >= 2) is many] for many in (True, False))
        return self.config.optimizer.build(Optimizer, [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}])

    def own(self, seed: int, dtype: torch.dtype) -> tuple[PreTrainedModel, Update]:
        """A seed by itself: its network, and a function that makes UPDATES updates."""
        network = self.network(seed, dtype)
        optimizer = self.optimizer([*network.parameters()], 0)

        def updates() -> None:
            for batch in self.batches[seed]:
                optimizer.zero_grad()
                batch.loss(network(**batch.inputs).logits).backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
                optimizer.step()

        return network, updates

    def stacked(self, dtype: torch.dtype) -> tuple[dict[str, Tensor], Update]:
        """All seeds as one: weights by name, (n, ...), and a function that makes UPDATES updates of each."""
        weights, fixed = stack_module_state([self.network(seed, dtype) for seed in range(self.n)])
        template, optimizer = self.network(0, dtype), self.optimizer([*weights.values()], 1)
        template.set_attn_implementation("eager")  # vmap has no rule for the backward pass of the fused one
        together = [stack(batches, dtype) for batches in zip(*self.batches, strict=True)]

        def loss(weights: dict[str, Tensor], fixed: dict[str, Tensor], batch: Batch) -> Tensor:
            logits: Tensor = functional_call(template, (weights, fixed), kwargs=batch.inputs).logits
            return batch.loss(logits)

        by_seed = Batch(*[0] * 10, on_y=None)
        gradients_of = vmap(grad_and_value(loss), in_dims=(0, 0, by_seed))
        if self.mode:
            how = {"backend": self.mode} if self.mode == "aot_eager" else {"mode": self.mode}
            gradients_of = torch.compile(gradients_of, fullgraph=True, dynamic=False, **how)
            for weight in weights.values():
                torch._dynamo.mark_static_address(weight)  # CUDA graphs read it where it is

        def updates() -> None:
            for batch in together:
                if self.mode == "reduce-overhead":
                    torch.compiler.cudagraph_mark_step_begin()
                gradients, _ = gradients_of(weights, fixed, batch)
                norms = sum(g.flatten(1).square().sum(1) for g in gradients.values()).sqrt()
                scales = (CLIP / (norms + 1e-6)).clamp(max=1)  # as clip_grad_norm_ has them
                for name, weight in weights.items():
                    weight.grad = gradients[name] * scales.view(-1, *[1] * (weight.ndim - 1))
                optimizer.step()

        return weights, updates

    def rounding(self) -> float:
        """In float64: by how much the seed that differs most from its own run does so."""
        weights, updates = self.stacked(torch.float64)
        updates()
        worst = 0.0
        for seed in range(self.n):
            before = flat(self.network(seed, torch.float64).named_parameters())
            network, alone = self.own(seed, torch.float64)
            alone()
            after = flat(network.named_parameters())
            found = flat((name, weight[seed]) for name, weight in weights.items())
            worst = max(worst, float((found - after).norm() / (after - before).norm()))
        return worst


def flat(weights: Iterable[tuple[str, Tensor]]) -> Tensor:
    return torch.cat([weight.detach().flatten() for _, weight in sorted(weights)])


def stack(batches: Sequence[Batch], dtype: torch.dtype) -> Batch:
    """The batches of n seeds as one, every tensor (n, ...), with the mask that eager attention adds to its scores."""
    joined = [torch.stack(values) for values in zip(*(batch[:-2] for batch in batches), strict=True)]
    whole = Batch(*joined, torch.tensor([batch.total for batch in batches], device=DEVICE), on_y=False)
    hidden = torch.zeros(whole.mask.shape, dtype=dtype, device=DEVICE).masked_fill(~whole.mask, torch.finfo(dtype).min)
    return whole._replace(mask=hidden)


def compare(size: str, overrides: Sequence[str], n: int, mode: str | None) -> list[Row]:
    seeds = Seeds(overrides, n, mode)
    rounding = seeds.rounding()
    if not rounding < LIMIT:
        sys.exit(f"{size}: stacked seeds differ from their own runs by {rounding:.1e}, more than {LIMIT:.0e}")
    _, together = seeds.stacked(torch.float32)
    alone = [seeds.own(seed, torch.float32)[1] for seed in range(n)]

    def timed(*work: Update) -> Callable[[], float]:
        def all_of_it() -> None:
            for updates in work:
                updates()
            wait()

        return lambda: seconds_of(all_of_it) / UPDATES

    seconds = alternate({"stacked": timed(together), "in turn": timed(*alone), "one": timed(alone[0])}, REPEATS)
    title = f"{'GPU: ' * (DEVICE.type == 'cuda')}an update of {n} seeds, {size}" + (f", {mode}" if mode else "")
    return [
        row(title, seconds["stacked"], seconds["in turn"], "one after the other", "s", rounding=rounding),
        row(title, seconds["stacked"], 2 * seconds["one"], "the goal, twice one seed", "s"),
    ]


def main(n: int, small: bool, mode: str | None) -> None:
    quieten()
    torch.set_num_threads(1)
    sizes = (
        {"16 wide, 2 layers": (*SMALL, "model.n_embd=16")}
        if small
        else SIZES_OF_GPU
        if DEVICE.type == "cuda"
        else SIZES
    )
    (show if small else record)([row for size, overrides in sizes.items() for row in compare(size, overrides, n, mode)])


if __name__ == "__main__":
    parser = ArgumentParser(description="Several seeds trained as one, beside one after the other.")
    parser.add_argument("seeds", nargs="?", type=int, default=10)
    parser.add_argument("--compile", choices=["default", "reduce-overhead", "aot_eager"])
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    main(given.seeds, given.small, given.compile)
