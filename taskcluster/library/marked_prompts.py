"""Prompts as HTML, the read tokens marked."""

import html
from collections.abc import Mapping, Sequence

from taskcluster.data.tokenized import PART, TokenizedPrompts

STYLE = (
    "<style>.tc-prompts p{margin:.3em 0;white-space:pre-wrap;overflow-wrap:anywhere;font-family:monospace}"
    ".tc-prompts mark{background:#ffd54f;color:#000;border-radius:2px}</style>"
)


def marked_prompts(prompts: TokenizedPrompts, n: int | None = None) -> str:
    """A paragraph for each prompt, or for each of the first n; a mark names the positions that are read there."""
    marks: list[dict[int, list[str]]] = [{} for _ in range(len(prompts))]
    for position, examples in prompts.examples.items():
        for example, read in zip(examples.tolist(), prompts.reads(position).tolist(), strict=True):
            marks[example].setdefault(read, []).append(position)
    lines = [_marked(pieces, marks[k]) for k, pieces in enumerate(prompts.pieces[:n])]
    more = f"<p>and {len(prompts) - len(lines)} more</p>" if len(lines) < len(prompts) else ""
    return f"{STYLE}<div class='tc-prompts'>{''.join(lines)}{more}</div>"


def _marked(pieces: Sequence[str], marks: Mapping[int, Sequence[str]]) -> str:
    parts = [
        f"<mark title='{html.escape(', '.join(marks[k]), quote=True)}'>{html.escape(piece or PART)}</mark>"
        if k in marks
        else html.escape(piece)
        for k, piece in enumerate(pieces)
    ]
    return f"<p>{''.join(parts)}</p>"
