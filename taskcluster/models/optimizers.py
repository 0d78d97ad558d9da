"""Muon combined with AdamW, which torch does not offer as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch.optim import AdamW, Optimizer

from taskcluster.validation import validated

Momentum = Annotated[float, Field(ge=0, lt=1)]


class MuonWithAdamW(Optimizer):
    """Muon (Jordan et al., 2024) for the first parameter group, the matrices, and AdamW for all others.

    Updates of both have the size of AdamW's (Liu et al., 2025), so one learning rate serves both.

    Raises ValueError where torch has no Muon.
    """

    @validated
    def __init__(
        self,
        params: Iterable[Any],
        lr: PositiveFloat,
        momentum: Momentum,
        betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)],
        weight_decay: NonNegativeFloat,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"Muon needs torch 2.9 or later, not {torch.__version__}; choose optimizer=adamw")
        matrices, *others = params
        super().__init__([matrices, *others], {})
        self._parts = (
            torch.optim.Muon([matrices], lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw"),
            AdamW(others, lr, (betas[0], betas[1]), weight_decay=weight_decay, fused=True),
        )
        self._gather()

    def _gather(self) -> None:
        """The groups that a scheduler changes are those of the parts."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. `closure`, if any, computes the gradients and returns the loss."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._gather()
