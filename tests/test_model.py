"""The network and its training loss."""

import math
from functools import partial

import pytest
import torch
from conftest import resolved
from pydantic import ValidationError

from taskcluster.model import LanguageModel, TrainingDiverged, gpt2


def network(**changes: object) -> torch.nn.Module:
    values = resolved("model.n_layer=2", "model.n_embd=16")["model"] | changes
    del values["_target_"]
    return gpt2(vocab_size=11, longest=8, **values)


def module(net: torch.nn.Module) -> LanguageModel:
    constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
    return LanguageModel(net, partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1), constant)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # there is no trainer here
def test_loss_is_the_mean_cross_entropy_of_next_tokens() -> None:
    model = module(network())
    tokens = torch.tensor([[3, 4, 1, 5, 6, 0, 0], [2, 2, 4, 3, 1, 5, 7]])
    labels = tokens.masked_fill(tokens == 0, -100)
    loss = model.training_step({"input_ids": tokens, "labels": labels}, 0).item()

    logits = model.network(tokens).logits.tolist()
    terms = []
    for row, predictions in zip(tokens.tolist(), logits, strict=True):
        for following, prediction in zip(row[1:], predictions, strict=False):
            if following != 0:
                terms.append(math.log(sum(map(math.exp, prediction))) - prediction[following])
    assert len(terms) == 10
    assert loss == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_padding_changes_nothing_before_it() -> None:
    net = network().eval()
    tokens = torch.tensor([[3, 4, 1, 5]])
    padded = torch.tensor([[3, 4, 1, 5, 0, 0, 0]])
    torch.testing.assert_close(net(padded).logits[:, :4], net(tokens).logits)


def test_initial_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(99)
    first = network(seed=1).state_dict()
    again, other = network(seed=1).state_dict(), network(seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])


def test_weight_decay_spares_biases_and_layer_norms() -> None:
    optimizer = module(network()).configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        assert (group["weight_decay"] > 0) == all(p.ndim >= 2 for p in group["params"])
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == sum(
        p.numel() for p in network().parameters()
    )


def test_a_loss_that_is_not_finite_stops_training() -> None:
    net = network()
    net.transformer.wte.weight.data.fill_(float("nan"))
    tokens = torch.tensor([[3, 4, 1, 5]])
    with pytest.raises(TrainingDiverged, match="step 0"):
        module(net).training_step({"input_ids": tokens, "labels": tokens}, 0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_head=3 does not divide n_embd=16; use one of 1, 2, 4, 8, 16"):
        network(n_head=3)
    with pytest.raises(ValueError, match="n_positions=7 is below the longest sequence, 8 tokens"):
        network(n_positions=7)
    with pytest.raises(ValidationError, match="n_layer"):
        network(n_layer=0)
