"""Linear probes of the task, with the control task of Hewitt and Liang ("Designing and Interpreting Probes with Control
Tasks", 2019): is the task there to be read, or does the probe learn it by heart?

in:  states of training sequences, which the measure observes itself, and those of the probe set's validation
out: for every layer the accuracy of a probe of the task, that of the same probe of the control task, and the
     selectivity, which is their difference

At the separator a probe is trained on instructions of the training split and tested on those of validation. At x it is
tested on values of x that it was not trained on, besides: the values are divided into halves, a probe is trained on
each, and tested on the other. Where a half lacks a task, its states are not asked about.

The control task gives every instruction a random task, so it can only be memorized. As in the paper it is tested on
instructions that the probe was trained on: at x, with the other half of x; at the separator, where an instruction has
one state, on this state, so that the control accuracy is how well random labels are fitted.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from itertools import chain, cycle, groupby, zip_longest
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.data.rows import Position, rows_of
from taskcluster.measures import readings
from taskcluster.measures.linear import Ridge
from taskcluster.measures.measure import Measure, Values, by_layer
from taskcluster.measures.observation import Observation, observe
from taskcluster.metrics import Metric
from taskcluster.tasks.family import Example, TaskFamily
from taskcluster.validation import Seed, validated


class Fold(NamedTuple):
    """One probe and one control: which of the M known states they are fitted to, (M,), their tasks and random tasks;
    which of the N others the probe is tested on, (N,), and their tasks; which of the known ones the control is tested
    on, (M,), and their random tasks."""

    fitted: Tensor
    task: Tensor
    random_task: Tensor
    tested: Tensor
    tested_task: Tensor
    again: Tensor
    again_random_task: Tensor


class Probe(Measure):
    """A linear probe of the task, trained on the training split and tested on validation, at x also on values of x that
    it was not trained on; and its selectivity: how much better it is at the task than at a control task, in which every
    instruction has a random task.

    Attributes:
        at: the positions of the states.
        penalty: of the squared weights, for each state, where the mean square of the states is 1.
        n_instructions: that it is trained on, at most; each with an x of either half.
        seed: of the choice of instructions and x, of the halves of x, and of the control task.
        rows: the sequences that it is trained on.
        random_task: of the control task, by the number of an instruction.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (*readings.of_probe("instruction_end"), *readings.of_probe("input"))
    positions: ClassVar[tuple[Position, ...]] = ("instruction_end", "input")
    splits = ("val",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        at: Annotated[list[Position], Field(min_length=1)],
        penalty: PositiveFloat,
        n_instructions: PositiveInt,
        seed: Seed,
        every_n_steps: PositiveInt | None,
    ) -> None:
        super().__init__(every_n_steps)
        self.positions = tuple(dict.fromkeys(at))  # type: ignore[misc]  # configured, as the metrics are
        self.metrics = tuple(m for place in self.positions for m in readings.of_probe(place))  # type: ignore[misc]
        self._penalty, self._n_tasks = penalty, len(data.family.tasks)
        halves = _halves(data.family, seed)
        self._half = torch.tensor([half for _, half in sorted(halves.items())])  # labels number x in this order
        examples = _examples(data.family, halves, n_instructions, seed)
        prompts = Prompts(data.family, data.tokenizer, data.template).encode(examples)
        self.rows = rows_of(prompts, shared=True, pad=data.tokenizer.pad_token_id or 0)
        self._data = copy(data)
        self._data.probe = {"train": self.rows}
        generator = torch.Generator().manual_seed(seed)
        n_numbers = int(self.rows.numbers[:, 2].max()) + 1
        self.random_task = torch.randint(self._n_tasks, (n_numbers,), generator=generator)

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        known = observe(observation.network, self._data, "train", self.positions)
        found: dict[Metric, Values] = {}
        for position in self.positions:
            states = torch.cat([known.states[position], observation.states[position]], 1)
            score = partial(self._scores, self._folds(position, observation.labels[position]))
            accuracy, control = zip(*by_layer(states, score)[""], strict=True)
            selectivity = [right - by_heart for right, by_heart in zip(accuracy, control, strict=True)]
            found |= dict(zip(readings.of_probe(position), (accuracy, control, selectivity), strict=True))
        return found

    def _folds(self, position: Position, others: Mapping[str, Tensor]) -> list[Fold]:
        """others: the labels of the states that probes are tested on."""
        numbers, tested_task = self.rows.numbers.long(), others["task"].long()
        if position == "instruction_end":
            numbers = numbers[self.rows.first_examples]
            every, every_tested = (torch.ones(len(of), dtype=torch.bool) for of in (numbers, tested_task))
            divided = [(every, every_tested, every)]
        else:
            half, tested_half = self._half[numbers[:, 3]], self._half[others["x"].long()]
            divided = [(half == k, tested_half != k, half != k) for k in (0, 1) if bool((half == k).any())]
        task, instruction, random_task = numbers[:, 0], numbers[:, 2], self.random_task[numbers[:, 2]]
        folds = []
        for fitted, asked, repeated in divided:
            tested = asked & torch.isin(tested_task, task[fitted])
            again = repeated & torch.isin(instruction, instruction[fitted])
            labels = (task[fitted], random_task[fitted]), tested_task[tested], random_task[again]
            folds.append(Fold(fitted, *labels[0], tested, labels[1], again, labels[2]))
        return folds

    def _scores(self, folds: Sequence[Fold], states: Tensor) -> dict[str, list[tuple[float, float]]]:
        """Accuracy and control accuracy by layer. states (L+1, M+N, D): the known ones, then the others."""
        return {"": [self._of_layer(folds, layer.cpu().double()) for layer in states]}

    def _of_layer(self, folds: Sequence[Fold], states: Tensor) -> tuple[float, float]:
        if not bool(states.isfinite().all()):
            return math.nan, math.nan
        right, by_heart = [], []
        for fold in folds:
            known, others = states[: len(fold.fitted)], states[len(fold.fitted) :]
            ridge = Ridge(known[fold.fitted], self._penalty)
            probe, control = (ridge.fit(labels, self._n_tasks) for labels in (fold.task, fold.random_task))
            right.append(probe.right(others[fold.tested], fold.tested_task))
            by_heart.append(control.right(known[fold.again], fold.again_random_task))
        return float(torch.cat(right).double().mean()), float(torch.cat(by_heart).double().mean())


def _halves(family: TaskFamily, seed: int) -> dict[str, int]:
    """The half, 0 or 1, of every x of the family."""
    inputs = sorted({x for task in family.tasks for x in task.mapping})
    return dict(zip(random.Random(f"{seed}/probe/halves").sample(inputs, len(inputs)), cycle((0, 1)), strict=False))


def _examples(family: TaskFamily, halves: Mapping[str, int], n_instructions: int, seed: int) -> list[Example]:
    """Of up to `n_instructions` of the training split, evenly from tasks, each with an x of either half that it has."""
    rng, by_task = random.Random(f"{seed}/probe/examples"), defaultdict[int, list[list[Example]]](list)
    for (task, _), of_one in groupby(family.split()["train"], lambda example: example[:2]):
        by_task[task].append(list(of_one))
    shuffled = [rng.sample(groups, len(groups)) for groups in by_task.values()]
    chosen = [group for group in chain.from_iterable(zip_longest(*shuffled)) if group][:n_instructions]
    examples = []
    for group in chosen:
        for half in (0, 1):
            if of_half := [example for example in group if halves[example.x] == half]:
                examples.append(rng.choice(of_half))
    return examples
