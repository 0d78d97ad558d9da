"""The network and its training; its loss is that of data/test_batches.py."""

from functools import partial

import pytest
import torch
from conftest import bare_trainer
from pydantic import ValidationError

from taskcluster.data.batches import Packer
from taskcluster.data.prompts import Labels, Prompt
from taskcluster.data.rows import rows_of
from taskcluster.models.gpt2 import gpt2
from taskcluster.models.schedulers import constant
from taskcluster.models.training_module import LanguageModel, TrainingDiverged
from taskcluster.operations.command_line.cli import composed


def network(**changes: object) -> torch.nn.Module:
    values = composed("model.n_layer=2", "model.n_embd=16")["model"] | changes
    del values["_target_"]
    return gpt2(vocab_size=11, longest=8, **values)


def module(net: torch.nn.Module) -> LanguageModel:
    training = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1), partial(constant, warmup=0.0, max_steps=9)
    return LanguageModel(net, *training, seed=0)


def test_initial_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(99)
    first = network(seed=1).state_dict()
    again, other = network(seed=1).state_dict(), network(seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])


def test_initial_weights_have_the_scale_asked_for() -> None:
    weights = network(n_embd=64, initializer_range=0.3).transformer.h[0].mlp.c_fc.weight.detach()
    assert float(weights.std()) == pytest.approx(0.3, rel=0.05)


def test_matrices_of_the_blocks_embeddings_and_vectors_are_three_groups() -> None:
    net = network()
    groups = module(net).configure_optimizers()["optimizer"].param_groups
    matrices, embeddings, vectors = (set(group["params"]) for group in groups)
    assert embeddings == {net.transformer.wte.weight, net.transformer.wpe.weight}
    assert net.transformer.h[1].mlp.c_fc.weight in matrices
    assert net.transformer.ln_f.weight in vectors


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
    rows = rows_of([Prompt([3, 1, 5, 7], (2, 3), (3, 4), Labels(0, 0, 0, 0, 0))], shared=True)
    batch = Packer(rows, "sequence", torch.device("cpu"))(torch.tensor([0]))
    with pytest.raises(TrainingDiverged, match="step 0"):
        diverging = module(net)
        diverging.trainer = bare_trainer()
        diverging.training_step(batch, 0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_head=3 does not divide n_embd=16; use one of 1, 2, 4, 8, 16"):
        network(n_head=3)
    with pytest.raises(ValueError, match="n_positions=7 is below the longest sequence, 8 tokens"):
        network(n_positions=7)
    with pytest.raises(ValidationError, match="n_layer"):
        network(n_layer=0)
