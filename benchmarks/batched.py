"""Several seeds in one process: networks stacked and trained as one (torch.func.vmap), beside one after the other.

in:  the default run's batches; networks as wide and deep as the default run's, and small ones
out: rows of results.json: seconds of an update of all seeds on one thread, the loss, the gradients of shared prefixes
     and AdamW, medians over repeats that take turns; the losses of both must agree

    python benchmarks/batched.py [SEEDS]
"""

import copy
import sys

import pytorch_lightning as pl
import torch
from side_by_side import Row, alternate, record, row, seconds_of
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import TrainingBatches
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import OURS, prepare
from taskcluster.training.progress import quieten

UPDATES = 3  # timed at once
REPEATS = 5
SIZES = {"128 wide, 6 layers": (), "32 wide, 2 layers": ("model.n_embd=32", "model.n_layer=2", "model.n_head=2")}


def compare(size: str, overrides: tuple[str, ...], n: int) -> Row:
    config = RunConfig.of(composed(*overrides))
    data, network = prepare(config)
    drawn = TrainingBatches(data.train_rows, data.n_rows, data.loss_on, 0, pl.Trainer(accelerator="cpu", **OURS))
    batches = [drawn[step] for step in range(UPDATES)]
    masked = [added(batch.inputs) for batch in batches]
    networks = [copy.deepcopy(network) for _ in range(n)]
    stacked, buffers = stack_module_state([copy.deepcopy(network) for _ in range(n)])  # type: ignore[arg-type]
    template = copy.deepcopy(network)
    template.set_attn_implementation("eager")  # vmap has no rule for the backward pass of the fused one
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-3) for each in networks]
    together = torch.optim.AdamW(stacked.values(), lr=1e-3)
    losses: dict[str, list[torch.Tensor]] = {"stacked": [], "in turn": []}

    def of_one(weights: dict[str, torch.Tensor], fixed: dict[str, torch.Tensor], step: int) -> torch.Tensor:
        logits: torch.Tensor = functional_call(template, (weights, fixed), kwargs=masked[step]).logits
        return batches[step].loss(logits)

    def all_at_once() -> None:
        for step in range(UPDATES):
            gradients, loss = vmap(grad_and_value(of_one), in_dims=(0, 0, None))(stacked, buffers, step)
            for name, weight in stacked.items():
                weight.grad = gradients[name]
            together.step()
            losses["stacked"].append(loss.detach())

    def one_by_one() -> None:
        for step in range(UPDATES):
            found = []
            for each, optimizer in zip(networks, optimizers, strict=True):
                optimizer.zero_grad()
                loss = batches[step].loss(each(**batches[step].inputs).logits)
                loss.backward()
                optimizer.step()
                found.append(loss.detach())
            losses["in turn"].append(torch.stack(found))

    seconds = alternate(
        {"stacked": lambda: seconds_of(all_at_once), "in turn": lambda: seconds_of(one_by_one)}, REPEATS
    )
    torch.testing.assert_close(losses["stacked"][0], losses["in turn"][0], rtol=1e-4, atol=1e-4)
    title = f"an update of {n} seeds, {size}"
    return row(title, seconds["stacked"] / UPDATES, seconds["in turn"] / UPDATES, "one after the other", "s")


def added(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with a mask that is added to scores, as eager attention has it."""
    mask = inputs["attention_mask"]
    return inputs | {"attention_mask": torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)}


def main(n: int) -> None:
    quieten()
    torch.set_num_threads(1)
    record([compare(size, overrides, n) for size, overrides in SIZES.items()])


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
