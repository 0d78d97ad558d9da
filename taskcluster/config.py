"""Check the configuration that Hydra composed, and read it into one typed object. A user's mistake raises a UserError
of one sentence.

in:  the resolved configuration of a job: dictionaries, lists, texts and numbers
out: RunConfig: the run's own keys as attributes, and its parts as Nodes, each of which can be built. Free of torch
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from taskcluster.validation import Duration, Seed, UserError, did_you_mean, sentences

T = TypeVar("T")

FOLLOWED = {"tokenizer": "path", "tokenizer_revision": "revision", "tokenizer_gguf_file": "gguf_file"}  # in data=text

INSTEAD = {  # keys of Lightning's Trainer that taskcluster sets itself
    **dict.fromkeys(
        (
            "max_epochs", "min_epochs", "min_steps", "limit_train_batches", "overfit_batches", "fast_dev_run",
            "barebones",
        ),
        "use trainer.max_steps, which alone decides how long a run trains",
    ),
    **dict.fromkeys(("callbacks", "plugins", "enable_checkpointing"), "use the group callbacks"),
    **dict.fromkeys(("default_root_dir", "model_registry"), "use hydra.run.dir"),
    **dict.fromkeys(
        (
            "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "use_distributed_sampler",
            "reload_dataloaders_every_n_epochs",
        ),
        "leave it out; taskcluster sets it",
    ),
    "logger": "use the group logger",
}  # fmt: skip

EXAMPLES = {  # an option of each group that a run needs
    "task": "regex",
    "data": "sequences",
    "model": "gpt2",
    "objective": "[next_token]",
    "optimizer": "adamw",
    "scheduler": "cosine",
    "trainer": "cpu",
    "clusterer": "kmeans",
    "measures": "[clustering,clustering_at_x]",
    "callbacks": "[measurement,checkpoint]",
    "logger": "none",
}

# Groups of several parts, and those needed.
PARTS = {"objective": (), "measures": (), "callbacks": ("measurement", "checkpoint")}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Node(_Strict, extra="allow"):
    """One part of the configuration: `_target_`, the dotted name of what builds it, and its arguments.

    Subclasses name arguments that are read before the part is built, or that it would not refuse as clearly.
    """

    target: str = Field(alias="_target_")
    _key: str = PrivateAttr("")
    _followed: dict[str, str] = PrivateAttr(default_factory=dict)  # the keys whose values arguments follow

    @classmethod
    def of(cls, given: object, key: str) -> Self:
        """The part under a dotted key of the configuration. Raises UserError for what cannot be one."""
        try:
            node = cls.model_validate(given)
        except ValidationError as error:
            raise UserError(sentences(error, key)) from None
        node._key = key
        return node

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments that were given."""
        return self.model_dump(exclude={"target"}, exclude_unset=True)

    def named(self, message: str) -> str:
        """Prefix a sentence that begins with an argument by the whole key to correct."""
        name, equals, rest = message.partition("=")
        if name not in self.model_fields_set:
            return f"{self._key}: {message}"
        return self._followed.get(name, f"{self._key}.{name}") + equals + rest

    def build(
        self,
        kind: type[T],
        /,
        *args: object,
        leave_out: Collection[str] = (),
        offered: Mapping[str, object] = MappingProxyType({}),
        **kwargs: object,
    ) -> T:
        """Call the target with its arguments and these; the result must be of the class `kind`.

        leave_out: arguments that are not the target's; offered: arguments that the target gets if it `needs` them.
        Raises UserError for an argument that it does not take, and for what it refuses as ValueError or TypeError.
        """
        key, (target, parameters) = self._key, self._imported()
        values = {name: value for name, value in self.arguments.items() if name not in leave_out}
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for unknown in () if takes_all else values.keys() - parameters.keys():
            raise UserError(f"{key}.{unknown} is not a key of {key}" + did_you_mean(unknown, parameters))
        kwargs |= {name: value for name, value in offered.items() if name in getattr(target, "needs", ())}
        try:
            made = target(*args, **values, **kwargs)
        except ValidationError as error:
            raise UserError(sentences(error, key, parameters, self._followed)) from None
        except UserError:
            raise
        except (ValueError, TypeError, ImportError) as error:
            raise UserError(self.named(" ".join(str(error).split()))) from error
        if not isinstance(made, kind):
            raise UserError(
                f"{key}._target_={self.target!r} gives a {type(made).__name__} instead of a {kind.__name__}; correct it"
            )
        return made

    def _imported(self) -> tuple[Callable[..., object], Mapping[str, inspect.Parameter]]:
        module, _, name = self.target.rpartition(".")
        try:
            target = getattr(import_module(module), name)
            return target, inspect.signature(target).parameters
        except (ValueError, TypeError, ImportError, AttributeError) as error:
            raise UserError(f"{self._key}._target_={self.target!r} cannot be imported ({error}); correct it") from error


class Optimizer(Node):
    lr: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0


class Trainer(Node):
    """Lightning's, but for EXTRA. devices: processes on each node; num_nodes: machines."""

    EXTRA: ClassVar = ("max_time", "compile")

    max_steps: NonNegativeInt
    max_time: Duration | None = None
    compile: Literal["default", "reduce-overhead", "aot_eager"] | None = None
    precision: str | int = "32-true"
    accumulate_grad_batches: PositiveInt = 1
    gradient_clip_val: PositiveFloat | None = None
    log_every_n_steps: PositiveInt = 10
    accelerator: str = "auto"
    strategy: str = "auto"
    devices: object = 1
    num_nodes: object = 1

    @model_validator(mode="after")
    def _is_ours(self) -> Self:
        for key, value in (self.model_extra or {}).items():
            if key in INSTEAD:
                raise ValueError(f"{key}={value!r} cannot be set; {INSTEAD[key]}")
        if str(self.precision).startswith("transformer-engine"):
            raise ValueError(f"precision={self.precision!r} is not supported; choose bf16-mixed or 32-true")
        if self.compile == "reduce-overhead" and self.accumulate_grad_batches > 1:
            raise ValueError(
                f"compile='reduce-overhead' cannot add up gradients, and accumulate_grad_batches="
                f"{self.accumulate_grad_batches}; choose default, or 1"
            )
        return self


class Seeds(_Strict):
    """One for each source of randomness."""

    tasks: Seed
    model: Seed
    batches: Seed
    probe: Seed
    kmeans: Seed


class RunConfig(_Strict):
    """One run. Each attribute is explained in conf/train.yaml, or in the file of the option that was chosen."""

    name: Annotated[str, Field(pattern=r"^\w[\w.=+-]*$", max_length=100)]
    resume: Literal["auto", "never", "must"]
    ckpt_path: str | None
    seed: Seed
    seeds: Seeds
    task: Node
    data: Node
    model: Node
    objective: dict[str, Node]
    optimizer: Optimizer
    scheduler: Node
    trainer: Trainer
    clusterer: Node
    measures: dict[str, Node]
    callbacks: dict[str, Node]
    logger: Node
    _composed: dict[str, object] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, composed: Mapping[str, object]) -> Self:
        """A run's resolved configuration. Raises UserError for keys and values that no run can have."""
        for group in EXAMPLES:
            _refuse_no_choice(group, composed.get(group))
        try:
            config = cls.model_validate(composed)
        except ValidationError as error:
            raise UserError(sentences(error, keys=cls.model_fields)) from None
        config._composed = deepcopy(dict(composed))
        named = {group: getattr(config, group) for group in EXAMPLES if group not in PARTS}
        named |= {f"{group}.{name}": node for group in PARTS for name, node in getattr(config, group).items()}
        for key, node in named.items():
            node._key = key
        model, data = config.model.arguments, config.data.arguments
        for key, source in FOLLOWED.items():
            if data.get(key) is not None and repr(data[key]) == repr(model.get(source)):
                config.data._followed[key] = f"model.{source}"
        return config

    def with_frame(self, frame: Mapping[str, str]) -> Self:
        """The same with the frame of the tokenizer's chat template, recorded when the run begins."""
        composed = self.as_dict()
        composed["data"] = {"_target_": self.data.target, **self.data.arguments, "chat_frame": dict(frame)}
        return self.of(composed)

    def as_dict(self) -> dict[str, object]:
        """The composed dictionary, for config.yaml, checkpoints, other processes and comparisons of runs."""
        return deepcopy(self._composed)


def _refuse_no_choice(group: str, value: object) -> None:
    """Raise UserError where nothing that a run can have is chosen from a group."""
    if not value or not isinstance(value, Mapping):
        raise UserError(f"{group} holds nothing; choose one of its options, as in {group}={EXAMPLES[group]}")
    if group not in PARTS:
        return
    if "_target_" in value:
        raise UserError(
            f"{group}._target_={value['_target_']!r} has no name; indent all keys of that file under a name, so that "
            f"the key becomes {group}.NAME._target_"
        )
    if missing := [name for name in PARTS[group] if not value.get(name)]:
        raise UserError(f"{group} has no {' and no '.join(missing)}; write {group}={EXAMPLES[group]}")
    if empty := [name for name, part in value.items() if part is None]:
        raise UserError(f"{group}.{empty[0]}=None: write ~{group}.{empty[0]} to leave it out")
