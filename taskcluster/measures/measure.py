"""The protocol of measures, and the measurement of a run: an Observation in, named numbers out.

in:  a network at a step
out: {"ari/val/layer_3": 0.7, "val/accuracy": 0.9, ...}

Training and the analysis of saved checkpoints call the same `Measurement`, so their numbers agree to the last digit.
"""

import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np
from pydantic import PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import ROLES, Position
from taskcluster.measures.observation import Executor, Observation, in_turn, observe
from taskcluster.metrics import ACCURACY, LOSS, Catalogue, Metric, catalogue
from taskcluster.validation import UserError, validated
from taskcluster.work import doing

T = TypeVar("T")

# One number, or one for each layer from 0 to L, for each example, for each pair of layers: what the metric declares.
Values = float | Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor

Keep = Callable[[str, Callable[[], Mapping[str, float]]], Mapping[str, float]]  # the numbers of a measure, by its name

SPLITS = ("train", "val")


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
def configured(cls: type[T]) -> type[T]:
    """Make the annotated attributes of a class its configuration keys: keyword arguments, checked by type."""
    made = dataclass(kw_only=True, eq=False)(cls)
    made.__init__ = validated(made.__init__)  # type: ignore[method-assign]
    return made


def not_kept(name: str, compute: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
    return compute()


class MeasureFailed(RuntimeError):
    """A measure raised an exception, or returned something other than it declares."""


@configured
class Measure(ABC):
    """A question about a model, asked at measured steps.

    The constructor takes the keys of the configuration, and raises ValueError("KEY=VALUE ...") for values that cannot
    be used.

    Attributes:
        metrics: declarations of the numbers that `measure` returns.
        positions: the positions whose states it reads; none by default.
        splits: the splits of the probe set that it measures.
        needs: which of "data", "clusterer" and "n_layer" the constructor is also given: the run's SequenceDataModule,
            its Clusterer, and the number of the model's blocks.
        reads_attention: whether it asks the network for `weights_kept` (taskcluster.models.attention).
        every_n_steps: it runs at measured steps that are multiples of this, and at the last step; None for the last
            step only.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    reads_attention: ClassVar[bool] = False
    every_n_steps: PositiveInt | None = 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ()

    @property
    def positions(self) -> tuple[Position, ...]:
        return ()

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS

    @abstractmethod
    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        """Return for each of `metrics` one number, or a number for each layer (L+1,); for a metric by two layers a
        matrix (L+1, L+1); for one by example a number for each of E examples, (E,), or by layer, (L+1, E)."""

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
        """The number in the journal for the R repetitions of a layer."""

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        return {
            metric: [self.summary(layer) for layer in zip(*repetitions, strict=True)]
            for metric, repetitions in self.repeat(observation).items()
        }

    def is_due(self, step: int, last: bool) -> bool:
        return self.every_n_steps is not None and super().is_due(step, last)


class Measurement:
    """All measures of a run.

    Attributes:
        measures: by name.
        splits: those of the probe set that are measured.
        executor: computes work for several items; several processes can divide them.
        n_workers: how many items the executor computes at a time.

    Raises ValueError for a measure that declares no metrics or reads an unknown position, and where two of them declare
    one metric in different ways.
    """

    def __init__(
        self, data: SequenceDataModule, measures: Mapping[str, Measure], splits: Sequence[str] = SPLITS
    ) -> None:
        for name, measure in measures.items():
            _check(name, measure)
        self.data, self.measures, self.splits = data, measures, splits
        self.executor: Executor = in_turn
        self.n_workers: Callable[[], int] = lambda: 1
        self.catalogue: Catalogue = catalogue(*(measure.metrics for measure in measures.values()))

    def __call__(
        self,
        network: PreTrainedModel,
        step: int = 0,
        last: bool = True,
        look: Callable[[Observation], None] = lambda observation: None,
        keep: Keep = not_kept,
    ) -> dict[str, Any]:
        """The metrics of a step by their keys in the journal; if a measure has numbers for every example, also
        "examples", {split: {column: (E,)}}.

        last: whether it is the last one of the run; look: receives the observation of each split; keep: gives the
        numbers of a measure, which it may have from an earlier try.

        Raises FloatingPointError where the loss is not finite, and MeasureFailed for a measure that fails.
        """
        due = {name: measure for name, measure in self.measures.items() if measure.is_due(step, last)}
        metrics: dict[str, Any] = {}
        examples: dict[str, dict[str, Any]] = {}
        for split in self.splits:
            metrics |= self._split_metrics(network, split, due, look, keep)
            if numbers := metrics.pop("examples", None):
                examples[split] = numbers
        return metrics | ({"examples": examples} if examples else {})

    def _split_metrics(
        self,
        network: PreTrainedModel,
        split: str,
        due: Mapping[str, Measure],
        look: Callable[[Observation], None],
        keep: Keep,
    ) -> dict[str, Any]:
        """A separate function, so that the states of one split are freed before those of the next are computed."""
        asked = {name: measure for name, measure in due.items() if split in measure.splits}
        seen = self._observe(network, split, asked.values())
        if not math.isfinite(seen.loss):
            raise FloatingPointError(f"{split}/loss is {seen.loss}")
        metrics: dict[str, Any] = {LOSS.stem(split): seen.loss, ACCURACY.stem(split): seen.accuracy}
        examples: dict[str, np.ndarray] = {}
        for name, measure in asked.items():
            if any(metric.by_example for metric in measure.metrics):  # which are written at the end of the step
                arrays = _arrays(name, measure, seen)
                metrics |= _numbers(arrays, split)
                for metric, array in arrays.items():
                    examples |= _of_examples(metric, array) if metric.by_example else {}
            else:
                metrics |= keep(f"{split}/{name}", partial(_measured, name, measure, seen))
        look(seen)
        return metrics | ({"examples": _described(seen) | examples} if examples else {})

    def controls(self, network: PreTrainedModel) -> dict[str, list[list[float]]]:
        """{key of a control's metric: a list of repetitions for each layer} of all controls, on validation.

        Raises MeasureFailed.
        """
        controls = {name: measure for name, measure in self.measures.items() if isinstance(measure, Control)}
        if not controls:
            return {}
        seen = self._observe(network, "val", controls.values())
        answers = [_answers(name, control.repeat, seen) for name, control in controls.items()]
        repeated = chain.from_iterable(answer.items() for answer in answers)
        return {metric.key: [list(layer) for layer in zip(*runs, strict=True)] for metric, runs in repeated}

    def _observe(self, network: PreTrainedModel, split: str, measures: Iterable[Measure]) -> Observation:
        positions = list(dict.fromkeys(position for measure in measures for position in measure.positions))
        with doing(f"reading states, {split}"):
            return observe(network, self.data, split, positions, executor=self.executor, n_workers=self.n_workers())


def columns(metrics: Sequence[Metric], layers: Iterable[Sequence[float]]) -> dict[Metric, Values]:
    """The numbers of metrics, given those of each layer in the order of `metrics`."""
    return dict(zip(metrics, map(list, zip(*layers, strict=True)), strict=True))


def _check(name: str, measure: Measure) -> None:
    if not measure.metrics or not all(isinstance(metric, Metric) for metric in measure.metrics):
        raise ValueError(f"{name} declares no metrics; set `metrics` of its class to a tuple of Metric")
    if unknown := [position for position in measure.positions if position not in ROLES]:
        raise ValueError(f"{name} reads the states at {unknown[0]!r}; choose its positions from {', '.join(ROLES)}")


def _answers(name: str, ask: Callable[[Observation], Mapping[Metric, T]], seen: Observation) -> Mapping[Metric, T]:
    """Run a measure. Raises MeasureFailed for any exception except a user's mistake or a signal."""
    try:
        with doing(f"measuring {name}"):
            return ask(seen)
    except UserError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())}, {at.filename}, line {at.lineno}"
        raise MeasureFailed(f"the measure {name!r} failed ({said})") from error


def _arrays(name: str, measure: Measure, seen: Observation) -> dict[Metric, np.ndarray]:
    """Return a measure's numbers as arrays. Raises MeasureFailed for shapes other than declared."""
    answers = _answers(name, measure.measure, seen)
    arrays = {metric: np.asarray(values, dtype=float) for metric, values in answers.items()}
    n_layers = next(
        map(len, seen.states.values()),
        max((len(a) for m, a in arrays.items() if a.ndim and not m.by_example), default=0),
    )
    given = {metric.key: array.shape for metric, array in arrays.items()}
    sizes = {"layer": n_layers, "other_layer": n_layers, "example": len(seen.correct)}
    declared = {metric.key: tuple(sizes[axis] for axis in metric.axes) for metric in measure.metrics}
    if given != declared:
        raise MeasureFailed(f"the measure {name!r} returns numbers of shapes {given}, but declares {declared}")
    return arrays


def _measured(name: str, measure: Measure, seen: Observation) -> dict[str, Any]:
    return _numbers(_arrays(name, measure, seen), seen.split)


def _numbers(arrays: Mapping[Metric, np.ndarray], split: str) -> dict[str, Any]:
    """The journal's keys and numbers of metrics: for those by example, the mean of the numbers that are defined."""
    numbers: dict[str, Any] = {}
    for metric, array in arrays.items():
        if metric.by_two_layers:
            numbers[metric.stem(split)] = array.tolist()
            continue
        if metric.by_example:
            array = np.ma.filled(np.ma.masked_invalid(array).mean(-1), math.nan)
        numbers |= {metric.at(split, layer): value for layer, value in enumerate(np.ravel(array).tolist())}
    return numbers


def _of_examples(metric: Metric, array: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a metric by example."""
    return {f"{metric.key}/layer_{k}": row for k, row in enumerate(array)} if metric.by_layer else {metric.key: array}


def _described(seen: Observation) -> dict[str, Any]:
    """Return the columns that describe examples: prompt, whether the answer is right, and labels, if each example has
    its own."""
    each = next((labels for labels in seen.labels.values() if "x" in labels), {})
    labels = {name: values.numpy() for name, values in each.items()}
    return {"prompt": seen.texts, "correct": seen.correct.numpy(), **labels}
