"""Token sequences: [I ; x ; y] and back."""

import torch

from taskcluster.data.tokenizer import PAD, SEP, Rows, Tokenizer
from taskcluster.tasks.custom import custom_family
from taskcluster.tasks.family import Example, TaskFamily

SPECS = [
    {"regexes": ["ab{1,3}[xy]{1,2}"], "mapping": {"red": "blue", "x": "x"}},
    {"regexes": ["cb{1,3}[xy]{1,2}"], "mapping": {"red": "red"}},
]
FAMILY = custom_family(SPECS, 5, holdout="instruction", val_fraction=0.2, seed=0)
TOKENIZER = Tokenizer(FAMILY)
EXAMPLES = [Example(0, "abx", "red", "blue", 0), Example(0, "abx", "x", "x", 0), Example(1, "cbbbxy", "red", "red", 1)]


def decoded(rows: Rows) -> list[tuple[list[str], list[str]]]:
    """(tokens, targets) of every row."""

    def names(tokens: torch.Tensor, row: int) -> list[str]:
        return TOKENIZER.decode(tokens[rows.row_of == row].tolist())

    return [(names(rows.tokens, row), names(rows.targets, row)) for row in range(len(rows))]


def test_a_row_is_an_instruction_the_separator_and_its_inputs() -> None:
    rows = TOKENIZER.rows(EXAMPLES, shared=True)
    assert decoded(rows) == [
        (["a", "b", "x", "SEP", "red", "x"], ["b", "x", "SEP", "PAD", "blue", "x"]),
        ([*"cbbbxy", "SEP", "red"], [*"bbbxy", "SEP", "PAD", "red"]),
    ]
    assert len(rows) == 2
    assert rows.lengths.tolist() == [6, 8]
    assert rows.counts[:-1].tolist() == [2, 1]
    assert rows.task_ids[:-1].tolist() == [0, 1]


def test_each_example_can_have_a_row_of_its_own() -> None:
    rows = TOKENIZER.rows(EXAMPLES, shared=False)
    assert [tokens for tokens, _ in decoded(rows)] == [
        ["a", "b", "x", "SEP", "red"],
        ["a", "b", "x", "SEP", "x"],
        [*"cbbbxy", "SEP", "red"],
    ]


def test_symbols_inputs_and_outputs_of_one_name_are_different_tokens() -> None:
    rows = TOKENIZER.rows([EXAMPLES[1]], shared=True)
    symbol, x, y = rows.tokens[2], rows.tokens[4], rows.targets[4]
    assert len({int(symbol), int(x), int(y)}) == 3
    assert len(TOKENIZER) == 2 + len("abcxy") + len({"red", "x"}) + len({"blue", "x", "red"})


def test_the_row_that_stands_for_no_token_comes_last() -> None:
    rows = TOKENIZER.rows(EXAMPLES, shared=True)
    assert (int(rows.tokens[-1]), int(rows.targets[-1]), int(rows.row_of[-1])) == (PAD, PAD, len(rows))


def test_the_inputs_of_all_examples_are_found(default_family: TaskFamily) -> None:
    examples = default_family.split()["val"]
    tokenizer = Tokenizer(default_family)
    for shared in (True, False):
        rows = tokenizer.rows(examples, shared)
        at = rows.examples
        assert tokenizer.decode(rows.tokens[at].tolist()) == [example.x for example in examples]
        assert tokenizer.decode(rows.targets[at].tolist()) == [example.y for example in examples]
        assert rows.task_ids[rows.row_of[at]].tolist() == [example.task_id for example in examples]
        separators = (rows.starts + rows.separators)[:-1]
        assert torch.equal(rows.tokens[separators], torch.full((len(rows),), SEP, dtype=torch.int32))
