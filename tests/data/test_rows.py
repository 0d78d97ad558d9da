"""Examples of rows as prompts of their own."""

import pytest
import torch

from taskcluster.data.prompts import Labels, Prompt
from taskcluster.data.rows import rows_of

# Two examples of one instruction, with x of one and of two tokens and a token before y; and one of another instruction.
PROMPTS = [
    Prompt([5, 6, 7, 20, 30, 40], (3, 4), (5, 6), Labels(0, 0, 0, 0, 0)),
    Prompt([5, 6, 7, 21, 22, 30, 41, 42], (3, 5), (6, 8), Labels(0, 0, 0, 1, 1)),
    Prompt([8, 9, 20, 43], (2, 3), (3, 4), Labels(1, 1, 1, 0, 2)),
]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("whole", "wanted", "back"),
    [
        (
            False,
            [[99, 99, 99, 8, 9, 20], [5, 6, 7, 21, 22, 30], [99, 5, 6, 7, 20, 30], [5, 6, 7, 21, 22, 30]],
            {"answer": [0, 0, 0, 0], "input": [0, 1, 1, 1], "instruction_end": [1, 3, 2, 3]},
        ),
        (
            True,
            [[99] * 4 + [8, 9, 20], [5, 6, 7, 21, 22, 30, 41], [99, 99, 5, 6, 7, 20, 30], [5, 6, 7, 21, 22, 30, 41]],
            {"answer": [0, 1, 0, 1], "input": [0, 2, 1, 2], "instruction_end": [1, 4, 2, 4]},
        ),
    ],
    ids=["up to y", "whole"],
)
def test_prompts_end_where_the_last_token_is_predicted_and_are_filled_up_on_the_left(
    shared: bool, whole: bool, wanted: list[list[int]], back: dict[str, list[int]]
) -> None:
    tokens, mask, places = rows_of(PROMPTS, shared).prompts(torch.tensor([2, 1, 0, 1]), pad=99, whole=whole)
    assert tokens.tolist() == wanted
    assert mask.tolist() == [[int(token != 99) for token in line] for line in wanted]
    assert {position: of.tolist() for position, of in places.items()} == back


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_read_up_to_a_position_ends_there(shared: bool) -> None:
    rows = rows_of(PROMPTS, shared)
    assert rows.read_at("answer") == [[5, 6, 7, 20, 30], [5, 6, 7, 21, 22, 30], [8, 9, 20]]
    assert rows.read_at("input") == [[5, 6, 7, 20], [5, 6, 7, 21, 22], [8, 9, 20]]
    assert rows.read_at("instruction_end") == [[5, 6, 7]] * (1 if shared else 2) + [[8, 9]]
