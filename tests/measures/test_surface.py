"""Clusters of texts whose tasks are told by symbols, by their order, or by nothing."""

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
import torch
from conftest import SMALL, composed
from networks import small
from seen import data_of, random_texts, seen
from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.comparisons import Scored
from taskcluster.measures.kmeans import KMeans
from taskcluster.measures.surface import ByEditDistance, Surface, counts
from taskcluster.tasks.family import Task, TaskFamily
from taskcluster.training.experiment import prepare

KMEANS = KMeans(None, 4, 0)
MAPPING = {"x": "u", "z": "v"}
KEYS = ("symbols", "bigrams", "mean_embedding", "edit_distance")


def of_texts(*tasks: list[str], words: bool = False) -> dict[str, float]:
    """The baselines of tasks with these instructions."""
    data = data_of(*tasks, words=words)
    network = RunConfig.of(composed(*SMALL)).model.build(
        PreTrainedModel, vocab_size=len(data.tokenizer), longest=data.longest
    )
    measure = Surface(data, KMEANS, None, n=2, at=["instruction_end", "input"])
    observed = seen({}, {"input": data.probe["val"].labels("input")}, network=network)
    return {metric.key: float(value) for metric, value in measure.measure(observed).items()}  # type: ignore[arg-type]


def test_symbols_of_their_own_tell_tasks_apart_in_every_way() -> None:
    found = of_texts(*([letter * k for k in range(4, 9)] for letter in "abcd"))
    assert {key.removeprefix("ari_within_x_").removeprefix("ari_") for key in found} == {*KEYS}
    for key in ("ari_edit_distance", "ari_mean_embedding", "ari_within_x_mean_embedding"):
        assert found[key] == 1


def test_only_bigrams_and_edits_see_the_order_of_symbols() -> None:
    found = of_texts(["abcabcabc", "cabcabcab"], ["acbacbacb", "cbacbacba"], ["aabbccaab", "aabbccabc"])
    assert found["ari_bigrams"] == found["ari_edit_distance"] == 1
    assert found["ari_symbols"] < 1


def test_texts_that_have_nothing_to_do_with_tasks_score_about_zero() -> None:
    texts = random_texts(600)
    found = of_texts(*(texts[k::4] for k in range(4)))
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=0.1)


def test_words_are_what_is_counted_where_instructions_are_words() -> None:
    found = of_texts(
        *([f"please {verb} it {verb}{end}" for end in "pqrstu"] for verb in ("copy", "turn", "drop")), words=True
    )
    assert found["ari_symbols"] == found["ari_bigrams"] == 1


def at_positions(tasks: Sequence[tuple[list[str], dict[str, str]]], at: list[Scored]) -> dict[str, float]:
    """The baselines of tasks with instructions that hold x."""
    made = (Task(k, ("any",), (tuple(texts),), mapping) for k, (texts, mapping) in enumerate(tasks))
    family = TaskFamily(tuple(made), holdout="instruction", val_fraction=0.5, seed=0, words=True, x_inside=True)
    data = RunConfig.of(composed(*SMALL)).data.build(SequenceDataModule, family=family)
    observed = seen({}, {"input": data.probe["val"].labels("input")}, network=small("gpt2", len(data.tokenizer)))
    measure = Surface(data, KMEANS, None, n=2, at=at)
    assert {metric.where for metric in measure.metrics} >= {"bag of tokens", "bag of bigrams"}
    return {metric.key: float(value) for metric, value in measure.measure(observed).items()}  # type: ignore[arg-type]


def test_words_after_x_are_read_at_the_answer_and_not_at_x() -> None:
    tasks = [([f"say {{x}} {verb} {verb} {end}" for end in "pqrs"], MAPPING) for verb in ("up", "down", "left")]
    found = at_positions(tasks, ["input", "answer"])
    assert found["ari_within_x_at_answer_symbols"] == found["ari_within_x_at_answer_edit_distance"] == 1
    assert found["ari_within_x_symbols"] < 0.3  # all have read the same


def test_demonstrations_in_front_of_the_query_are_read() -> None:
    tasks = [
        ([f"Q: {a} A: {b} Q: {c} A: {d} Q: {{x}} A:" for a, b, c, d in permutations(shown)], MAPPING)
        for shown in ("abcd", "efgh", "ijkl")
    ]
    found = at_positions(tasks, ["answer"])
    assert found["ari_within_x_at_answer_symbols"] == found["ari_at_answer_symbols"] == 1


def test_x_tells_tasks_with_inputs_of_their_own_apart_over_all_states_and_within_none() -> None:
    texts = [" ".join((*order, "{x}")) for order in permutations("pqrs")]  # the same words in another order
    tasks = [(texts[8 * k : 8 * k + 8], {x: "y"}) for k, x in enumerate("abc")]
    found = at_positions(tasks, ["answer"])
    assert found["ari_at_answer_symbols"] == found["ari_at_answer_mean_embedding"] == 1
    assert math.isnan(found["ari_within_x_at_answer_symbols"])


def test_counts_are_of_runs_of_symbols() -> None:
    assert counts(["aab", "b", ""], 1).tolist() == [[2, 1], [0, 1], [0, 0]]
    assert counts(["aab", "b", "aaa"], 2).tolist() == [[1, 1], [0, 0], [2, 0]]
    assert counts(["a", "b"], 2).tolist() == [[0], [0]]


def test_edit_distances_are_of_words_where_texts_are_lists_of_them() -> None:
    texts = [["long-word", "b"], ["b", "b"], ["c", "d"], ["c", "e"]]
    (found,) = ByEditDistance(texts).fit_many([torch.arange(4)[:, None]], [2])
    assert found.cluster_labels[0] == found.cluster_labels[1] != found.cluster_labels[2] == found.cluster_labels[3]


def test_it_is_measured_on_the_runs_own_data() -> None:
    config = RunConfig.of(composed(*SMALL))
    data, network = prepare(config)
    measure = Surface(data, KMEANS, None, n=3, at=["instruction_end"])
    found = measure.measure(seen({}, {"input": data.probe["val"].labels("input")}, network=network))
    assert [metric.key for metric in found] == [
        "ari_symbols",
        "ari_trigrams",
        "ari_mean_embedding",
        "ari_edit_distance",
    ]
    assert {(metric.of, metric.kind) for metric in found} == {("ari", "baseline")}
    with pytest.raises(ValueError, match="n=1"):
        Surface(data, KMEANS, None, n=1, at=["instruction_end"])
