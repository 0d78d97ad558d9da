"""Long work reports its stage, its progress and the time left."""

import time
from collections.abc import Iterator
from io import StringIO

import pytest

from taskcluster.operations.live import speaking
from taskcluster.operations.processes import streams
from taskcluster.work import doing, each, sentence, stages


@pytest.fixture(autouse=True)
def _idle() -> Iterator[None]:
    assert sentence() == ""
    yield
    assert sentence() == ""


def test_a_counted_loop_reports_its_item_and_the_time_left() -> None:
    with doing("validation"), doing("layer", 30) as part:
        assert sentence() == "validation, layer 1 of 30"
        part.done, part.began = 6, part.began - 60
        assert sentence() == "validation, layer 7 of 30, about 4 min"
    assert [sentence() for _ in each("abc", "part")] == ["part 1 of 3", "part 2 of 3", "part 3 of 3"]


def test_steps_that_were_done_before_do_not_count_as_fast_ones() -> None:
    with doing("step", 100, done=50) as part:
        part.done, part.began, part.note = 60, part.began - 20, "loss 1.5"
        assert sentence() == "step 61 of 100, loss 1.5, about 80 s"


def test_an_unnamed_loop_is_progress_of_the_work_around_it() -> None:
    with doing("layer", 10) as layers:
        layers.began -= 10
        for done, _ in enumerate(each("abcde")):
            (stage,) = stages()
            assert (stage.text, stage.share) == (f"layer {2 * done + 1} of 10", done / 5)


def test_an_error_inside_a_loop_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError) as kept, doing("outside"):
        for item in each([1, 0], "item"):
            assert 1 / item
    assert kept.value.__traceback__  # which holds on to the loop


def test_a_file_gets_plain_lines_and_short_work_none(monkeypatch: pytest.MonkeyPatch) -> None:
    log = StringIO()
    with speaking.speaking(streams.console(log), "seed=0"), doing("loading the model"):
        pass
    assert log.getvalue() == ""
    monkeypatch.setattr(speaking, "FIRST", 0.05)
    monkeypatch.setattr(speaking, "PERIOD", 0.1)
    with speaking.speaking(streams.console(log), "seed=0"), doing("loading the model"):
        end = time.monotonic() + 20
        while log.getvalue().count("\n") < 2 and time.monotonic() < end:
            time.sleep(0.02)
    assert {*log.getvalue().splitlines()} == {"seed=0  loading the model"}
