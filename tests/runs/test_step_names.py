"""The step that the name of a checkpoint states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcluster.runs.step_names import LARGEST, step_of

STATED = {
    "step600-tokens3B": 600,
    "stage2-step1000": 1000,
    "stage1-step1000-tokens5B": 1000,
    "stage2-ingredient3-step11931-tokens50B": 11931,
    "global_step1000": 1000,
    "iter_0001000": 1000,
    "iteration-7-v2": 7,
    "ckpt-0500": 500,
    "CheckPoint_0010": 10,
    "pythia-70m-step512": 512,
    "checkpoint-2-step1000": 1000,
    "epoch=3-step=1000": 1000,
    "step1000-2024-01-05": 1000,
    "filter2-step5": 5,
    "step10k": 10_000,
    "step1.5k-tokens2.5B": 1500,
    "step1e3": 1000,
    "step10abc": 10,
    "1000steps": 1000,
    "tokens2.5B": 2_500_000_000,
    "v9": 9,
    "007": 7,
    "100k-of-100000": 100_000,
}


@pytest.mark.parametrize("name", STATED)
def test_a_name_states_its_step(name: str) -> None:
    assert step_of(name) == STATED[name]


@pytest.mark.parametrize("name", ["main", "final", "", "step-final"])
def test_a_name_without_a_number_states_none(name: str) -> None:
    assert step_of(name) is None


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("2024-01-05", "2024, 01, 05"),
        ("7b-1000", "7b, 1000"),
        ("gpt2-1000", "2, 1000"),
        ("checkpoint-epoch3-1000", "3, 1000"),
        ("step3-of-step10", "3, 10"),
        ("checkpoint-7b-1000", "7b, 1000"),  # the size of the model, or a step
        ("checkpoint_1_5000", "1, 5000"),  # epoch and update, in fairseq's names
        ("step1_000", "1, 000"),
        ("1000steps_2epochs", "1000, 2"),
        ("v1.2", "1.2"),
        ("step1.5", "1.5"),
        ("step1.23456k", "1.23456k"),
    ],
)
def test_numbers_that_do_not_say_which_is_the_step_are_named(name: str, numbers: str) -> None:
    with pytest.raises(ValueError, match=rf"does not say which number is its step \({numbers}\); name it as step1000"):
        step_of(name)


def test_a_step_that_no_journal_could_hold_is_refused() -> None:
    assert step_of(f"step{LARGEST - 1}") == LARGEST - 1
    for name in (f"step{LARGEST}", "20240105123000123456", "step9e99"):
        with pytest.raises(ValueError, match="too large for a step"):
            step_of(name)


WORDS = st.sampled_from(["step", "Step", "STEPS", "global_step", "iter", "iteration", "checkpoint", "ckpt", "CKPT"])
SIGNS = st.sampled_from(["", "-", "_", ".", "=", "--"])
BEFORE = st.sampled_from(["", "stage2-", "run_3_", "pythia-1.4b-", "2024-01-05_", "v2."])
AFTER = st.sampled_from(["", "-tokens3B", "-tokens2.5B", "_seed1", "-2024-01-05", ".final", "-7b"])
FACTORS = st.sampled_from([("", 1), ("k", 10**3), ("K", 10**3), ("M", 10**6)])


@given(WORDS, SIGNS, BEFORE, AFTER, FACTORS, st.integers(0, 10**6), st.integers(0, 4))
def test_the_number_after_the_word_is_the_step_whatever_is_around_it(
    word: str, signs: str, before: str, after: str, factor: tuple[str, int], number: int, zeros: int
) -> None:
    name = f"{before}{word}{signs}{'0' * zeros}{number}{factor[0]}{after}"
    assert step_of(name) == number * factor[1]


@given(st.text("ab-_.", max_size=5), st.text("yz-_.", max_size=5), st.integers(0, 10**9))
def test_the_only_number_of_a_name_is_the_step(before: str, after: str, number: int) -> None:
    assert step_of(f"{before}{number} {after}") == number


@given(st.lists(st.integers(0, 999), min_size=2, max_size=4, unique=True), st.sampled_from(["-", "_", "-x", "-epoch"]))
def test_several_numbers_without_a_word_are_refused(numbers: list[int], sign: str) -> None:
    with pytest.raises(ValueError, match=", ".join(map(str, numbers))):
        step_of(sign.join(map(str, numbers)))


@given(st.text(max_size=20))
def test_any_name_has_a_step_or_none_or_is_refused(name: str) -> None:
    try:
        step = step_of(name)
    except ValueError:
        return
    assert step is None or 0 <= step < LARGEST
