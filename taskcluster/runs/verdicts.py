"""Summarize the claims of a results.json; without decided claims, nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

WORDS = {True: "pass", False: "FAIL"}


def judged(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the claims; [] if none is decided."""
    claims: list[dict[str, Any]] = results.get("claims", [])
    return claims if any(claim["passed"] is not None for claim in claims) else []


def verdict(claim: Mapping[str, Any]) -> str:
    """ "pass", "FAIL", or why a claim is not decided, if its record says that."""
    why = claim.get("undecided")
    return WORDS.get(claim["passed"]) or ("not decided" + (f": {why}" if why else ""))


def held(passed: Sequence[bool | None]) -> str:
    """Count the decided verdicts that hold, and those not decided: "4 of 5, 1 not decided"."""
    decided = [one for one in passed if one is not None]
    parts = [f"{sum(decided)} of {len(decided)}"] if decided else []
    parts += [f"{len(passed) - len(decided)} not decided"] if len(decided) < len(passed) else []
    return ", ".join(parts) or "-"
