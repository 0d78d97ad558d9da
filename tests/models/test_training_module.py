"""The network and its training; its loss is that of data/test_batches.py."""

from functools import partial

import pytest
import torch
from conftest import bare_trainer
from networks import small

from taskcluster.data.batches import Packer
from taskcluster.data.prompts import Labels, Prompt
from taskcluster.data.rows import rows_of
from taskcluster.models.schedulers import constant
from taskcluster.models.training_module import LanguageModel, TrainingDiverged


def module(net: torch.nn.Module) -> LanguageModel:
    training = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1), partial(constant, warmup=0.0, max_steps=9)
    return LanguageModel(net, *training, seed=0)


def test_matrices_embeddings_and_vectors_are_three_groups_and_weight_decay_spares_the_last() -> None:
    net = small("gpt2", vocab_size=11, longest=8)
    groups = module(net).configure_optimizers()["optimizer"].param_groups
    matrices, embeddings, vectors = (set(group["params"]) for group in groups)
    assert embeddings == {net.transformer.wte.weight, net.transformer.wpe.weight}
    assert net.transformer.h[1].mlp.c_fc.weight in matrices
    assert net.transformer.ln_f.weight in vectors
    assert {*net.parameters()} == matrices | embeddings | vectors
    assert [group["weight_decay"] > 0 for group in groups] == [True, True, False]


def test_a_loss_that_is_not_finite_stops_training() -> None:
    net = small("gpt2", vocab_size=11, longest=8)
    net.transformer.wte.weight.data.fill_(float("nan"))
    rows = rows_of([Prompt([3, 1, 5, 7], (2, 3), (3, 4), Labels(0, 0, 0, 0, 0))], shared=True)
    batch = Packer(rows, "sequence", torch.device("cpu"))(torch.tensor([0]))
    with pytest.raises(TrainingDiverged, match="step 0"):
        diverging = module(net)
        diverging.trainer = bare_trainer()
        diverging.training_step(batch, 0)
