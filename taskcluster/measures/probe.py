"""Linear probes of the task, with the control task of Hewitt and Liang ("Designing and Interpreting Probes with Control
Tasks", 2019): do the states encode the task, or does the probe memorize it?

in:  states of training sequences, which the measure observes itself, and those of the probe set's validation
out: for every layer the accuracy of a probe of the task, that of the same probe of the control task, and the
     selectivity, which is their difference

At the separator a probe is trained on instructions of the training split and tested on those of validation. At x it is
also tested on values of x that it was not trained on: the values are divided into halves, a probe is trained on each,
and tested on the other. Where a half lacks a task, its states are left out.

The control task gives every instruction a random task, so it can only be memorized. As in the paper it is tested on
instructions that the probe was trained on: at x, with the other half of x; at the separator, where an instruction has
one state, on this state, so that the control accuracy is how well random labels are fitted.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import cycle, groupby
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.data.rows import Position, rows_of
from taskcluster.measures.measure import Measure, Values, columns, configured
from taskcluster.measures.observation import Observation, observe
from taskcluster.measures.statistics.linear import Ridge
from taskcluster.metrics import PLACES, Metric
from taskcluster.tasks.family import Example, TaskFamily, in_rounds
from taskcluster.validation import Seed

# One probe and one control: which of the M known states they are fitted to, (M,); which of the N others the probe is
# tested on, (N,); which of the known ones the control is tested on, (M,).
Fold = tuple[Tensor, Tensor, Tensor]


@configured
class Probe(Measure):
    """A linear probe of the task, trained on the training split and tested on validation, at x also on held-out values
    of x; and its selectivity: how much better it is at the task than at a control task, in which every instruction has
    a random task.

    Attributes:
        at: the positions of the states.
        penalty: of the squared weights, for each state, where the mean square of the states is 1.
        n_instructions: that it is trained on, at most; each with an x of either half.
        seed: of the choice of instructions and x, of the halves of x, and of the control task.
        rows: the sequences that it is trained on.
        random_task: of the control task, by the number of an instruction.
    """

    needs = ("data",)
    splits = ("val",)
    data: SequenceDataModule
    at: Annotated[list[Position], Field(min_length=1)]
    penalty: PositiveFloat
    n_instructions: PositiveInt
    seed: Seed

    def __post_init__(self) -> None:
        family = self.data.family
        inputs = sorted({x for task in family.tasks for x in task.mapping})
        mixed = random.Random(f"{self.seed}/probe/halves").sample(inputs, len(inputs))
        halves = dict(zip(mixed, cycle((0, 1)), strict=False))
        self._half = torch.tensor([half for _, half in sorted(halves.items())])  # labels number x in this order
        prompts = Prompts(family, self.data.tokenizer, self.data.template).encode(
            _examples(family, halves, self.n_instructions, self.seed)
        )
        self.rows = rows_of(prompts, shared=True, pad=self.data.tokenizer.pad_token_id or 0)
        self._known = copy(self.data)
        self._known.probe = {"train": self.rows}
        generator = torch.Generator().manual_seed(self.seed)
        self.random_task = torch.randint(
            len(family.tasks), (int(self.rows.numbers[:, 2].max()) + 1,), generator=generator
        )

    @property
    def positions(self) -> tuple[Position, ...]:
        return tuple(dict.fromkeys(self.at))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for position in self.positions for metric in probe_metrics(position))

    def measure(self, observation: Observation) -> Mapping[Metric, Values]:
        network, executor, n_workers = observation.network, observation.executor, observation.n_workers
        known = observe(network, self._known, "train", self.positions, executor=executor, n_workers=n_workers)
        numbers: dict[Metric, Values] = {}
        for position in self.positions:
            ours, others = self.rows.labels(position), observation.labels[position]
            tasks = ours["task"].long(), self.random_task[ours["instruction"].long()], others["task"].long()
            states = torch.cat([known.states[position], observation.states[position]], 1)
            scores = observation.by_layer(states, partial(self._scores, self._folds(ours, others), *tasks))
            numbers |= columns(probe_metrics(position), scores)
        return numbers

    def _folds(self, known: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> list[Fold]:
        """known, others: the labels of the states that probes are trained on, and of those that they are tested on."""
        task, instruction = known["task"], known["instruction"]
        if "x" in known:
            half, tested_half = self._half[known["x"].long()], self._half[others["x"].long()]
            folds = [(half == k, tested_half != k, half != k) for k in (0, 1) if (half == k).any()]
        else:
            folds = [(task >= 0, others["task"] >= 0, task >= 0)]  # all states
        return [
            (
                fitted,
                tested & torch.isin(others["task"], task[fitted]),
                repeated & torch.isin(instruction, instruction[fitted]),
            )
            for fitted, tested, repeated in folds
        ]

    def _scores(
        self, folds: Sequence[Fold], task: Tensor, random_task: Tensor, tested_task: Tensor, states: Tensor
    ) -> list[tuple[float, float, float]]:
        """Accuracy, control accuracy and selectivity of each layer. states (L+1, M+N, D): the known ones, then the
        others."""
        scores, n_tasks = [], len(self.data.family.tasks)
        for layer in states:
            known, others = layer.cpu().double().tensor_split([len(task)])
            correct, memorized = [], []
            for fitted, tested, repeated in folds if layer.isfinite().all() else ():
                ridge = Ridge(known[fitted], self.penalty)
                probe, control = (ridge.fit(labels[fitted], n_tasks) for labels in (task, random_task))
                correct += (probe(others[tested]) == tested_task[tested]).tolist()
                memorized += (control(known[repeated]) == random_task[repeated]).tolist()
            accuracy, by_heart = (sum(right) / len(right) if right else math.nan for right in (correct, memorized))
            scores.append((accuracy, by_heart, accuracy - by_heart))
        return scores


def probe_metrics(position: Position) -> tuple[Metric, Metric, Metric]:
    """Accuracy of a linear probe of the task, accuracy of the same probe of its control task, and the difference."""
    suffix, where = "" if position == "instruction_end" else f"_at_{position}", PLACES[position]
    accuracy = Metric(
        f"probe{suffix}",
        "probe accuracy",
        where,
        label="Accuracy of a linear probe of the task",
        axis="accuracy of a linear probe",
        position=position,
        low=0,
        high=1,
    )
    return (
        accuracy,
        replace(accuracy, key=f"probe_control{suffix}", where=f"{where}, control task"),
        Metric(
            f"selectivity{suffix}",
            "selectivity",
            where,
            label="Selectivity of a linear probe",
            position=position,
            low=0,
            high=1,
            least=-1,
        ),
    )


def _examples(family: TaskFamily, halves: Mapping[str, int], n_instructions: int, seed: int) -> list[Example]:
    """Of up to `n_instructions` of the training split, evenly from tasks, each with an x of either half that it has."""
    rng, by_task = random.Random(f"{seed}/probe/examples"), defaultdict[int, list[list[Example]]](list)
    for (task, _), examples in groupby(family.split()["train"], lambda example: example[:2]):
        by_task[task].append(list(examples))
    shuffled = [rng.sample(groups, len(groups)) for groups in by_task.values()]
    return [
        rng.choice(of_half)
        for group in in_rounds(shuffled)[:n_instructions]
        for half in (0, 1)
        if (of_half := [example for example in group if halves[example.x] == half])
    ]
