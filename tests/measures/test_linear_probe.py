"""Linear probes and their control task on states whose content is known; the classifier is scikit-learn's."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from conftest import SMALL
from seen import seen
from sklearn.linear_model import RidgeClassifier
from test_config import OWN
from torch import Tensor
from torch.nn.functional import one_hot

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.measures import probe as module
from taskcluster.measures.observation import Observation
from taskcluster.measures.probe import Probe
from taskcluster.measures.statistics.linear import Ridge
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import measuring, prepare

POSITIONS: tuple[Position, ...] = ("instruction_end", "input")
N_TASKS = 6

Planting = Callable[[dict[str, Tensor]], Tensor]  # labels (N,) of states -> states (N, D)


@pytest.fixture(scope="module")
def data() -> SequenceDataModule:
    return prepare(RunConfig.of(composed(*SMALL)))[0]


def labels_of(data: SequenceDataModule, split: str, position: Position) -> dict[str, Tensor]:
    rows = data.probe[split]
    numbers = rows.numbers.long() if position == "input" else rows.numbers[rows.first_examples].long()
    return dict(zip(("task", "description", "instruction", "x", "y"), numbers.T, strict=True))


def observed(data: SequenceDataModule, split: str, planted: Planting, positions: Sequence[Position]) -> Observation:
    """As if a network's last of two layers were planted, and the first were constant."""
    labels = {position: labels_of(data, split, position) for position in positions}
    states = {at: torch.stack([torch.ones_like(made), made]) for at, of in labels.items() if len(made := planted(of))}
    return seen(states, labels)


def probe(data: SequenceDataModule, n_instructions: int = 1000, penalty: float = 1.0) -> Probe:
    return Probe(data=data, at=[*POSITIONS], penalty=penalty, n_instructions=n_instructions, seed=0)


def measured(data: SequenceDataModule, planted: Planting, penalty: float = 1e-6) -> dict[str, list[float]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "observe", lambda network, of, split, positions, **_: observed(of, split, planted, positions)
        )
        numbers = probe(data, penalty=penalty).measure(observed(data, "val", planted, POSITIONS))
    return {metric.key: list(values) for metric, values in numbers.items() if not isinstance(values, float)}


def of_task(labels: dict[str, Tensor]) -> Tensor:
    return one_hot(labels["task"], N_TASKS).float()


def of_instruction(labels: dict[str, Tensor]) -> Tensor:
    return one_hot(labels["instruction"], 200).float()


def of_pair(labels: dict[str, Tensor]) -> Tensor:
    return one_hot(labels["task"] * 4 + labels["x"], 4 * N_TASKS).float()


def at_random(labels: dict[str, Tensor]) -> Tensor:
    return torch.randn(len(labels["task"]), 8, generator=torch.Generator().manual_seed(len(labels["task"])))


def trained_on(data: SequenceDataModule) -> Tensor:
    """Task and instruction of every example that probes are trained on, (E, 2)."""
    return probe(data).rows.numbers[:, [0, 2]].long()


def test_states_of_the_task_alone_have_all_of_the_task_and_of_the_control_what_is_most_frequent(
    data: SequenceDataModule,
) -> None:
    found, random_task = measured(data, of_task), probe(data).random_task
    examples = trained_on(data)
    counts = Counter(map(tuple, examples.tolist()))
    twice = {task for (task, _), n in counts.items() if n == 2}  # those with an x of either half: repeated at x
    assert len(twice) > 0
    for suffix, tasks in (("", {*range(N_TASKS)}), ("_at_input", twice)):
        right, n = 0, 0
        for task in tasks:
            labels = Counter(random_task[examples[examples[:, 0] == task, 1].unique()].tolist())
            right, n = right + labels.most_common(1)[0][1], n + labels.total()
        assert 1 / N_TASKS < right / n < 0.6
        assert found[f"probe{suffix}"][1] == 1
        assert found[f"probe_control{suffix}"][1] == pytest.approx(right / n)
        assert found[f"selectivity{suffix}"][1] == pytest.approx(1 - right / n)


def test_states_of_the_instruction_alone_are_learned_by_heart(
    data: SequenceDataModule,
) -> None:
    found = measured(data, of_instruction)
    for suffix in ("", "_at_input"):
        assert found[f"probe_control{suffix}"][1] == 1
        assert found[f"probe{suffix}"][1] < 0.4  # of instructions that no probe has seen
        assert found[f"selectivity{suffix}"][1] == found[f"probe{suffix}"][1] - 1


def test_at_x_the_probe_is_tested_on_other_values_of_x(data: SequenceDataModule) -> None:
    assert measured(data, of_pair)["probe_at_input"][1] < 0.4


def test_random_and_constant_states_give_chance(data: SequenceDataModule) -> None:
    found = measured(data, at_random, penalty=1.0)
    for suffix in ("", "_at_input"):
        assert found[f"probe{suffix}"][1] == pytest.approx(1 / N_TASKS, abs=0.2)
        assert found[f"probe{suffix}"][0] == pytest.approx(1 / N_TASKS, abs=0.05)  # one task for every state


def test_no_instruction_is_both_trained_on_and_tested(data: SequenceDataModule) -> None:
    assert not set(trained_on(data)[:, 1].tolist()) & set(labels_of(data, "val", "input")["instruction"].tolist())
    few = probe(data, 12).rows
    assert Counter(few.numbers[few.first_examples, 0].tolist()) == dict.fromkeys(range(N_TASKS), 2)


def test_a_run_measures_it_without_touching_its_randomness() -> None:
    config = RunConfig.of(composed(*SMALL, "measures=[probe]"))
    data, network = prepare(config)
    measurement = measuring(config, data, network)
    state, before = torch.random.get_rng_state(), {name: w.clone() for name, w in network.state_dict().items()}
    first = measurement(network, 6)
    assert measurement(network, 6) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    assert not [key for key in first if key.startswith("probe/train")]


@pytest.mark.parametrize("task", ["facts", "pairs"])
def test_tasks_in_words_can_be_probed_at_the_answer(task: str) -> None:
    small = [key for key in SMALL if not key.startswith("task.")] + OWN[f"task={task}"]
    config = RunConfig.of(composed(f"task={task}", *small, "measures=[probe]", "measures.probe.at=[answer]"))
    data, network = prepare(config)
    measured = {key.split("/")[0] for key in measuring(config, data, network)(network, 6)}
    assert measured == {"train", "val", "probe_at_answer", "probe_control_at_answer", "selectivity_at_answer"}


RANDOM = torch.Generator().manual_seed(0)
LABELS, OTHERS = torch.randint(7, (200,), generator=RANDOM), torch.randint(7, (150,), generator=RANDOM)
CENTRES = torch.randn(7, 400, generator=RANDOM).double()


def noisy(labels: Tensor, width: int) -> Tensor:
    return 3 + 0.4 * CENTRES[labels, :width] + torch.randn(len(labels), width, generator=RANDOM).double()


@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize("width", [5, 400])
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_predictions_are_those_of_scikit_learn(n_classes: int, width: int, scale: float) -> None:
    labels, tested = LABELS % n_classes, noisy(OTHERS % n_classes, width) * scale
    known = noisy(labels, width) * scale
    unit = float((known - known.mean(0)).square().mean().sqrt())
    peer = RidgeClassifier(alpha=0.05 * len(labels)).fit((known - known.mean(0)) / unit, labels)
    predicted = torch.as_tensor(peer.predict((tested - known.mean(0)) / unit))
    assert torch.equal(Ridge(known, 0.05).fit(labels, n_classes)(tested), predicted)


def test_a_class_without_states_is_never_predicted_and_constant_states_are_of_the_largest() -> None:
    known = noisy(LABELS % 2, 5)
    assert {*Ridge(known, 0.05).fit(LABELS % 2 * 4, 7)(known).tolist()} == {0, 4}
    labels = (torch.arange(200) < 50).long()
    assert not Ridge(torch.ones(200, 4).double(), 0.01).fit(labels, 2)(torch.ones(9, 4).double()).any()
