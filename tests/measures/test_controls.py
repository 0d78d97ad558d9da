"""Controls of the ARI and nuisance labels, on a small network and on planted states."""

import math
from collections.abc import Callable
from statistics import fmean, stdev

import pytest
import torch
from conftest import SMALL, composed
from seen import data_of, random_texts, seen
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clustering import Clustering
from taskcluster.measures.controls import Chance, Nuisance
from taskcluster.measures.measure import Measure, Measurement
from taskcluster.measures.observation import Observation
from taskcluster.training.experiment import measuring, prepare

OTHER_SEEDS = {"ari_kmeans_sd": "ari", "ari_within_x_kmeans_sd": "ari_within_x"}


def measured_with(*overrides: str) -> tuple[Measurement, PreTrainedModel]:
    config = RunConfig.of(composed(*SMALL, *overrides))
    data, network = prepare(config)
    return measuring(config, data, network), network


def test_the_first_seed_is_the_runs_own_and_others_move_the_ari() -> None:
    measurement, network = measured_with()
    journal, repeated = measurement(network), measurement.controls(network)
    assert set(repeated) == {*OTHER_SEEDS}
    for key, of in OTHER_SEEDS.items():
        assert [len(values) for values in repeated[key]] == [5] * 3
        assert [values[0] for values in repeated[key]] == [journal[f"{of}/val/layer_{layer}"] for layer in range(3)]
    assert len(set(repeated["ari_kmeans_sd"][2])) > 1
    assert not {key.split("/")[0] for key in journal} & OTHER_SEEDS.keys()


def test_the_journal_has_a_summary_of_repetitions_if_every_n_steps_is_set() -> None:
    measurement, network = measured_with("measures.kmeans_noise.every_n_steps=4", "measures.kmeans_noise.n_seeds=3")
    repeated = measurement.controls(network)
    expected = {f"{key}/val/layer_{layer}": stdev(repeated[key][layer]) for key in OTHER_SEEDS for layer in range(3)}
    for step, last, due in ((4, False, True), (2, False, False), (6, True, True)):
        journal = measurement(network, step, last)
        assert {k: v for k, v in journal.items() if k.split("/")[0] in OTHER_SEEDS} == (expected if due else {})


TASKS = torch.arange(6).repeat_interleave(40)
X = torch.arange(240) % 3
LAYERS = torch.stack([20 * torch.eye(6)[TASKS], torch.zeros(240, 6), 20 * torch.eye(6)[X]])
LAYERS += torch.randn(LAYERS.shape, generator=torch.Generator().manual_seed(0))  # of tasks, of nothing, of x


def numbers(measure: Measure, observed: Observation) -> dict[str, list[float]]:
    return {metric.key: list(values) for metric, values in measure.measure(observed).items()}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data() -> SequenceDataModule:
    texts = random_texts(600)
    return data_of(*(texts[k::4] for k in range(4)))


def chance(data: SequenceDataModule, n_shuffles: int = 99, states: Tensor = LAYERS) -> dict[str, list[float]]:
    labels = {"task": TASKS, "x": X}
    observed = seen({"instruction_end": states, "input": states}, {"instruction_end": labels, "input": labels})
    return numbers(Chance(data=data, clusterer=KMeans(None, 4, 0), n_shuffles=n_shuffles), observed)


def test_p_tells_clusters_of_tasks_from_clusters_of_something_else(data: SequenceDataModule) -> None:
    state = torch.random.get_rng_state()
    found = chance(data, 999)
    assert torch.equal(torch.random.get_rng_state(), state)
    for of in ("ari", "ari_within_x"):
        assert found[f"{of}_p"][0] == 1 / 1000
        assert min(found[f"{of}_p"][1:]) > 0.02
        assert found[f"{of}_shuffled"] == pytest.approx([0] * 3, abs=0.005)
        assert 0 < min(found[f"{of}_shuffled_largest"]) <= max(found[f"{of}_shuffled_largest"]) < 0.2
        assert found[f"{of}_fixed_k"][0] == pytest.approx(1)


def test_p_is_uniform_where_there_is_nothing(data: SequenceDataModule) -> None:
    p = chance(data, 99, torch.randn(60, 240, 2, generator=torch.Generator().manual_seed(1)))["ari_p"]
    assert all(0.01 <= value <= 1 for value in p)
    assert fmean(p) == pytest.approx(0.5, abs=0.15)


def test_constant_states_have_p_of_one_and_states_that_are_not_finite_none(data: SequenceDataModule) -> None:
    constant = chance(data, 99, torch.ones(1, 240, 4))
    assert constant["ari_p"] == constant["ari_within_x_p"] == [1]
    broken = chance(data, 99, torch.full((1, 240, 4), math.nan))
    assert all(math.isnan(value) for (value,) in broken.values())


def small(*overrides: str) -> SequenceDataModule:
    larger = ("task.instructions_per_task=60", "data.probe_size=200")
    return prepare(RunConfig.of(composed(*SMALL, *larger, *overrides)))[0]


def planted(data: SequenceDataModule, **values: Tensor) -> Observation:
    """One layer, in which states differ by these numbers alone."""
    states = {position: 10 * one_hot(of.long()).float()[None] for position, of in values.items()}
    return seen(states, {position: data.probe["val"].labels(position) for position in values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "value"), [("first", lambda text: ord(text[0])), ("last", lambda text: ord(text[-1])), ("length", len)]
)
def test_clusters_of_what_instructions_look_like_score_against_it(label: str, value: Callable[[str], int]) -> None:
    data = small("task.n_mappings=4")
    instructions = data.probe["val"].labels("instruction_end")["instruction"].tolist()
    values = torch.tensor([value(data.family.instructions[number][1]) for number in instructions])
    kmeans, observed = KMeans(len(values.unique()), 4, 0), planted(data, instruction_end=values)
    found = numbers(Nuisance(data=data, clusterer=kmeans, at=["instruction_end"]), observed)
    assert found.pop(f"ari_to_{label}") == [1]
    assert max(found.values()) < [0.3]


def test_clusters_of_x_score_against_x() -> None:
    data = small("task.n_mappings=4")
    observed = planted(data, input=data.probe["val"].labels("input")["x"])
    found = numbers(Nuisance(data=data, clusterer=KMeans(4, 4, 0), at=["input"]), observed)
    assert found["ari_input_to_x"] == [1]
    assert found["ari_input_to_y"] < [0.6]


def test_with_several_regexes_per_task_regexes_are_a_label_and_the_ari_is_split() -> None:
    data = small("task.regexes_per_task=3")
    labels = data.probe["val"].labels("instruction_end")
    measure = Nuisance(data=data, clusterer=KMeans(18, 4, 0), at=["instruction_end"])
    assert numbers(measure, planted(data, instruction_end=labels["description"]))["ari_to_regex"] == [1]
    for name, across in (("description", False), ("task", True)):
        clustering = Clustering(data=data, clusterer=KMeans(len(labels[name].unique()), 4, 0))
        found = numbers(clustering, planted(data, instruction_end=labels[name]))
        assert found["ari_within_regex"] == [1]
        assert (found["ari_across_regexes"] > [0]) == across
