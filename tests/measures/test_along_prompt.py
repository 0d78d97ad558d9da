"""Positions and clusters along few-shot prompts: the labels of demonstrations, and the answer."""

import random
from typing import Any

import pytest
import torch
from networks import small
from seen import seen

from taskcluster.data.datamodule import Layout as DataLayout
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.baselines import Surface, Untrained
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clustering import ClusteringAlongPrompt
from taskcluster.measures.controls import Nuisance
from taskcluster.measures.observation import observe
from taskcluster.tasks.family import Task, TaskFamily
from taskcluster.tasks.prompting import Layout, demonstration_sets
from taskcluster.validation import UserError

LAYOUT = "Q: {x}\nA: {y}\n\n"
N_TASKS, N_SHOTS = 3, 2


def few_shot(
    n_shots: int = N_SHOTS, layout: DataLayout = "padded", loss_on: Any = "y", prefix: str = ""
) -> SequenceDataModule:
    """Labels have two words, the second of which tells the task."""
    tasks = []
    for k in range(N_TASKS):
        shown = {f"shown{n}": f"label{n} y{k}" for n in range(6)}
        sets = demonstration_sets(shown, n_shots, 8, Layout(LAYOUT), random.Random(k))
        tasks.append(Task(k, tuple(sets), tuple(sets.values()), {f"x{n}": f"y{k}" for n in range(6)}))
    family = TaskFamily(tuple(tasks), "x", 0.5, 0, x_inside=True, layout=LAYOUT)
    return SequenceDataModule(family, None, None, layout, "left", 8, loss_on, 24, 0, 0, prefix=prefix)


@pytest.mark.parametrize("prefix", ["", "Q: shown0\nA: label0 y0\n\n"])
@pytest.mark.parametrize("loss_on", ["sequence", "y"])
@pytest.mark.parametrize("layout", ["padded", "shared_prefix"])
def test_the_state_at_a_label_is_that_of_the_text_up_to_the_label(
    layout: DataLayout, loss_on: str, prefix: str
) -> None:
    data = few_shot(layout=layout, loss_on=loss_on, prefix=prefix)
    network = small("gpt2", len(data.tokenizer), longest=data.longest)
    observed = observe(network, data, "val", ("demonstrations", "answer"))
    texts, labels = observed.prompts.texts_at("demonstrations"), observed.labels["demonstrations"]
    assert len(texts) == N_SHOTS * len(data.probe["val"])
    for state, text, task, demonstration in zip(
        observed.states["demonstrations"].unbind(1), texts, labels["task"], labels["demonstration"], strict=True
    ):
        assert text.endswith(f"y{task}")
        assert text.count("label") == demonstration + prefix.count("label")
        ids = data.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            alone = network(ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(state, torch.stack(alone)[:, 0, -1], rtol=1e-4, atol=1e-5)


def test_clusters_are_scored_at_the_label_of_each_demonstration_and_at_the_answer() -> None:
    """States tell the task from the second label on; the answer's tell another thing."""
    data = few_shot()
    rng = torch.Generator().manual_seed(0)
    labels = {at: data.probe["val"].labels(at) for at in ("demonstrations", "answer")}
    task, demonstration = (labels["demonstrations"][name] for name in ("task", "demonstration"))
    noise = 0.01 * torch.randn(1, len(task), 4, generator=rng)
    planted = noise + torch.nn.functional.one_hot(task * (demonstration - 1), 4)
    drawn = torch.randn(1, len(labels["answer"]["task"]), 4, generator=rng)
    measure = ClusteringAlongPrompt(data=data, clusterer=KMeans(None, 4, 0))
    found = measure.measure(seen({"demonstrations": planted, "answer": drawn}, labels))
    aris = {metric.key: values[0] for metric, values in found.items()}  # type: ignore[index]
    assert [*aris] == ["ari_at_demonstration_1", "ari_at_demonstration_2", "ari_at_answer"]
    assert aris["ari_at_demonstration_2"] == 1
    assert max(aris["ari_at_demonstration_1"], aris["ari_at_answer"]) < 0.5


def test_without_demonstrations_the_answer_alone_is_scored() -> None:
    measure = ClusteringAlongPrompt(data=few_shot(n_shots=0), clusterer=KMeans(None, 4, 0))
    assert ([metric.key for metric in measure.metrics], measure.positions) == (["ari_at_answer"], ("answer",))


def test_baselines_stand_beside_every_label() -> None:
    """The last token of a label names its task, which random weights keep apart."""
    data, clusterer = few_shot(), KMeans(None, 4, 0)
    network = small("gpt2", len(data.tokenizer), longest=data.longest)
    observed = observe(network, data, "val", ())
    texts = Surface(data=data, clusterer=clusterer, n=2, at=["demonstrations"])
    places, kinds = ("demonstration_1", "demonstration_2", "answer"), ("symbols", "bigrams", "mean_embedding")
    found = {metric.key for metric in texts.measure(observed)}
    assert found == {f"ari_at_{place}_{kind}" for place in places for kind in (*kinds, "edit_distance")}
    untrained = Untrained(data=data, clusterer=clusterer, seed=0, at=["demonstrations"])
    by_layer = {metric.key: values for metric, values in untrained.measure(observed).items()}
    assert [*by_layer] == [f"ari_at_{place}_untrained" for place in places]
    assert by_layer["ari_at_demonstration_1_untrained"][0] == 1  # type: ignore[index]


def test_other_labels_than_the_task_are_refused_at_demonstrations() -> None:
    with pytest.raises(UserError, match=r"measures\.nuisance\.at=demonstrations: choose from"):
        Nuisance(data=few_shot(), clusterer=KMeans(None, 4, 0), at=["demonstrations"])
