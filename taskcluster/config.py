"""What Hydra composed, checked once and read as one typed object. A user's mistake becomes a UserError of one sentence.

in:  the resolved configuration of a job: dictionaries, lists, texts and numbers
out: RunConfig: the run's own keys as attributes, and its parts as Nodes, each of which can be built. Free of torch
"""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
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

LENGTH = "use trainer.max_steps, which alone decides how long a run trains"
OURS = "leave it out, as taskcluster sets it"

INSTEAD = {  # of keys of Lightning's Trainer that would take a run out of our hands
    "max_epochs": LENGTH,
    "min_epochs": LENGTH,
    "min_steps": LENGTH,
    "limit_train_batches": LENGTH,
    "overfit_batches": LENGTH,
    "fast_dev_run": LENGTH,
    "barebones": LENGTH,
    "logger": "use the group logger",
    "callbacks": "use the group callbacks",
    "plugins": "use the group callbacks",
    "enable_checkpointing": "use the group callbacks",
    "default_root_dir": "use hydra.run.dir",
    "model_registry": "use hydra.run.dir",
    "enable_progress_bar": OURS,
    "enable_model_summary": OURS,
    "num_sanity_val_steps": OURS,
    "use_distributed_sampler": OURS,
    "reload_dataloaders_every_n_epochs": OURS,
}

EXAMPLES = {  # of what is chosen from each group that a run needs
    "task": "regex",
    "data": "sequences",
    "model": "gpt2",
    "optimizer": "adamw",
    "scheduler": "cosine",
    "trainer": "cpu",
    "clusterer": "kmeans",
    "measures": "[clustering,clustering_at_x]",
    "callbacks": "[measurement,checkpoint]",
    "logger": "none",
}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Node(_Strict, extra="allow"):
    """A part as it was chosen: `_target_`, the dotted name of what builds it, and the arguments of that.

    Subclasses name arguments that are read before the part is built, or that it would not refuse as clearly.
    """

    target: str = Field(alias="_target_")
    _key: str = PrivateAttr("")
    _given: dict[str, object] = PrivateAttr(default_factory=dict)
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

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, given: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        node = validate(given)
        if isinstance(given, Mapping):
            node._given = {str(key): value for key, value in given.items() if key != "_target_"}
        return node

    @property
    def arguments(self) -> dict[str, object]:
        """As they were given."""
        return deepcopy(self._given)

    def named(self, message: str) -> str:
        """A sentence that may begin with an argument at fault, with the whole key to correct."""
        name, equals, rest = message.partition("=")
        if name not in self._given:
            return f"{self._key}: {message}"
        return self._followed.get(name, f"{self._key}.{name}") + equals + rest

    def build(
        self,
        kind: type[T],
        /,
        *args: object,
        leave_out: str = "",
        offered: Mapping[str, object] = MappingProxyType({}),
        **kwargs: object,
    ) -> T:
        """What the target makes of its own and these arguments, which has to be of the class `kind`.

        leave_out: an argument that is not the target's; offered: arguments that the target gets if it `needs` them.
        Raises UserError for an argument that it does not take, and for what it refuses as ValueError or TypeError.
        """
        key, target = self._key, self._imported()
        values = {name: value for name, value in self.arguments.items() if name != leave_out}
        accepted = _accepted(target)
        for unknown in values.keys() - (values if accepted is None else accepted).keys():
            raise UserError(f"{key}.{unknown} is not a key of {key}" + did_you_mean(unknown, accepted or ()))
        kwargs |= {name: value for name, value in offered.items() if name in getattr(target, "needs", ())}
        try:
            made = target(*args, **values, **kwargs)
        except ValidationError as error:
            raise UserError(sentences(error, key, accepted or (), self._followed)) from None
        except UserError:
            raise
        except (ValueError, TypeError, ImportError) as error:
            raise UserError(self.named(" ".join(str(error).split()))) from error
        if not isinstance(made, kind):
            names = type(made).__name__, kind.__name__
            raise UserError(f"{key}._target_={self.target!r} gives a {names[0]} instead of a {names[1]}; correct it")
        return made

    def _imported(self) -> Callable[..., object]:
        module, _, name = self.target.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ValueError, ImportError, AttributeError) as error:
            said = f"{self._key}._target_={self.target!r} cannot be imported ({error}); correct it"
            raise UserError(said) from error
        if not callable(found):
            raise UserError(f"{self._key}._target_={self.target!r} is neither a class nor a function; correct it")
        return found


def _accepted(target: Callable[..., object]) -> Mapping[str, object] | None:
    """The arguments that a target takes by name, None where it takes any or does not say."""
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # of some builtins
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else parameters


class Optimizer(Node):
    lr: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0


class Trainer(Node):
    """Lightning's. devices: processes on each node; num_nodes: machines."""

    max_steps: NonNegativeInt
    max_time: Duration | None = None
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
        chosen = {group: _chosen(group, composed.get(group)) for group in EXAMPLES}
        if missing := [name for name in ("measurement", "checkpoint") if not chosen["callbacks"].get(name)]:
            raise UserError(f"callbacks has no {' and no '.join(missing)}; write callbacks={EXAMPLES['callbacks']}")
        for group in ("measures", "callbacks"):
            if empty := [name for name, node in chosen[group].items() if node is None]:
                raise UserError(f"{group}.{empty[0]}=None: write ~{group}.{empty[0]} to leave it out")
        seed, seeds = composed.get("seed"), composed.get("seeds")
        if isinstance(seeds, Mapping):  # those that only follow a wrong seed are not wrong themselves
            seeds = {source: 0 if value == seed else value for source, value in seeds.items()}
        try:
            cls.model_validate({**composed, "seeds": seeds})
            config = cls.model_validate(composed)
        except ValidationError as error:
            raise UserError(sentences(error, keys=cls.model_fields)) from None
        config._composed = deepcopy(dict(composed))
        for key in cls.model_fields:
            if isinstance(node := getattr(config, key), Node):
                node._key = key
        for group in ("measures", "callbacks"):
            for name, part in getattr(config, group).items():
                part._key = f"{group}.{name}"
        model, data = config.model._given, config.data._given
        same = {
            key for key, of in FOLLOWED.items() if data.get(key) is not None and repr(data[key]) == repr(model.get(of))
        }
        config.data._followed = {key: f"model.{FOLLOWED[key]}" for key in same}
        return config

    def with_frame(self, frame: Mapping[str, str]) -> Self:
        """The same with the frame of the tokenizer's chat template, recorded when the run begins."""
        composed = self.as_dict()
        composed["data"] = {**self.data._given, "_target_": self.data.target, "chat_frame": dict(frame)}
        return self.of(composed)

    def as_dict(self) -> dict[str, object]:
        """As it was composed: for config.yaml, checkpoints, other processes, and whatever compares runs."""
        return deepcopy(self._composed)


def _chosen(group: str, value: object) -> Mapping[str, object]:
    """What is chosen from a group. Raises UserError for nothing, and for what can be no choice."""
    if not value:
        raise UserError(f"{group} holds nothing; choose one of its options, as in {group}={EXAMPLES[group]}")
    if not isinstance(value, Mapping):
        raise UserError(f"{group}={value!r} has no keys; choose one of its options, as in {group}={EXAMPLES[group]}")
    if EXAMPLES[group].startswith("[") and "_target_" in value:
        raise UserError(
            f"{group}._target_={value['_target_']!r} has no name; indent all keys of that file below a name of its "
            f"own, so that it is {group}.NAME._target_"
        )
    return value
