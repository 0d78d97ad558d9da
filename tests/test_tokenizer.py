"""Token sequences: [I ; x ; y] and back."""

from taskcluster.tasks import Example, TaskFamily
from taskcluster.tasks.regex import custom_family
from taskcluster.tokenizer import PAD, SEP, Tokenizer

SPECS = [
    {"regexes": ["ab{1,3}[xy]{1,2}"], "mapping": {"red": "blue", "x": "x"}},
    {"regexes": ["cb{1,3}[xy]{1,2}"], "mapping": {"red": "red"}},
]
FAMILY = custom_family(SPECS, 5, holdout="instruction", val_fraction=0.2, seed=0)


def test_a_sequence_is_instruction_separator_x_y() -> None:
    tokenizer = Tokenizer(FAMILY)
    tokens = tokenizer.encode(Example(0, "abx", "x", "blue"))
    assert tokenizer.decode(tokens) == ["a", "b", "x", "SEP", "x", "blue"]
    assert tokens[3] == SEP


def test_symbols_inputs_and_outputs_of_one_name_are_different_tokens() -> None:
    tokenizer = Tokenizer(FAMILY)
    _, _, symbol, _, x, y = tokenizer.encode(Example(0, "abx", "x", "x"))
    assert len({symbol, x, y}) == 3
    assert len(tokenizer) == 2 + len("abcxy") + len({"red", "x"}) + len({"blue", "x", "red"})


def test_rows_are_padded_on_the_right_and_cut_to_their_longest() -> None:
    tokenizer = Tokenizer(FAMILY)
    sequences = tokenizer.sequences([Example(0, "abx", "red", "blue"), Example(1, "cbbbxy", "red", "red")])
    assert sequences.tokens.shape == (2, 9)
    assert sequences.tokens[0, 6:].tolist() == [PAD] * 3
    assert sequences.separators.tolist() == [3, 6]
    assert sequences[slice(0, 1)].tokens.shape == (1, 6)


def test_named_positions_hold_the_separator_and_the_input(default_family: TaskFamily) -> None:
    examples = default_family.split()["val"][:500]
    tokenizer = Tokenizer(default_family)
    sequences = tokenizer.sequences(examples)
    rows = range(len(examples))
    assert set(sequences.tokens[rows, sequences.index_of("instruction_end")].tolist()) == {SEP}
    at_input = sequences.tokens[rows, sequences.index_of("input")].tolist()
    assert tokenizer.decode(at_input) == [example.x for example in examples]
    assert at_input == sequences.x_ids.tolist()
    after = sequences.tokens[rows, sequences.index_of("input") + 1].tolist()
    assert tokenizer.decode(after) == [example.y for example in examples]
    assert after == sequences.y_ids.tolist()
    assert sequences.task_ids.tolist() == [example.task_id for example in examples]
