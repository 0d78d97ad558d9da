"""What a measure is, and what is measured of a run: an Observation in, named numbers out.

in:  a network at a step
out: {"ari/val/layer_3": 0.7, "val/accuracy": 0.9, ...}

Training and the analysis of saved checkpoints call the same `Measurement`, so their numbers agree to the last digit.
"""

import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import ROLES, Position
from taskcluster.measures.observation import Observation, observe
from taskcluster.metrics import ACCURACY, LOSS, Catalogue, Metric, catalogue
from taskcluster.processes.group import count, share_out
from taskcluster.validation import UserError

T = TypeVar("T")

Values = float | Sequence[float]  # one number, or one for each layer from 0 to L

SPLITS = ("train", "val")


class MeasureFailed(RuntimeError):
    """A measure raised an exception, or gave something else than it declares."""


class Measure(ABC):
    """A question about a model, asked at measured steps.

    The constructor takes the keys of the configuration. If it has a parameter `data` or `clusterer`, it is also given
    the run's SequenceDataModule or its Clusterer. It raises ValueError("KEY=VALUE ...") for values that cannot be used.

    Attributes:
        metrics: declarations of the numbers that `measure` returns.
        positions: the positions whose states it reads; none by default.
        splits: the splits of the probe set that it is asked about.
        every_n_steps: it is asked at measured steps that are multiples of this, and at the last step; None for the last
            step only.
    """

    metrics: ClassVar[tuple[Metric, ...]]
    positions: ClassVar[tuple[Position, ...]] = ()
    splits: ClassVar[tuple[str, ...]] = SPLITS
    every_n_steps: int | None = 1

    def __init__(self, every_n_steps: int | None = 1) -> None:
        self.every_n_steps = every_n_steps

    @abstractmethod
    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        """Return for each of `metrics` one number, or a number for each layer (L+1,)."""

    def is_due(self, step: int, last: bool) -> bool:
        return last or (self.every_n_steps is not None and step % self.every_n_steps == 0)


class Control(Measure):
    """A measure of how much another metric varies for reasons other than training, on the validation split.

    After training, every repetition at the last step is written to results.json; a failure at that point does not fail
    the run. If `every_n_steps` is a number, the journal has a summary of the repetitions at those steps.
    """

    splits = ("val",)

    @abstractmethod
    def repeat(self, observation: Observation) -> Mapping[Metric, Sequence[Sequence[float]]]:
        """Return for each of `metrics` the R repetitions, each with a number for each layer, (R, L+1)."""

    @abstractmethod
    def summary(self, repeated: Sequence[float]) -> float:
        """What the journal has of the R repetitions in a layer."""

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        return {
            metric: [self.summary(of_layer) for of_layer in zip(*repetitions, strict=True)]
            for metric, repetitions in self.repeat(observation).items()
        }

    def is_due(self, step: int, last: bool) -> bool:
        return self.every_n_steps is not None and super().is_due(step, last)


class Measurement:
    """All that is measured of a run. measures: by name; splits: those of the probe set that are looked at.

    Raises ValueError for a measure that declares no metrics or reads an unknown position, and where two of them declare
    one metric in different ways.
    """

    def __init__(
        self, data: SequenceDataModule, measures: Mapping[str, Measure], splits: Sequence[str] = SPLITS
    ) -> None:
        for name, measure in measures.items():
            _check(name, measure)
        self.data, self.measures, self.splits = data, measures, splits
        self._controls = {name: measure for name, measure in measures.items() if isinstance(measure, Control)}
        self._last: tuple[Hashable, Observation] | None = None  # of the last step, with its clusters, for the controls
        self.catalogue: Catalogue = catalogue(*(measure.metrics for measure in measures.values()))

    def __call__(
        self,
        network: PreTrainedModel,
        step: int = 0,
        last: bool = True,
        look: Callable[[Observation], None] = lambda seen: None,
    ) -> dict[str, float]:
        """The metrics of a step by their keys in the journal.

        last: whether it is the last one of the run; look: is shown what is seen of each split.

        Raises FloatingPointError where the loss is not finite, and MeasureFailed for a measure that fails.
        """
        due = {name: measure for name, measure in self.measures.items() if measure.is_due(step, last)}
        metrics: dict[str, float] = {}
        for split in self.splits:
            metrics |= self._of_split(network, split, due, last, look)
        return metrics

    def _of_split(
        self,
        network: PreTrainedModel,
        split: str,
        due: Mapping[str, Measure],
        last: bool,
        look: Callable[[Observation], None],
    ) -> dict[str, float]:
        """A function of its own, so that the states of one split are gone before those of the next are there."""
        asked = {name: measure for name, measure in due.items() if split in measure.splits}
        controls = self._controls if last and split in Control.splits else {}
        seen = observe(network, self.data, split, _positions([*asked.values(), *controls.values()]))
        if not math.isfinite(seen.loss):
            raise FloatingPointError(f"{split}/loss is {seen.loss}")
        metrics = {LOSS.stem(split): seen.loss, ACCURACY.stem(split): seen.accuracy}
        for name, measure in asked.items():
            metrics |= _numbers(name, measure, seen, _told(name, measure.measure, seen))
        look(seen)
        if controls:
            self._last = _weights(network), seen
        return metrics

    def controls(self, network: PreTrainedModel) -> dict[str, list[list[float]]]:
        """{key of a control's metric: a list of repetitions for each layer} of all controls, on validation: of what the
        last step saw, if these are still its weights.

        Raises MeasureFailed.
        """
        if not self._controls:
            return {}
        weights, seen = self._last or (None, None)
        self._last = None
        if seen is None or weights != _weights(network):
            seen = observe(network, self.data, "val", _positions(self._controls.values()))
        told = [_told(name, control.repeat, seen) for name, control in self._controls.items()]
        return {
            metric.key: [list(of_layer) for of_layer in zip(*repetitions, strict=True)]
            for of_control in told
            for metric, repetitions in of_control.items()
        }


def by_layer(states: Tensor, score: Callable[[Tensor], dict[str, list[T]]]) -> dict[str, list[T]]:
    """`score` of states (L+1, N, D), whose layers the processes of a run divide."""
    n = min(count(), len(states))
    scored = share_out(score, [states[k::n] for k in range(n)])
    return {name: [scored[k % n][name][k // n] for k in range(len(states))] for name in scored[0]}


def _weights(network: PreTrainedModel) -> Hashable:
    """What is different once any weight has been written to."""
    return tuple((id(weight), weight._version) for weight in network.parameters())


def _check(name: str, measure: Measure) -> None:
    metrics = getattr(measure, "metrics", ())
    if not metrics or not all(isinstance(metric, Metric) for metric in metrics):
        raise ValueError(f"{name} declares no metrics; set `metrics` of its class to a tuple of Metric")
    if unknown := [position for position in measure.positions if position not in ROLES]:
        raise ValueError(f"{name} reads the states at {unknown[0]!r}; choose its positions from {', '.join(ROLES)}")


def _positions(measures: Iterable[Measure]) -> list[Position]:
    """Those that any of them reads, each once."""
    return list(dict.fromkeys(position for measure in measures for position in measure.positions))


def _told(name: str, ask: Callable[[Observation], Mapping[Metric, T]], seen: Observation) -> Mapping[Metric, T]:
    """What a measure answers. Raises MeasureFailed for any exception but a signal's."""
    try:
        return ask(seen)
    except UserError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = f"the measure {name!r} failed ({type(error).__name__}: {' '.join(str(error).split())}"
        raise MeasureFailed(f"{said}, {at.filename}, line {at.lineno})") from error


def _numbers(name: str, measure: Measure, seen: Observation, told: Mapping[Metric, Values]) -> dict[str, float]:
    """The journal's keys and numbers of what a measure answers. Raises MeasureFailed where that is not as declared."""
    if {*told} != {*measure.metrics}:
        given, declared = ([metric.key for metric in metrics] for metrics in (told, measure.metrics))
        raise MeasureFailed(f"the measure {name!r} gives {given}, but declares {declared}")
    numbers: dict[str, float] = {}
    for metric, values in told.items():
        column = np.asarray(values, dtype=float)
        n_layers = next((len(states) for states in seen.states.values()), len(column.flat))
        if column.shape != ((n_layers,) if metric.by_layer else ()):
            wanted = f"{n_layers} numbers, one for each layer" if metric.by_layer else "one number"
            raise MeasureFailed(f"the measure {name!r} gives {metric.key} in the shape {column.shape}, not {wanted}")
        numbers |= {metric.at(seen.split, layer): value for layer, value in enumerate(column.flatten().tolist())}
    return numbers
