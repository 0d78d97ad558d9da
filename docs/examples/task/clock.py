"""Tasks that turn the hand of a clock: task k adds k hours, and its instructions say so in different words."""

from itertools import product

from taskcluster import Task, TaskFamily

MANNERS = "", "please", "now", "just", "then"
VERBS = "add", "plus", "turn by", "move on by", "later by"


def clock(n_hours: int, holdout: str, val_fraction: float, seed: int) -> TaskFamily:
    if not 2 <= n_hours <= 24:
        raise ValueError(f"n_hours={n_hours} does not fit a clock; choose 2 to 24")
    tasks = []
    for k in range(n_hours):
        instructions = tuple(f"{manner} {verb} {k} hours :".strip() for manner, verb in product(MANNERS, VERBS))
        mapping = {f"{x}h": f"{(x + k) % n_hours}h" for x in range(n_hours)}
        tasks.append(Task(k, descriptions=("MANNER VERB k hours :",), instructions=(instructions,), mapping=mapping))
    return TaskFamily(tuple(tasks), holdout, val_fraction, seed, words=True)
