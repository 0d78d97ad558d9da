"""The protocol of objectives, and the combined loss of several objectives.

in:  a network and a Batch
out: the loss, from whose gradient the update is made

Weights add up, a token is hidden if any objective hides it, and auxiliary losses are added.
"""

import math
import traceback
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.batches import Batch, Hidden, Packer, TokenPlaces, Weights
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import ROLES, Position
from taskcluster.models.architecture import accepted
from taskcluster.models.hidden_states import evaluation, forward_with_states, logits_at
from taskcluster.validation import UserError


class Objective:
    """One part of the training objective. Each method's default changes nothing; override those you need.

    The constructor takes the keys of the configuration, and raises ValueError("KEY=VALUE ...") for values that cannot
    be used.

    Attributes:
        needs: which of "data" and "n_layer" the constructor is also given: the run's SequenceDataModule, and the number
            of the model's blocks.
        weights: what predictions of the instruction, x and y weigh in the next-token loss; None for nothing.
        reads: the positions whose states `auxiliary` reads.
        measured: whether `hidden` also holds when the model is measured.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    weights: Weights | None = None
    reads: tuple[Position, ...] = ()
    measured: bool = True

    def hidden(self, places: TokenPlaces) -> Tensor | None:
        """Which keys are hidden from which queries, bool (B, Q, K); None for none."""
        return None

    def hidden_in_training(self, batch: Batch, step: int) -> Tensor | None:
        """As `hidden`, of the tokens of a batch, in the update after `step`."""
        return self.hidden(batch.token_places)

    def detached(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Queries (B, T) and keys (B, T), bool: from what these queries read at these keys, no gradient returns."""
        return None

    def auxiliary(self, states: Mapping[Position, Tensor], batch: Batch, step: int) -> Tensor | None:
        """A loss that is added, of the states (L+1, M, D) at each position of `reads`, whose M tokens are
        `batch.tokens_at(position)`. Layer 0 is the embedding output, layer l the output of block l, before the final
        norm."""
        return None


class Objectives:
    """Several objectives combined. Raises UserError if no prediction has a weight, or weights are not three numbers."""

    def __init__(self, parts: Mapping[str, Objective]) -> None:
        for name, part in parts.items():
            if part.weights and not (len(part.weights) == 3 and all(0 <= weight < math.inf for weight in part.weights)):
                raise UserError(
                    f"objective.{name}: weights={part.weights} must be three numbers of at least 0: of instruction, x "
                    "and y"
                )
        self._named, self._parts = parts, [*parts.values()]
        weights = [part.weights for part in self._parts if part.weights]
        self.weights = Weights(*map(sum, zip(*weights, strict=True))) if weights else Weights(0, 0, 0)
        if not any(self.weights):
            raise UserError(
                f"objective=[{','.join(parts)}] gives no prediction a weight, so the loss is empty; add next_token or "
                "answer, or raise a weight"
            )
        self._reads = [*dict.fromkeys(position for part in self._parts for position in part.reads)]
        self.hides = any(_overrides(part, "hidden", "hidden_in_training") for part in self._parts)
        self.is_selective = self.hides or any(_overrides(part, "detached") for part in self._parts)

    @property
    def measured(self) -> Hidden | None:
        """Which keys are hidden when the model is measured."""
        parts = [part for part in self._parts if part.measured and _overrides(part, "hidden")]

        def hidden(places: TokenPlaces) -> Tensor:
            mask = _any([part.hidden(places) for part in parts])
            grid = *places.query.shape, places.key.shape[1]
            return torch.zeros(grid, dtype=torch.bool, device=places.key.device) if mask is None else mask

        return hidden if parts else None

    def loss(self, network: PreTrainedModel, batch: Batch, step: int) -> Tensor:
        """The loss of a batch, whose weights are `weights`, in the update after `step`."""
        inputs = batch.inputs | self._selection(batch, step)
        predicting = batch.predicting_y if batch.on_y else None
        if not self._reads:
            if predicting:  # only the logits that count
                return batch.loss(logits_at(network, predicting, **inputs))
            return batch.loss(network(**accepted(network, inputs)).logits)
        output, states = self._states(network, batch, logits_at=predicting, **inputs)
        added = [part.auxiliary(states, batch, step) for part in self._parts]
        return sum(
            (loss for loss in added if loss is not None), batch.loss(output.logits[0] if predicting else output.logits)
        )

    def check(self, network: PreTrainedModel, data: SequenceDataModule) -> None:
        """Try every part on one batch. Raises UserError for one that fails, or returns other shapes than it should."""
        if not (self._reads or self.is_selective):
            return
        rows = data.train_rows
        for name, part in self._named.items():
            if lacking := [at for at in part.reads if at not in ROLES or not (rows.roles & ROLES[at]).any()]:
                raise UserError(
                    f"objective.{name} reads the states at {lacking[0]!r}, which the prompts of these tasks lack; "
                    f"choose from {', '.join(ROLES)}"
                )
        batch = Packer(rows, self.weights, network.device, data.padding)(torch.arange(min(data.n_rows, len(rows))))
        grid = tuple(batch.tokens.shape)
        mask, places = (*grid, batch.mask.shape[-1]), batch.token_places
        with evaluation(network), torch.no_grad():
            states = self._states(network, batch, **batch.inputs)[1] if self._reads else {}
            for name, part in self._named.items():
                _try(name, part, "hidden", (places,), [mask])
                _try(name, part, "hidden_in_training", (batch, 0), [mask])
                _try(name, part, "detached", (batch,), [grid, grid])
                _try(name, part, "auxiliary", (states, batch, 0), [()])

    def _states(self, network: PreTrainedModel, batch: Batch, **inputs: Any) -> tuple[Any, dict[Position, Tensor]]:
        """The network's output, and the states at each position that a part reads."""
        places = {position: torch.stack(batch.places(position)) for position in self._reads}
        line, column = torch.cat([*places.values()], dim=1)
        output, layers = forward_with_states(network, (line, column), final_norm=False, **inputs)
        return output, dict(zip(places, layers.split([at.shape[1] for at in places.values()], dim=1), strict=True))

    def compiled(self, mode: str) -> Callable[[PreTrainedModel, Batch, int], Tensor]:
        """`loss` up to rounding, computed with its gradient in one graph, by a mode of torch.compile or the backend
        aot_eager. It is compiled for every shape of a batch.

        Raises UserError for objectives that read hidden states and, in its first update, where torch cannot compile it.
        """
        from torch._dynamo.exc import TorchDynamoException  # a second of imports

        if self._reads:
            raise UserError(
                f"trainer.compile={mode!r} cannot compile an objective that reads hidden states; leave one of them out"
            )
        torch.compiler.reset()  # what earlier runs of this process compiled counts towards a limit
        how = {"backend": mode} if mode == "aot_eager" else {"mode": mode}
        graph = torch.compile(_summed, fullgraph=True, dynamic=False, **how)  # type: ignore[call-overload]

        def loss(network: PreTrainedModel, batch: Batch, step: int) -> Tensor:
            if mode == "reduce-overhead":
                torch.compiler.cudagraph_mark_step_begin()  # it uses the memory of the last update again
            inputs = accepted(network, batch.inputs | self._selection(batch, step))
            # No tensors on the CPU, and no number that differs between batches.
            alike = batch._replace(origin=batch.tokens, roles=batch.tokens, total=1.0, on_y=False)
            try:
                total: Tensor = graph(network, inputs, alike)
            except TorchDynamoException as error:
                reason = " ".join(str(error).strip().partition("\n")[0].split())
                raise UserError(
                    f"trainer.compile={mode!r}: torch cannot compile the loss ({reason}); leave it out"
                ) from error
            return total / batch.total

        return loss

    def _selection(self, batch: Batch, step: int) -> dict[str, Any]:
        """The inputs of selective attention."""
        chosen: dict[str, Any] = {}
        if self.hides:
            chosen["hidden_keys"] = _any([part.hidden_in_training(batch, step) for part in self._parts])
        detached = [pair for part in self._parts if (pair := part.detached(batch))]
        if detached:
            chosen["detached_keys"] = tuple(reduce(torch.logical_or, of) for of in zip(*detached, strict=True))
        return {name: value for name, value in chosen.items() if value is not None}


def _summed(network: PreTrainedModel, inputs: dict[str, Any], batch: Batch) -> Tensor:
    loss: Tensor = batch.loss(network(**inputs).logits)
    return loss


def refuse_longer(data: SequenceDataModule, last: int) -> None:
    """Raise ValueError for more tokens at the end of the instruction than every instruction has."""
    shortest = int(data.train_rows.prefixes[:-1].min())
    if last > shortest:
        raise ValueError(f"last={last}: the shortest instruction has {shortest} tokens; lower it")


def _try(name: str, part: Objective, method: str, arguments: tuple[Any, ...], wanted: list[tuple[int, ...]]) -> None:
    """Call a method that a part overrides. Raises UserError where it fails, or does not return None or tensors of the
    wanted shapes, of bools or a finite number."""
    if not _overrides(part, method):
        return
    try:
        value = getattr(part, method)(*arguments)
        shapes = [tuple(of.shape) for of in (value if isinstance(value, tuple) else (value,)) if of is not None]
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())}, {at.filename}, line {at.lineno}"
        raise UserError(f"objective.{name}: {method} failed ({said}); correct it") from error
    if value is not None and shapes != wanted:
        raise UserError(f"objective.{name}: {method} returns shapes {shapes} instead of {wanted}; correct it")
    if value is not None and method == "auxiliary" and not torch.isfinite(value):
        raise UserError(f"objective.{name}: {method} is {float(value)} in the first batch; correct it")


def _any(masks: list[Tensor | None]) -> Tensor | None:
    given = [mask for mask in masks if mask is not None]
    return reduce(torch.logical_or, given) if given else None


def _overrides(part: Objective, *names: str) -> bool:
    return any(getattr(type(part), name) is not getattr(Objective, name) for name in names)
