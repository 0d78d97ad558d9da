"""Which patterns match a string, and how many strings a pattern has: tasks/language.py beside two libraries.

    python benchmarks/language.py        # less than a minute

interegular and greenery turn each pattern into a finite-state machine. All three agree on every answer; the run fails
where they do not.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import greenery
import interegular
import rstr
import yaml
from rich.console import Console
from rich.table import Table

from taskcluster.runs.options import CONF
from taskcluster.tasks.language import Automaton
from taskcluster.tasks.regex import random_family

STRINGS_PER_TASK = 20
COUNTED = 10  # patterns whose strings are counted

SLOWEST = 200  # tasks beyond which greenery is left out: it takes minutes


def owners_by(machine: Callable[[str], Any], patterns: Sequence[str], strings: Sequence[str]) -> list[set[int]]:
    machines = [machine(pattern) for pattern in patterns]
    return [{k for k, one in enumerate(machines) if one.accepts(string)} for string in strings]


def ours(patterns: Sequence[str], strings: Sequence[str]) -> list[set[int]]:
    automaton = Automaton(patterns)
    return [automaton.owners(string) for string in strings]


def counts_by(count: Callable[[str], int], patterns: Sequence[str]) -> list[int]:
    return [count(pattern) for pattern in patterns]


def timed(act: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = act(*arguments)
    return time.perf_counter() - began, answer


def main() -> None:
    table = Table("tasks", "question", "ours, s", "interegular, s", "greenery, s")
    options = yaml.safe_load((CONF / "task" / "regex.yaml").read_text(encoding="utf-8")) | {"seed": 0}
    del options["_target_"]
    machines = [lambda p: interegular.parse_pattern(p).to_fsm(), lambda p: greenery.parse(p).to_fsm()]
    for n_tasks in (50, 500):
        patterns = [task.descriptions[0] for task in random_family(**options | {"n_tasks": n_tasks}).tasks]
        strings = [rstr.Rstr(random.Random(k)).xeger(p) for k, p in enumerate(patterns * STRINGS_PER_TASK)]
        peers = machines if n_tasks <= SLOWEST else machines[:1]
        found = [timed(ours, patterns, strings)]
        found += [timed(owners_by, machine, patterns, strings) for machine in peers]
        add(table, n_tasks, f"owners of {len(strings)} strings", found)
        some = patterns[:COUNTED]
        counted = [timed(counts_by, lambda pattern: Automaton([pattern]).count(), some)]
        counted += [timed(counts_by, lambda pattern, of=machine: len(of(pattern)), some) for machine in peers]
        add(table, n_tasks, f"strings of {COUNTED} patterns", counted)
    Console().print(table)


def add(table: Table, n_tasks: int, question: str, found: Sequence[tuple[float, Any]]) -> None:
    assert all(answer == found[0][1] for _, answer in found), f"answers differ: {question}"
    seconds = [f"{second:.3f}" for second, _ in found]
    table.add_row(str(n_tasks), question, *seconds, *["-"] * (3 - len(seconds)))


if __name__ == "__main__":
    main()
