"""How much of some work is matrix products.

in:  work, a function
out: Products: floating-point operations counted in its products, the part of its time that they take, and what the
     rest is
"""

from collections.abc import Callable
from typing import NamedTuple

from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

NAMES = ("mm", "addmm", "bmm", "baddbmm")


class Products(NamedTuple):
    """rest: {kind of operation: its part of the time}, the largest first."""

    operations: float
    share_of_time: float
    rest: dict[str, float]


def products(work: Callable[[], object]) -> Products:
    """Runs `work` twice: torch's own count of operations, and its profiler on the CPU."""
    with FlopCounterMode(display=False) as counter:
        work()
    with profile() as recorded:
        work()
    seconds = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in recorded.key_averages()}
    whole = sum(seconds.values())
    rest = sorted(((of / whole, name) for name, of in seconds.items() if name not in NAMES), reverse=True)
    in_products = sum(seconds.get(name, 0) for name in NAMES)
    return Products(counter.get_total_flops(), in_products / whole, {name: share for share, name in rest})
