"""Cheap numbers and tightness: planted states whose numbers are known."""

import pytest
import torch
from conftest import SMALL, composed
from networks import ARCHITECTURES, small
from transformers import BloomConfig, BloomForCausalLM

from taskcluster.config import RunConfig
from taskcluster.measures.routes import correlation_of_distances, explained, residuals
from taskcluster.measures.tightness import tightness
from taskcluster.models.attention import attend_selectively
from taskcluster.training.experiment import measuring, prepare
from taskcluster.validation import UserError


def test_residuals_have_the_mean_0_in_every_group() -> None:
    states, groups = torch.randn(40, 3) + 5, torch.arange(40) % 4
    left = residuals(states, groups)
    for k in range(4):
        torch.testing.assert_close(left[groups == k].mean(0), torch.zeros(3), atol=1e-6, rtol=0)


def test_what_is_a_linear_function_is_explained_and_what_is_not_is_not() -> None:
    given, fold = torch.randn(2000, 5), torch.arange(2000) % 2
    assert explained(given @ torch.randn(5, 3), given, fold) > 0.999
    assert abs(explained(torch.randn(2000, 3), given, fold)) < 0.02
    half = torch.cat([given[:, :1], torch.randn(2000, 1)], 1)
    assert explained(half, given, fold) == pytest.approx(0.5, abs=0.05)


def test_distances_are_compared_in_any_direction() -> None:
    points = torch.randn(20, 4)
    turned = 3 * points @ torch.linalg.qr(torch.randn(4, 4)).Q + 1
    assert correlation_of_distances(points, turned) == pytest.approx(1)
    assert abs(correlation_of_distances(points, torch.randn(20, 4))) < 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lengths", [(6, 6), (6, 4)])
def test_attention_is_that_of_the_plain_model(architecture: str, lengths: tuple[int, int]) -> None:
    network, mask = small(architecture), torch.ones(2, 6, dtype=torch.long)
    mask[1, lengths[1] :] = 0
    inputs = {"input_ids": torch.arange(12).view(2, 6) % 10, "attention_mask": mask}
    network.set_attn_implementation("eager")
    with torch.no_grad():
        plain = network(**inputs, output_attentions=True).attentions
        attend_selectively(network)
        kept: list[torch.Tensor] = []
        network(**inputs, weights_kept=kept)
    for ours, theirs in zip(kept, plain, strict=True):
        for line, length in enumerate(lengths):
            torch.testing.assert_close(ours[line, :, :length], theirs[line, :, :length])


def test_a_network_without_a_mask_is_refused_before_training() -> None:
    config = RunConfig.of(composed(*SMALL, "measures=[routes]"))
    data, _ = prepare(config)
    bloom = BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=len(data.tokenizer)))
    with pytest.raises(UserError, match=r"measures\.routes: the attention of BloomForCausalLM does not accept a mask"):
        measuring(config, data, bloom)


def test_tight_clusters_are_near_1_and_shuffled_ones_are_not() -> None:
    centres, task = torch.nn.functional.one_hot(torch.arange(6)).float(), torch.arange(60) % 6
    states = 10 * centres[task] + 0.01 * torch.randn(60, 6)
    apart = tightness(states, task, torch.zeros_like(task))
    assert apart.min() > 1
    assert tightness(states, task[torch.randperm(60)], torch.zeros_like(task)).mean() < 0.2


def test_tightness_is_that_of_its_definition() -> None:
    states, groups, cells = torch.randn(12, 3), torch.arange(12) % 3, torch.arange(12) // 6
    found = tightness(states, groups, cells)
    for k in range(12):
        inside = [j for j in range(12) if cells[j] == cells[k]]
        mean = states[inside].mean(0)
        unit = {j: (states[j] - mean) / (states[j] - mean).norm() for j in inside}
        similar = {}
        for group in range(3):
            centroid = sum(unit[j] for j in inside if groups[j] == group and j != k)
            similar[group] = float(unit[k] @ centroid / centroid.norm())
        own = similar.pop(int(groups[k]))
        assert float(found[k]) == pytest.approx(own - max(similar.values()), abs=1e-5)


def test_a_state_without_company_has_no_tightness_and_cells_are_separate() -> None:
    states, groups, cells = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 0]), torch.tensor([0, 0, 0, 1, 1])
    found = tightness(states, groups, cells)
    assert found.isnan().tolist() == [True, False, False, True, True]  # alone; no other group in the cell
