"""taskcluster-train answers any words with a sentence and never with a traceback."""

import os
from collections.abc import Callable

from conftest import SMALL, Outcome, default
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REFUSED = "model.n_head=3"  # does not divide the width: no command here gets as far as training

KEYS = sorted(
    {"seed", "name", "ckpt_path", "resume", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "experiment"}
    | {f"{group}.{key}" for group, node in default().items() if isinstance(node, dict) for key in node}
    | {group for group, node in default().items() if isinstance(node, dict)}
)
ODD = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
GRAMMAR = """0,1|[|]|{a:1}|{a|${x}|${|'|"|null|nan|-1|1e999|range(0,3)|choice(1,2)|interval(0,1)|glob(*)|~|a=b|a b|\\|
\t|\n|josé|true|[1,[2]]|a,b'|!!python/name:os|$|#|{}|[]|<|@"""
VALUES = st.one_of(ODD, st.sampled_from(GRAMMAR.split("|")))
OVERRIDES = st.one_of(
    st.tuples(st.sampled_from(["", "+", "++", "~"]), st.sampled_from(KEYS), st.just("="), VALUES).map("".join),
    st.tuples(st.sampled_from(["~", "", "+"]), st.sampled_from(KEYS)).map("".join),
    st.tuples(ODD, st.sampled_from(["", "=", "=="]), VALUES).map("".join),
)
FLAGS = st.sampled_from(
    [
        *("-m", "--multirun", "--cfg", "job", "--cfg=hydra", "-c", "--resolve", "--config-dir", "--config-name=train"),
        *("-x", "-", "--", "-cd", "--package=model", "--info", "--hydra-help", "--version", "--shell-completion"),
        "--experimental-rerun",
    ]
)
LINES = st.lists(st.one_of(OVERRIDES, OVERRIDES, OVERRIDES, FLAGS), max_size=5)

often = settings(
    max_examples=int(os.environ.get("FRONT_ENDS", "15")), deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@often
@given(line=LINES)
def test_any_command_line_is_answered_in_words(taskcluster_train: Callable[..., Outcome], line: list[str]) -> None:
    outcome = taskcluster_train(*SMALL, *line, REFUSED)
    assert outcome.exit_code in (0, 2), (line, outcome)
    assert "Traceback" not in outcome.out + outcome.err, (line, outcome)
    if outcome.exit_code == 2:
        assert outcome.err.startswith("taskcluster-train: "), (line, outcome)
        if not {"-m", "--multirun"} & set(line):
            assert len(outcome.err.splitlines()) == 1, (line, outcome)
