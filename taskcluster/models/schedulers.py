"""Learning-rate schedules over a run of `max_steps` updates, after a linear warm-up over a fraction of them."""

from typing import Annotated

from pydantic import Field, NonNegativeInt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from taskcluster.validation import validated

WarmUp = Annotated[float, Field(ge=0, lt=1)]


@validated
def cosine(optimizer: Optimizer, warmup: WarmUp, max_steps: NonNegativeInt) -> LambdaLR:
    """Half a cosine from the optimizer's rate down to zero (cosine annealing; Loshchilov and Hutter, 2017)."""
    return get_cosine_schedule_with_warmup(optimizer, round(warmup * max_steps), max_steps)


@validated
def constant(optimizer: Optimizer, warmup: WarmUp, max_steps: NonNegativeInt) -> LambdaLR:
    """The optimizer's rate throughout."""
    return get_constant_schedule_with_warmup(optimizer, round(warmup * max_steps))
