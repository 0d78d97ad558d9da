"""Batches of shared prefixes against the same sequences one by one, through transformers' own loss."""

from collections.abc import Sequence
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from taskcluster.data.batches import LossOn, Packer
from taskcluster.data.tokenizer import PAD, SEP, Rows

VOCABULARY = 12
CPU = torch.device("cpu")

Row = tuple[list[int], list[tuple[int, int]]]  # instruction, [(x, y), ...]


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_layer=2, n_head=2, n_embd=16, n_positions=64, initializer_range=0.3,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, num_hidden_layers=2, num_attention_heads=2, hidden_size=16, intermediate_size=32,
        initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def rows_of(rows: Sequence[Row]) -> Rows:
    tokens = [[*instruction, SEP, *(x for x, _ in pairs)] for instruction, pairs in rows]
    targets = [[*instruction[1:], SEP, PAD, *(y for _, y in pairs)] for instruction, pairs in rows]
    lengths = torch.tensor([*map(len, tokens), 1])
    return Rows(
        torch.tensor([*chain(*tokens), PAD]),
        torch.tensor([*chain(*targets), PAD]),
        torch.arange(len(lengths)).repeat_interleave(lengths),
        lengths.cumsum(0) - lengths,
        torch.tensor([*(len(instruction) for instruction, _ in rows), 0]),
        torch.tensor([*(len(pairs) for _, pairs in rows), 0]),
        torch.zeros(len(lengths)),
    )


def loss_and_gradient(network: PreTrainedModel, loss: Tensor) -> tuple[float, Tensor]:
    network.zero_grad()
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in network.parameters()])


def transformers_loss(network: PreTrainedModel, rows: Sequence[Row], loss_on: LossOn) -> Tensor:
    """The loss of all sequences [I ; x ; y], padded on the right, as a user of transformers would take it."""
    sequences = [[*instruction, SEP, x, y] for instruction, pairs in rows for x, y in pairs]
    longest = max(map(len, sequences))
    tokens = torch.tensor([sequence + [PAD] * (longest - len(sequence)) for sequence in sequences])
    ends = torch.tensor([len(sequence) - 1 for sequence in sequences])[:, None]
    columns = torch.arange(longest)
    labels = tokens.masked_fill(columns > ends if loss_on == "sequence" else columns != ends, -100)
    return network(input_ids=tokens, labels=labels).loss


token = st.integers(2, VOCABULARY - 1)
row = st.tuples(st.lists(token, min_size=1, max_size=30), st.lists(st.tuples(token, token), min_size=1, max_size=7))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=12), loss_on=st.sampled_from(["sequence", "y"]), data=st.data())
@pytest.mark.parametrize("make", [gpt2, llama])
def test_loss_and_gradient_are_those_of_the_sequences_one_by_one(make, rows: list[Row], loss_on: LossOn, data) -> None:
    network = make().train()
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12))  # repeats, as between epochs
    expected, gradient = loss_and_gradient(network, transformers_loss(network, [rows[k] for k in chosen], loss_on))
    batch = Packer(rows_of(rows), loss_on, CPU)(torch.tensor(chosen))
    loss, own_gradient = loss_and_gradient(network, batch.loss(network(**batch.inputs).logits))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (own_gradient - gradient).norm() < 1e-5 * gradient.norm() + 1e-7


ROWS: list[Row] = [([2 + (k + j) % 9 for j in range(1 + 5 * k % 17)], [(3, 4)] * (1 + k % 5)) for k in range(23)]


def test_processes_add_up_to_the_whole_batch() -> None:
    """The mean of what the processes' losses give, as DDP takes it, is the gradient of one process's whole batch."""
    network, pack, chosen = gpt2(), Packer(rows_of(ROWS), "sequence", CPU), torch.arange(23)
    losses, gradients = zip(
        *(
            loss_and_gradient(network, batch.loss(network(**batch.inputs).logits))
            for batch in (pack(chosen, rank, world_size=3) for rank in range(3))
        ),
        strict=True,
    )
    whole = pack(chosen)
    loss, gradient = loss_and_gradient(network, whole.loss(network(**whole.inputs).logits))
    assert sum(losses) / 3 == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(sum(gradients) / 3, gradient, rtol=1e-4, atol=1e-6)


def test_named_places_come_in_the_order_of_the_rows() -> None:
    rows = rows_of(ROWS)
    batch = Packer(rows, "sequence", CPU)(torch.arange(23))
    assert batch.tokens.shape[0] < 23  # some share a line
    ends, inputs = batch.places("instruction_end"), batch.places("input")
    assert torch.equal(batch.origin[ends], (rows.starts + rows.separators)[:-1])
    assert torch.equal(batch.origin[inputs], rows.examples)
    assert torch.equal(batch.positions[ends], rows.separators[:-1])
    assert torch.equal(batch.positions[inputs], rows.separators[rows.row_of[rows.examples]] + 1)


def test_every_place_sees_its_own_prefix_and_itself_alone() -> None:
    batch = Packer(rows_of([([5, 6], [(7, 8), (9, 8)]), ([4], [(7, 8)])]), "sequence", CPU)(torch.arange(2))
    assert batch.tokens.tolist() == [[5, 6, SEP, 7, 9, 4, SEP, 7]]
    seen = [[int(k) for k in line.nonzero()] for line in batch.mask[0, 0]]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [5], [5, 6], [5, 6, 7]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 3, 0, 1, 2]]
