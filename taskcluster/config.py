"""From a composed configuration to objects. A user's mistake becomes a UserError of one sentence."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Literal

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from taskcluster.validation import Duration, Seed, UserError, did_you_mean, sentences

Config = Mapping[str, Any]
Node = dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Seeds(_Strict):
    tasks: Seed
    model: Seed
    batches: Seed
    probe: Seed
    kmeans: Seed


class _Optimizer(_Strict, extra="allow"):
    lr: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0


LENGTH = "trainer.max_steps, which alone decides how long a run trains"
OURS = "nothing: taskcluster sets it"

INSTEAD = {  # of keys of Lightning's Trainer that would take a run out of our hands
    "max_epochs": LENGTH,
    "min_epochs": LENGTH,
    "min_steps": LENGTH,
    "limit_train_batches": LENGTH,
    "overfit_batches": LENGTH,
    "fast_dev_run": LENGTH,
    "barebones": LENGTH,
    "logger": "the group logger",
    "callbacks": "the group callbacks",
    "plugins": "the group callbacks",
    "enable_checkpointing": "the group callbacks",
    "default_root_dir": "hydra.run.dir",
    "model_registry": "hydra.run.dir",
    "enable_progress_bar": OURS,
    "enable_model_summary": OURS,
    "num_sanity_val_steps": OURS,
    "use_distributed_sampler": OURS,
    "reload_dataloaders_every_n_epochs": OURS,
}


class _Trainer(_Strict, extra="allow"):
    max_steps: PositiveInt
    max_time: Duration | None = None
    precision: str | int = "32-true"
    accumulate_grad_batches: PositiveInt = 1
    gradient_clip_val: PositiveFloat | None = None
    log_every_n_steps: PositiveInt = 10
    accelerator: str = "auto"

    @field_validator("accelerator")
    @classmethod
    def _is_there(cls, accelerator: str) -> str:
        if accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
            raise ValueError("this machine has no GPU that torch can use; choose trainer=cpu")
        return accelerator

    @model_validator(mode="after")
    def _is_ours(self) -> "_Trainer":
        for key, value in (self.model_extra or {}).items():
            if key in INSTEAD:
                raise ValueError(f"{key}={value!r} cannot be set; use {INSTEAD[key]}")
        on_cpu = self.accelerator == "cpu" or (self.accelerator == "auto" and not torch.accelerator.is_available())
        if on_cpu and str(self.precision).startswith("16"):
            raise ValueError(f"precision={self.precision!r} needs a GPU; choose bf16-mixed or 32-true")
        if str(self.precision).startswith("transformer-engine"):
            raise ValueError(f"precision={self.precision!r} is not supported; choose bf16-mixed or 32-true")
        return self


class _Config(_Strict):
    """Keys of train.yaml, and what their own constructors would not say as clearly."""

    name: Annotated[str, Field(pattern=r"^\w[\w.=+-]*$", max_length=100)]
    resume: Literal["auto", "never", "must"]
    ckpt_path: str | None
    seed: Seed
    seeds: _Seeds
    task: Node
    data: Node
    model: Node
    optimizer: _Optimizer
    scheduler: Node
    trainer: _Trainer
    callbacks: dict[str, Node]
    logger: Node


EXAMPLES = {  # of what is chosen from each group that a run needs
    "task": "regex",
    "data": "sequences",
    "model": "gpt2",
    "optimizer": "adamw",
    "scheduler": "cosine",
    "trainer": "cpu",
    "callbacks": "[clustering,checkpoint]",
    "logger": "none",
}


def check(config: Config) -> None:
    """Raise UserError for keys and values that are wrong whatever is built from them."""
    for group, example in EXAMPLES.items():
        if not config.get(group):
            raise UserError(f"{group} holds nothing; choose one of its options, as in {group}={example}")
    if missing := [name for name in ("clustering", "checkpoint") if name not in config["callbacks"]]:
        raise UserError(f"callbacks has no {' and no '.join(missing)}; write callbacks={EXAMPLES['callbacks']}")
    seed, seeds = config.get("seed"), config.get("seeds")
    if isinstance(seeds, dict):  # those that only follow a wrong seed are not wrong themselves
        seeds = {source: 0 if value == seed else value for source, value in seeds.items()}
    try:
        _Config.model_validate({**config, "seeds": seeds})
    except ValidationError as error:
        raise UserError(sentences(error, keys=_Config.model_fields)) from None


def build(config: Config, key: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call the `_target_` of a group, such as "task" or "callbacks.clustering", with its keys and further arguments.

    Raises UserError for a key that the target does not take and for what it refuses as ValueError or TypeError.
    """
    node: Any = config
    for part in key.split("."):
        node = node[part]
    values = {name: value for name, value in node.items() if name != "_target_"}
    module, _, name = str(node.get("_target_")).rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"{key}._target_={node.get('_target_')!r} cannot be imported ({error}); correct it") from error
    accepted = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for unknown in values.keys() - accepted.keys():
            raise UserError(f"{key}.{unknown} is not a key of {key}" + did_you_mean(unknown, accepted))
    try:
        return target(*args, **values, **kwargs)
    except ValidationError as error:
        raise UserError(sentences(error, key, accepted)) from None
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        message = " ".join(str(error).split())
        named = message.split("=")[0] in values  # our own constructors begin with the key at fault
        raise UserError(f"{key}.{message}" if named else f"{key}: {message}") from error
