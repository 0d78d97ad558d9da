"""Metrics by example and by two layers, in the journal and in the table of examples."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from test_observation import built

from taskcluster import Measure, Metric, Observation
from taskcluster.measures.measure import MeasureFailed, Measurement
from taskcluster.measures.observation import observe
from taskcluster.operations.tracking.mirror import metrics_of
from taskcluster.pages.matrix_charts import example_charts, matrix_charts
from taskcluster.results.points import matrix_points
from taskcluster.views import views

NUMBER = Metric("number", "number", by_layer=False, by_example=True)
LAYERED = Metric("layered", "number", by_example=True)
PAIRS = Metric("pairs", "sum", by_two_layers=True)
KNOWN = {metric.key: metric for metric in (NUMBER, LAYERED, PAIRS)}
N_LAYERS = 3


class Counting(Measure):
    """Of example e: e; in layer l: l + e, undefined in layer 0. Of layers l and k: l + 2 k."""

    metrics, positions = (NUMBER, LAYERED, PAIRS), ("input",)

    def measure(self, observation: Observation) -> Mapping[Metric, Any]:
        numbers = torch.arange(len(observation.correct)).double()
        layers = torch.arange(N_LAYERS).double()
        layered = layers[:, None] + numbers
        layered[0] = torch.nan
        layered[1, 0] = torch.nan
        return {NUMBER: numbers, LAYERED: layered, PAIRS: layers[:, None] + 2 * layers}


class Wrong(Counting):
    def measure(self, observation: Observation) -> Mapping[Metric, Any]:
        return {**super().measure(observation), PAIRS: [0.0, 1.0, 2.0]}


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    data, network = built("gpt2")
    return Measurement(data, {"counting": Counting()})(network)


def test_the_journal_has_means_of_what_is_defined_and_matrices_as_rows(measured: dict[str, Any]) -> None:
    n = len(measured["examples"]["val"]["number"])
    assert measured["val/number"] == (n - 1) / 2
    layered = [measured[f"layered/val/layer_{layer}"] for layer in range(N_LAYERS)]
    assert np.isnan(layered[0])
    assert layered[1:] == pytest.approx([1 + n / 2, 2 + (n - 1) / 2])
    assert measured["pairs/val"] == [[0, 2, 4], [1, 3, 5], [2, 4, 6]]


def test_every_example_has_its_prompt_labels_and_numbers(measured: dict[str, Any]) -> None:
    data, network = built("gpt2")
    seen, columns = observe(network, data, "val"), measured["examples"]["val"]
    assert columns["prompt"] == seen.texts
    assert columns["correct"].tolist() == seen.correct.tolist()
    assert columns["task"].tolist() == seen.labels["input"]["task"].tolist()
    assert columns["layered/layer_2"].tolist() == [2.0 + e for e in range(len(seen.correct))]


def test_another_shape_than_is_declared_is_named() -> None:
    data, network = built("gpt2")
    with pytest.raises(MeasureFailed, match=r"'wrong' returns .*'pairs': \(3,\).* declares .*'pairs': \(3, 3\)"):
        Measurement(data, {"wrong": Wrong()})(network)


def test_a_matrix_of_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="'both' is by two layers and by example; choose one"):
        Metric("both", "both", by_two_layers=True, by_example=True)


def test_matrices_are_in_no_view_that_needs_numbers_by_layer() -> None:
    assert views(PAIRS) == ("matrix",)
    assert "examples" in views(NUMBER)
    assert views(Metric("pairs", "sum", by_two_layers=True, views=())) == ()


def test_maps_are_means_over_runs_of_what_is_defined() -> None:
    lines = [{"step": 1, "pairs/val": [[0.0, 1.0], [None, None]]}, {"step": 1, "pairs/val": [[1.0, 1.0], [3.0, None]]}]
    points = matrix_points(lines, KNOWN)
    assert [(p["layer"], p["other_layer"], p["mean"]) for p in points] == [
        (0, 0, 0.5), (0, 1, 1.0), (1, 0, 3.0), (1, 1, None),
    ]  # fmt: skip


def test_wandb_and_tensorboard_get_numbers_and_no_matrices() -> None:
    row = {"step": 1, "val/number": 0.5, "val/undefined": math.nan, "pairs/val": [[1.0]], "examples": {"val": {}}}
    assert metrics_of(row) == {"val/number": 0.5}


@pytest.mark.parametrize("n_conditions", [1, 3])
def test_a_map_for_each_matrix(n_conditions: int) -> None:
    points = matrix_points([{"step": 1, "pairs/val": np.ones((31, 31)).tolist()}], KNOWN)
    several = [{"condition": str(k), **point} for k in range(n_conditions) for point in points]
    specification = matrix_charts(several, KNOWN)["pairs"].to_dict()
    assert ("row" in specification["facet"]) == (n_conditions > 1)


def test_a_histogram_has_the_share_of_examples_of_each_split() -> None:
    import polars

    frame = polars.DataFrame({"split": ["train"] * 2 + ["val"] * 4, "number": [0.0, 1.0, 0.0, 0.0, 1.0, float("nan")]})
    specification = example_charts(frame, KNOWN)["number_by_example"].to_dict()
    bars = (
        next(iter(specification["datasets"].values()))
        if "datasets" in specification
        else specification["data"]["values"]
    )
    share = {(bar["split"], bar["from"]): bar["share"] for bar in bars if bar["share"]}
    assert share[("train", 0)] == 0.5
    assert share[("val", 0)] == pytest.approx(2 / 3)


def test_logits_follow_edits_and_answer_as_the_model_does() -> None:
    data, network = built("gpt2", "data.loss_on=y")
    seen = observe(network, data, "val", ["instruction_end", "answer"])
    right = seen.logits("answer").argmax(1) == seen.prompts.answers
    assert right.tolist() == seen.correct.tolist()
    edits = {1: lambda states, which: states + which[:, None]}
    for position in ("instruction_end", "answer"):
        edited = seen.edited(position, edits)
        assert (edited.logits("answer").argmax(1) == edited.prompts.answers).tolist() == edited.correct.tolist()
        assert not torch.equal(edited.logits("answer"), seen.logits("answer"))


class Surprise(Counting):
    metrics, positions = (NUMBER,), ()

    def measure(self, observation: Observation) -> Mapping[Metric, Any]:
        return {NUMBER: observation.losses}


def test_a_measure_reads_losses_and_answers_of_examples_clean_and_edited() -> None:
    data, network = built("gpt2", "data.loss_on=y")
    seen = observe(network, data, "val", ["answer"])
    assert seen.prompts.answers is not None
    ids = torch.tensor(data.tokenizer.convert_tokens_to_ids(seen.tokens[0]))
    alone = torch.nn.functional.cross_entropy(network(ids[None]).logits[0, -1], seen.prompts.answers[0])
    assert float(seen.losses[0]) == pytest.approx(alone.item(), rel=1e-4)
    edited = seen.edited("answer", {1: lambda states, which: states * 2})
    for one in (seen, edited):
        log_p, right = one.logits("answer").log_softmax(1), seen.prompts.answers
        assert torch.equal(one.losses, -log_p.gather(1, right[:, None]).squeeze(1))
        assert one.answers == one.prompts.words(log_p.argmax(1).tolist())
    assert not torch.equal(edited.losses, seen.losses)
    measured = Measurement(data, {"surprise": Surprise()})(network)
    assert measured["examples"]["val"]["number"] == pytest.approx(seen.losses.numpy())
