"""The Lightning module that trains a Hugging Face causal LM. It knows nothing about tasks.

in:  Batches
out: one optimizer update a step
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from taskcluster.data.batches import Batch
from taskcluster.models.architecture import accepted, is_placed
from taskcluster.validation import Seed

CHECK_EVERY = 10  # steps between looks at the loss, each of which waits for the device


Loss = Callable[[PreTrainedModel, Batch, int], Tensor]  # arguments: network, batch, number of updates so far


def next_token_loss(network: PreTrainedModel, batch: Batch, step: int) -> Tensor:
    """Return the loss of a batch by its own weights, of logits at every token."""
    return batch.loss(network(**accepted(network, batch.inputs)).logits)


class TrainingDiverged(RuntimeError):
    """The loss is not finite. At step 0, the initial weights are the cause."""

    def __str__(self) -> str:
        return f"the loss is not finite at step {self.args[0]}"


def reseed(seed: int, step: int, rank: int = 0) -> None:
    """Seed all random generators with a function of (seed, step) and the process's rank."""
    derived = random.Random(f"{seed}/{step}/{rank}").getrandbits(32)
    random.seed(derived)
    np.random.seed(derived)  # noqa: NPY002
    torch.manual_seed(derived)


class LanguageModel(pl.LightningModule):
    """Trains `network` by the gradient of `loss`.

    optimizer: three parameter groups (matrices, embeddings, and biases with LayerNorms) -> Optimizer; weight decay is
    left off the last, as in GPT-2's training.
    scheduler: Optimizer -> LambdaLR, stepped once an update.
    seed: dropout at a step is a function of it and the step.

    A run that resumes from a checkpoint takes weights, moments and counts from there, and what is configured, such as
    learning rates, from the optimizer and the scheduler that it is given.

    Raises TrainingDiverged within CHECK_EVERY steps of a loss that is not finite.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[[Optimizer], LambdaLR],
        seed: Seed,
        loss: Loss = next_token_loss,
    ) -> None:
        super().__init__()
        self.network, self._loss = network, loss
        tables = [m for m in network.modules() if isinstance(m, nn.Embedding)] + [network.get_output_embeddings()]
        embedding = {parameter for table in tables for parameter in table.parameters()}
        weights = [p for p in network.parameters() if p.ndim >= 2]
        self._optimizer = optimizer(
            [
                {"params": [p for p in weights if p not in embedding]},
                {"params": [p for p in weights if p in embedding]},
                {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
            ]
        )
        # A fused optimizer would unscale fp16's gradients by itself, after Lightning has clipped them: it refuses that.
        self._optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        self._scheduler = scheduler(self._optimizer)
        self._configured = [{k: v for k, v in group.items() if k != "params"} for group in self._optimizer.param_groups]
        self._seed = seed

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Lightning moves and converts the network, unless a map of devices or quantization has placed it for good."""
        return self if is_placed(self.network) else super()._apply(fn, recurse)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Count batches as this run does: the checkpoint's run may have had another number of them an update."""
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        extra = checkpoint["global_step"] * self.trainer.accumulate_grad_batches - batches["total"]["processed"]
        for counts in (batches["total"], batches["current"]):
            counts |= {name: count + extra for name, count in counts.items()}

    def on_train_start(self) -> None:
        if self.global_step:
            step, rates = self._scheduler.last_epoch, self._scheduler.lr_lambdas
            self._scheduler.base_lrs = [configured["initial_lr"] for configured in self._configured]
            for group, configured, rate in zip(self._optimizer.param_groups, self._configured, rates, strict=True):
                group |= configured | {"lr": configured["initial_lr"] * rate(step)}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        reseed(self._seed, batch_idx, self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._loss(self.network, batch, self.global_step)
        if self.global_step % CHECK_EVERY == 0:
            finite = bool(torch.isfinite(loss))
            if not self.trainer.strategy.reduce_boolean_decision(finite, all=True):
                raise TrainingDiverged(self.global_step)
        rate = torch.tensor(self._optimizer.param_groups[0]["lr"])  # a number would be copied to the device each step
        self.log_dict({"train/batch_loss": loss, "train/learning_rate": rate}, logger=False)
        return loss

    def configure_optimizers(self) -> Any:
        return {"optimizer": self._optimizer, "lr_scheduler": {"scheduler": self._scheduler, "interval": "step"}}
