"""Batches of every layout against the same sequences one by one, through transformers' own loss."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ARCHITECTURES, small
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.batches import Batch, LossOn, Packer, Padding
from taskcluster.data.prompts import Labels, Prompt
from taskcluster.data.rows import Position, rows_of
from taskcluster.models.hidden_states import forward_with_states

VOCABULARY = 12
PAD, SEP = 0, 1
CPU = torch.device("cpu")

LAYOUTS: dict[str, dict[str, Any]] = {
    "shared_prefix": {"shared": True, "padding": None},
    "sequences": {"shared": False, "padding": None},
    "padded": {"shared": False, "padding": "right"},
    "padded on the left": {"shared": False, "padding": "left"},
    "shared rows, padded": {"shared": True, "padding": "right"},
    "shared rows, padded on the left": {"shared": True, "padding": "left"},
}
POSITIONS: tuple[Position, ...] = ("instruction_end", "input", "answer")

# The prefix, text before x included; then continuations: x, what is between, y, what is after.
Part = list[int]
Row = tuple[Part, list[tuple[Part, Part, Part, Part]]]


def prompts_of(rows: Sequence[Row]) -> list[Prompt]:
    prompts = []
    for task, (prefix, continuations) in enumerate(rows):
        for x, between, y, after in continuations:
            tokens = [*prefix, *x, *between, *y, *after]
            first, end = len(prefix), len(prefix) + len(x)
            answer = end + len(between)
            labels = Labels(task, task, task, x[0], y[0])
            prompts.append(Prompt(tokens, (first, end), (answer, answer + len(y)), labels))
    return prompts


def packed(rows: Sequence[Row], chosen: Sequence[int], loss_on: LossOn, shared: bool, padding: Padding | None) -> Batch:
    """Return a batch of the rows with numbers `chosen`."""
    if not shared:
        counts = [len(continuations) for _, continuations in rows]
        chosen = [sum(counts[:k]) + example for k in chosen for example in range(counts[k])]
    return Packer(rows_of(prompts_of(rows), shared), loss_on, CPU, padding)(torch.tensor(chosen))


def loss_and_gradient(network: PreTrainedModel, loss: Tensor) -> tuple[float, Tensor]:
    network.zero_grad()
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in network.parameters()])


def alone(rows: Sequence[Row]) -> list[tuple[Prompt, Tensor]]:
    return [(prompt, torch.tensor(prompt.tokens)[None]) for prompt in prompts_of(rows)]


def transformers_loss(network: PreTrainedModel, rows: Sequence[Row], loss_on: LossOn) -> Tensor:
    """The loss of all sequences [I ; x ; y], padded on the right, as a user of transformers would take it."""
    prompts = prompts_of(rows)
    longest = max(len(prompt.tokens) for prompt in prompts)
    tokens = torch.tensor([[*prompt.tokens, *[PAD] * (longest - len(prompt.tokens))] for prompt in prompts])
    columns = torch.arange(longest)
    ends = torch.tensor([len(prompt.tokens) for prompt in prompts])[:, None]
    first, end = (torch.tensor([prompt.y[k] for prompt in prompts])[:, None] for k in (0, 1))
    counted = columns < ends if loss_on == "sequence" else (columns >= first) & (columns < end)
    return network(input_ids=tokens, labels=tokens.masked_fill(~counted, -100)).loss


token = st.integers(2, VOCABULARY - 1)
prefix = st.lists(token, min_size=0, max_size=20).map(lambda tokens: [*tokens, SEP])
part, maybe = st.lists(token, min_size=1, max_size=3), st.lists(token, max_size=2)
row = st.tuples(prefix, st.lists(st.tuples(part, maybe, part, maybe), min_size=1, max_size=6))


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=8), loss_on=st.sampled_from(["sequence", "y"]), data=st.data())
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_the_sequences_one_by_one(
    architecture: str, layout: str, rows: list[Row], loss_on: LossOn, data
) -> None:
    network = small(architecture).train()
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))  # repeats, as between epochs
    expected, gradient = loss_and_gradient(network, transformers_loss(network, [rows[k] for k in chosen], loss_on))
    batch = packed(rows, chosen, loss_on, **LAYOUTS[layout])
    loss, own_gradient = loss_and_gradient(network, batch.loss(network(**batch.inputs).logits))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (own_gradient - gradient).norm() < 1e-5 * gradient.norm() + 1e-7


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=6))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_states_at_every_position_and_answers_are_those_of_the_sequences_one_by_one(
    architecture: str, layout: str, rows: list[Row]
) -> None:
    network = small(architecture)
    expected: dict[str, list[Tensor]] = {position: [] for position in POSITIONS}
    right = []
    for prompt, tokens in alone(rows):
        output = network(tokens, output_hidden_states=True)
        layers = torch.stack(output.hidden_states)[:, 0]
        for position, place in zip(POSITIONS, (prompt.x[0], prompt.x[1], prompt.y[0]), strict=True):
            expected[position].append(layers[:, place - 1])
        greedy = network.generate(
            tokens[:, : prompt.y[0]],
            max_new_tokens=prompt.y[1] - prompt.y[0],
            do_sample=False,
            attention_mask=torch.ones(1, prompt.y[0], dtype=torch.long),
            pad_token_id=PAD,
        )
        right.append(torch.equal(greedy[0], tokens[0, : prompt.y[1]]))
    shared = LAYOUTS[layout]["shared"]
    if shared:  # one of each row
        firsts = [sum(len(c) for _, c in rows[:k]) for k in range(len(rows))]
        expected["instruction_end"] = [expected["instruction_end"][k] for k in firsts]
    batch = packed(rows, range(len(rows)), "sequence", **LAYOUTS[layout])
    for position in POSITIONS:
        output, states = forward_with_states(network, batch.places(position), **batch.inputs)
        torch.testing.assert_close(states, torch.stack(expected[position], dim=1), rtol=1e-5, atol=1e-5)
    assert batch.correct(output.logits).tolist() == right


def test_an_answer_counts_once_all_of_its_tokens_are_right() -> None:
    rows: list[Row] = [
        ([5, SEP], [([7], [], [8, 9], [2]), ([7, 3], [4], [8, 9, 6], [])]),
        ([SEP], [([6], [], [5], [])]),
    ]
    for options in LAYOUTS.values():
        batch = packed(rows, range(len(rows)), "y", **options)
        logits = torch.nn.functional.one_hot(batch.targets, VOCABULARY).float()
        assert batch.correct(logits).tolist() == [True, True, True]
        (answers, lasts), (line, column) = batch.places("answer"), batch.places("input")
        logits[answers[1], lasts[1] + 2] = 0  # the last of three
        logits[line[2], column[2]] = 0
        assert batch.correct(logits).tolist() == [True, False, False]


ROWS: list[Row] = [
    ([*(2 + (k + j) % 9 for j in range(1 + 5 * k % 17)), SEP], [([3], [], [4], [])] * (1 + k % 5)) for k in range(23)
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_processes_add_up_to_the_whole_batch(layout: str) -> None:
    """The mean of what the processes' losses give, as DDP takes it, is the gradient of one process's whole batch."""
    network, chosen = small("gpt2"), torch.arange(23)
    shared, padding = LAYOUTS[layout]["shared"], LAYOUTS[layout]["padding"]
    pack = Packer(rows_of(prompts_of(ROWS), shared), "sequence", CPU, padding)
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


@pytest.mark.parametrize(
    ("padding", "tokens", "positions"),
    [
        ("right", [[5, SEP, 7, 8], [5, SEP, 9, PAD]], [[0, 1, 2, 3], [0, 1, 2, 0]]),
        ("left", [[5, SEP, 7, 8], [PAD, 5, SEP, 9]], [[0, 1, 2, 3], [0, 0, 1, 2]]),
    ],
)
def test_a_padded_line_is_filled_up_on_the_side_that_was_asked_for(
    padding: Padding, tokens: list[list[int]], positions: list[list[int]]
) -> None:
    rows: list[Row] = [([5, SEP], [([7, 8], [], [4], []), ([9], [], [2], [])])]
    batch = packed(rows, [0], "sequence", True, padding)
    assert batch.tokens.tolist() == tokens
    assert batch.positions.tolist() == positions
    assert batch.mask.tolist() == [[int(k != PAD) for k in line] for line in tokens]
    assert [k.tolist() for k in batch.places("instruction_end")] == [[0], [1]]


def test_every_place_sees_its_own_prefix_and_its_own_continuation_alone() -> None:
    rows: list[Row] = [([5, 6, SEP], [([7], [], [8], []), ([9], [], [8], [])]), ([4, SEP], [([7], [], [8], [])])]
    batch = packed(rows, range(2), "sequence", shared=True, padding=None)
    assert batch.tokens.tolist() == [[5, 6, SEP, 7, 9, 4, SEP, 7]]
    seen = [[int(k) for k in line.nonzero()] for line in batch.mask[0, 0]]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [5], [5, 6], [5, 6, 7]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 3, 0, 1, 2]]
