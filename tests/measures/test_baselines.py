"""Baselines: clusters of texts whose tasks differ in symbols, in their order, or in nothing; random weights."""

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
import torch
from conftest import SMALL, composed
from networks import small
from seen import data_of, random_texts, seen

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.baselines import Surface, counts
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clustering import Scored
from taskcluster.tasks.family import Task, TaskFamily
from taskcluster.training.experiment import measuring, prepare

KEYS = ("symbols", "bigrams", "mean_embedding", "edit_distance")


def measured(data: SequenceDataModule, at: list[Scored], n: int = 2) -> dict[str, float]:
    measure = Surface(data=data, clusterer=KMeans(None, 4, 0), n=n, at=at)
    network = small("gpt2", len(data.tokenizer))
    observed = seen({}, {"input": data.probe["val"].labels("input")}, network=network)
    numbers = measure.measure(observed)
    assert {(metric.of, metric.kind) for metric in numbers} <= {(of.metric.key, "baseline") for of in measure.scores}
    return {metric.key: float(value) for metric, value in numbers.items()}  # type: ignore[arg-type]


def of_texts(*tasks: list[str], words: bool = False, n: int = 2) -> dict[str, float]:
    """The baselines of tasks with these instructions."""
    return measured(data_of(*tasks, words=words), ["instruction_end", "input"], n)


def test_every_baseline_separates_tasks_with_different_symbols() -> None:
    found = of_texts(*([letter * k for k in range(4, 9)] for letter in "abcd"))
    assert {key.removeprefix("ari_within_x_").removeprefix("ari_") for key in found} == {*KEYS}
    for key in ("ari_edit_distance", "ari_mean_embedding", "ari_within_x_mean_embedding"):
        assert found[key] == 1


def test_only_runs_of_symbols_and_edits_see_their_order() -> None:
    tasks = ["abcabcabc", "cabcabcab"], ["acbacbacb", "cbacbacba"], ["aabbccaab", "aabbccabc"]
    found = of_texts(*tasks)
    assert found["ari_bigrams"] == found["ari_edit_distance"] == of_texts(*tasks, n=3)["ari_trigrams"] == 1
    assert found["ari_symbols"] < 1


def test_texts_that_have_nothing_to_do_with_tasks_score_about_zero() -> None:
    texts = random_texts(600)
    found = of_texts(*(texts[k::4] for k in range(4)))
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=0.1)


def at_positions(tasks: Sequence[tuple[list[str], dict[str, str]]], at: list[Scored]) -> dict[str, float]:
    """The baselines of tasks with instructions that hold x."""
    made = (Task(k, ("any",), (tuple(texts),), mapping) for k, (texts, mapping) in enumerate(tasks))
    family = TaskFamily(tuple(made), holdout="instruction", val_fraction=0.5, seed=0, words=True, x_inside=True)
    return measured(RunConfig.of(composed(*SMALL)).data.build(SequenceDataModule, family=family), at)


def test_words_after_x_are_read_at_the_answer_and_not_at_x() -> None:
    mapping = {"x": "u", "z": "v"}
    tasks = [([f"say {{x}} {verb} {verb} {end}" for end in "pqrs"], mapping) for verb in ("up", "down", "left")]
    found = at_positions(tasks, ["input", "answer"])
    assert found["ari_within_x_at_answer_symbols"] == found["ari_within_x_at_answer_edit_distance"] == 1
    assert found["ari_within_x_symbols"] < 0.3  # all have read the same


def test_tasks_with_different_inputs_differ_over_all_states_and_within_no_x() -> None:
    texts = [" ".join((*order, "{x}")) for order in permutations("pqrs")]  # the same words in another order
    found = at_positions([(texts[8 * k : 8 * k + 8], {x: "y"}) for k, x in enumerate("abc")], ["answer"])
    assert found["ari_at_answer_symbols"] == found["ari_at_answer_mean_embedding"] == 1
    assert math.isnan(found["ari_within_x_at_answer_symbols"])


def test_counts_are_of_runs_of_symbols() -> None:
    assert counts(["aab", "b", ""], 1).tolist() == [[2, 1], [0, 1], [0, 0]]
    assert counts(["aab", "b", "aaa"], 2).tolist() == [[1, 1], [0, 0], [2, 0]]
    assert counts(["a", "b"], 2).tolist() == [[0], [0]]


@pytest.mark.parametrize("model", ["gpt2", "llama", "gpt_neox"])
def test_random_weights_have_the_aris_of_step_0_after_training(model: str) -> None:
    config = RunConfig.of(composed(*SMALL, f"model={model}", "measures=[clustering,clustering_at_x,untrained]"))
    data, network = prepare(config)
    measurement = measuring(config, data, network)
    before = measurement(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = measurement(network)
    for of in ("ari", "ari_within_x"):
        for layer in range(3):
            assert after[f"{of}_untrained/val/layer_{layer}"] == before[f"{of}/val/layer_{layer}"]
    assert after["ari/val/layer_2"] != before["ari/val/layer_2"]
    assert not any("untrained" in key for key in measurement(network, step=4, last=False))
