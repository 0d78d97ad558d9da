"""Track the progress of this process. Long work registers here; progress displays read it.

    with doing("loading the model"): ...
    for layer in each(layers, "layer"): ...        layer 7 of 30, about 4 min

Free of torch; an item costs an addition.
"""

import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SOON = 1.0  # seconds that need no announcement


@dataclass(eq=False)
class Part:
    """A piece of work inside others. total: its number of items, 0 where nothing is counted; done: of these; first:
    those that were done when it began; note: what else to show."""

    what: str
    total: int = 0
    done: int = 0
    first: int = 0
    note: str = ""
    began: float = field(default_factory=time.monotonic)


class Stage(NamedTuple):
    """A piece of work in words. share: of it that is done, None where nothing is counted; left: estimated seconds."""

    text: str
    share: float | None = None
    left: float | None = None


_parts: list[Part] = []  # outermost first


@contextmanager
def doing(what: str, total: int = 0, done: int = 0) -> Iterator[Part]:
    """A context of work on `total` items, of which `done` are finished; the work updates `Part.done`."""
    part = Part(what, total, done, done)
    _parts.append(part)
    try:
        yield part
    finally:
        if part in _parts:  # with what an exception left inside
            del _parts[_parts.index(part) :]


def each(items: Collection[T], what: str = "") -> Iterator[T]:
    """The items, counted as they are worked through. Without a name they are steps of the work around them."""
    with doing(what, len(items)) as part:
        for item in items:
            yield item
            part.done += 1


def stages() -> list[Stage]:
    """The current stages, outermost first."""
    now, found = time.monotonic(), list[Stage]()
    inside, steps = 0.0, math.nan  # shares that are done: of the current item, and of all by unnamed steps inside
    for part in reversed([*_parts]):
        if not part.total:
            inside, steps = 0.0, math.nan
            found.append(Stage(part.what))
            continue
        share = min((part.done + inside) / part.total, 1.0) if math.isnan(steps) else steps
        progress, seconds = share - part.first / part.total, now - part.began
        left = seconds * (1 - share) / progress if progress > 0 and seconds > SOON else None
        inside, steps = share, math.nan if part.what else share
        if part.what and part.total > 1:
            number = min(int(share * part.total) + 1, part.total)
            text = ", ".join(filter(None, (f"{part.what} {number} of {part.total}", part.note)))
            found.append(Stage(text, share, left))
    return found[::-1]


def sentence() -> str:
    """The current stages in a line: "validation, layer 7 of 30, about 4 min"; "" without work."""
    return ", ".join(f"{s.text}, about {duration(s.left)}" if (s.left or 0) > SOON else s.text for s in stages())


def duration(seconds: float | None) -> str:
    """Format seconds for a reader; "" for None."""
    if seconds is None:
        return ""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes:.0f} min" if minutes < 90 else f"{hours:.1f} h"
