"""Vectors of tasks on a network that was built by hand, so that what every method does is known."""

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import ByHand
from networks import ARCHITECTURES, small
from torch import Tensor, nn
from transformers.cache_utils import Cache

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.vectors import PROMPT_METRICS, VECTORS, Vectors, rate_over_tasks
from taskcluster.metrics import ends
from taskcluster.models.block_sites import reading_sites
from taskcluster.models.heads import added, projections, replacing
from taskcluster.models.hidden_states import AT_THE_END
from taskcluster.results.intervals import interval
from taskcluster.tasks.family import Task, TaskFamily
from taskcluster.tasks.prompting import Layout, demonstration_sets
from taskcluster.validation import UserError

TASKS, WIDTH = 3, 8
LAYOUT = "Q: {x}\nA: {y}\n\n"


def family(layout: str = LAYOUT, answers: Sequence[str] = ("y0", "y1", "y2")) -> TaskFamily:
    """Every task has one answer, whose first word its demonstrations repeat."""
    tasks = []
    for k, answer in enumerate(answers):
        shown = {f"shown{n}": f"y{k}" for n in range(6)}
        sets = demonstration_sets(shown, 2, 20, Layout(LAYOUT), random.Random(k))
        tasks.append(Task(k, tuple(sets), tuple(sets.values()), {f"x{n}": answer for n in range(12)}))
    return TaskFamily(tuple(tasks), "instruction", 0.5, 0, x_inside=True, layout=layout)


def data(**changes: Any) -> SequenceDataModule:
    return SequenceDataModule(family(**changes), None, None, "padded", "left", 8, "y", 200, 0, 0)


class Attention(nn.Module):
    """One head, which tells what answers it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.eye_(self.dense.weight)

    def forward(self, states: Tensor, cache: Cache, visible: Tensor) -> Tensor:
        _, seen = cache.update(states[:, None], states[:, None], 0)
        told = (seen[:, 0] * visible[..., None]).cumsum(1).sign()
        return self.dense(told[:, -states.shape[1] :])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def forward(self, hidden_states: Tensor, past_key_values: Cache, visible: Tensor) -> Tensor:
        return hidden_states + self.attention(hidden_states, past_key_values, visible)


def network(of_data: SequenceDataModule) -> ByHand:
    """Layer 1 knows the task from the answers before; the output layer reads it there."""
    table = torch.zeros(len(of_data.tokenizer), WIDTH)
    table[of_data.tokenizer.convert_tokens_to_ids([f"y{k}" for k in range(TASKS)]), range(TASKS)] = 1
    return ByHand(table, table.clone(), Block()).eval()


def vectors(of_data: SequenceDataModule, methods: Any, layers: Any = None) -> Vectors:
    settings: dict[str, Any] = {"n_layer": 1, "layers": layers, "n_prompts": 12, "n_heads": 1, "n_trials": 2, "seed": 0}
    return Vectors(data=of_data, clusterer=KMeans(None, 4, 0), methods=methods, **settings)


def measured(methods: list[str], answers: Sequence[str] = ("y0", "y1", "y2"), **changes: Any) -> dict[str, Any]:
    measure = vectors(data(answers=answers), methods, **changes)
    numbers = measure.measure(SimpleNamespace(network=network(measure.data)))
    return {metric.key: values for metric, values in numbers.items()}


def test_every_method_does_the_task_where_the_network_knows_it_and_controls_do_not() -> None:
    found = measured([*VECTORS])
    assert (found["first_token_zero_shot"], found["first_token_few_shot"]) == (0, 1)
    methods = ("task_vector", "function_vector", "difference", "mean", "cluster")
    assert {found[f"vector_{method}"][1] for method in methods} == {1}
    assert found == found | {f"vector_{method}_chosen": 1 for method in methods}
    assert (found["vector_mean"][0], found["vector_mean_layer"], found["vector_other_task"][1]) == (0, 1, 0)
    assert found["vector_random"][1] < 0.7


def test_a_whole_answer_is_right_where_all_of_its_tokens_are() -> None:
    """The network repeats what it answered: right for one task of two words, wrong for another."""
    found = measured(["mean"], answers=("y0 y0", "y1 end", "y2"))
    rates = {"first_token_few_shot": 1, "whole_answer_few_shot": 2 / 3, "whole_answer_zero_shot": 0}
    rates |= {"vector_mean_chosen": 1, "vector_mean_chosen_whole": 2 / 3}
    assert {key: found[key] for key in rates} == pytest.approx(rates)
    assert (found["vector_mean"], found["vector_mean_whole"]) == ([0, 1], [0, pytest.approx(2 / 3)])
    assert found["vector_other_task_whole"][1] == 0
    # Of three tasks one is wrong, which is too few for an interval over tasks; without a difference it has no length.
    assert [str(found[f"whole_answer_few_shot_{end}"]) for end in ("lower", "upper")] == ["nan", "nan"]
    assert [found[f"vector_mean_chosen_{end}"] for end in ("lower", "upper")] == [1, 1]
    single = measured(["mean", "cluster"])
    assert all(single[key] == single[f"{key}_whole"] for key in ("vector_mean", "vector_cluster", "vector_random"))


def test_an_interval_is_over_the_rates_of_tasks() -> None:
    metric, (lower, upper) = PROMPT_METRICS[0], ends(PROMPT_METRICS[0])
    rates = [0.4, 0.5, 0.5, 0.6, 0.4, 0.6]
    right = torch.tensor([[k < 10 * rate for k in range(10)] for rate in rates]).double().flatten()
    found = rate_over_tasks(metric, right, torch.arange(6).repeat_interleave(10))
    known = interval(rates, (0, 1))
    assert found == pytest.approx({metric: 0.5, lower: known.lower, upper: known.upper})
    assert 0.35 < known.lower < 0.45


def test_only_chosen_layers_are_tried() -> None:
    found = measured(["mean"], layers=[1])
    assert (str(found["vector_mean"][0]), found["vector_mean"][1]) == ("nan", 1)


def test_layers_that_do_not_exist_and_families_without_demonstrations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layers=2: the model has layers 0 to 1"):
        measured(["mean"], layers=[2])
    with pytest.raises(UserError, match=r"measures\.vectors needs few-shot prompts; choose"):
        vectors(data(layout=""), ["mean"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_heads_add_makes_up_the_attention(architecture: str) -> None:
    network = small(architecture)
    tokens = torch.randint(0, network.config.vocab_size, (3, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), reading_sites(network, ("heads",), AT_THE_END) as read:
        clean = network(tokens).logits[:, -1]
    for block, (heads, module) in enumerate(zip(read["heads"], projections(network), strict=True)):
        heads = heads[:, 0]
        parts = [added(network, block, head, heads[:, head]) for head in range(network.config.num_attention_heads)]
        whole = module(heads.flatten(1)) - module(torch.zeros_like(heads.flatten(1)))
        torch.testing.assert_close(torch.stack(parts).sum(0), whole)
        for output, same in ((heads[:, 1], True), (heads[:, 1].flip(0), False)):
            with torch.no_grad(), replacing(network, block, 1, output):
                assert torch.allclose(network(tokens).logits[:, -1], clean, rtol=1e-5, atol=1e-5) == same
