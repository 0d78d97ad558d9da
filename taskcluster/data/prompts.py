"""Turn examples into prompts: text with three spans, and the tokens of each span.

in:  Examples of a task family, a template such as "{instruction} {x} ->{y}", a tokenizer
out: Prompts: token ids, in which x and y are spans of one or more tokens, and integer labels

Three positions are named: `instruction_end`, the last token before x begins, where a state
cannot depend on x; `input`, the last token of x; `answer`, the token that predicts the first token of y, which is the
same as `input` unless there is text between x and y. Of few-shot prompts there is a fourth, `demonstrations`: the last
token of each demonstration's label. Where instructions hold the place of x, as in "What is the capital
of {x}?", the template has {instruction} and {y} alone.

The whole text is tokenized at once, as another model's tokenizer expects it, and spans are found from the places of
characters. A token belongs to a span if it holds at least one of its characters: the space before a word, say, comes
along with it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenizers import Encoding
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from taskcluster.tasks.family import SLOT, Example, TaskFamily
from taskcluster.tasks.prompting import Layout, fixed_texts

AT_ONCE = 4096  # texts given to the tokenizer at once: its output takes a hundred times the memory of the tokens
NAMED = 5  # missing parts that a sentence names

Span = tuple[int, int]  # first, and one past the last


class Rendered(NamedTuple):
    """A text with the character spans of x and y. before: where the last character of the instruction
    that precedes x is, or (0, 0) where instructions hold the place of x."""

    text: str
    x: Span
    y: Span
    before: Span


class Template:
    """Fixed text before, between and after an instruction, x and y, in this order; or, for instructions that hold the
    place of x, before, between and after an instruction and y.

    prefix: text in front of everything, as it is. opening, closing: marks around what precedes y, which is then a turn
    of a conversation.

    Raises ValueError for a text that does not hold each of them once.
    """

    def __init__(self, text: str, prefix: str = "", opening: str = "", closing: str = "") -> None:
        self.text, self.prefix, self.x_inside = text, prefix, "{x}" not in text
        before, *between, self._after = fixed_texts(
            text,
            ("instruction", "y") if self.x_inside else ("instruction", "x", "y"),
            f"template={text!r} must contain {{instruction}}, {{x}} and {{y}} once each, in this order (without {{x}} "
            "if instructions contain it); write literal braces twice",
        )
        last = between[-1].rstrip() if opening or closing else between[-1]
        self._before, self._between, self._last = opening + prefix + before, between[0], last + closing
        self.begin = len(self._before)  # the place of the first character of an instruction

    def render(self, example: Example) -> Rendered:
        ahead, behind = example.instruction + self._between, ""
        if self.x_inside:
            ahead, _, behind = example.instruction.partition(SLOT)
        end = 0 if self.x_inside else len(self._before + example.instruction)
        to_x = self._before + ahead
        to_y = to_x + example.x + behind + self._last
        x, y = (len(to_x), len(to_x + example.x)), (len(to_y), len(to_y + example.y))
        return Rendered(
            to_y + example.y + self._after, x, y, before=(max(end - 1, 0) if example.instruction else end, end)
        )


class Labels(NamedTuple):
    """The numbers of a prompt's task, description, instruction, input and output in the family."""

    task: int
    description: int
    instruction: int
    x: int
    y: int


class Prompt(NamedTuple):
    """tokens: ids of the whole sequence; x, y: the tokens that hold them; labels_end: the last token of each
    demonstration's label."""

    tokens: Sequence[int]
    x: Span
    y: Span
    labels: Labels
    labels_end: Sequence[int] = ()


class Prompts:
    """Encodes the examples of one family.

    Raises ValueError for a template with {x} where instructions hold the place of x, and the other way round.
    """

    def __init__(self, family: TaskFamily, tokenizer: PreTrainedTokenizerFast, template: Template) -> None:
        if template.x_inside != family.x_inside:
            wanted = (
                "only {instruction} and {y}, because instructions contain"
                if family.x_inside
                else "{x}, because instructions lack"
            )
            raise ValueError(f"template={template.text!r} must contain {wanted} the place of x")
        self._tokenizer, self._template = tokenizer, template
        self._layout = Layout(family.layout) if family.layout else None
        self._instructions = {instruction: k for k, instruction in enumerate(family.instructions)}
        self._x = _ranks({x for task in family.tasks for x in task.mapping})
        self._y = _ranks({y for task in family.tasks for y in task.mapping.values()})

    def encode(self, examples: Sequence[Example]) -> Iterator[Prompt]:
        """Yield a prompt for each example, so that not all of them are in memory at once.

        Raises ValueError, naming the text, for one in which x or y has no token of its own, and for symbols that the
        tokenizer does not know.
        """
        for begin in range(0, len(examples), AT_ONCE):
            chunk = examples[begin : begin + AT_ONCE]
            rendered = [self._template.render(example) for example in chunk]
            yield from map(self._prompt, chunk, encoded(self._tokenizer, [one.text for one in rendered]), rendered)

    def _prompt(self, example: Example, encoding: Encoding, rendered: Rendered) -> Prompt:
        text, offsets = rendered.text, encoding.offsets
        x, y, before = (_tokens(offsets, span) for span in (rendered.x, rendered.y, rendered.before))
        if not (x and y):
            raise ValueError(f"template gives {'y' if x else 'x'} no token in {text!r}; give it a text that has one")
        if x[0] < (before[1] if before else 1):
            raise ValueError(
                f"template gives no token that ends before x begins in {text!r}; put a space or punctuation before "
                f"{{x}}"
            )
        if y[0] < x[1]:
            raise ValueError(
                f"template merges x and y into one token in {text!r}; put a space or punctuation between them"
            )
        labels = Labels(
            example.task_id,
            example.description,
            self._instructions.get(example[:2], len(self._instructions)),  # all other values share one number
            self._x[example.x],
            self._y[example.y],
        )
        firsts = [first for first, _ in offsets[: x[0]]]
        shown = self._layout.labels(example.instruction) if self._layout else ()
        ends = [bisect_left(firsts, self._template.begin + end) - 1 for _, end in shown]
        return Prompt(encoding.ids, x, y, labels, ends)


def _ranks(texts: set[str]) -> dict[str, int]:
    return {text: rank for rank, text in enumerate(sorted(texts))}


def _tokens(offsets: Sequence[Span], characters: Span) -> Span | None:
    """The tokens that hold at least one of some characters, None where there are none."""
    start, end = characters
    tokens = [token for token, (first, last) in enumerate(offsets) if first < end and start < last]
    return (tokens[0], tokens[-1] + 1) if tokens else None


def encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Encoding]:
    """Tokenize texts without truncation and padding. Raises ValueError for a text with a part that has no token.

    A tokenizer answers in one of three ways to what is not in its vocabulary: by an exception (ours does), by one token
    for all that is unknown, or by leaving it out. The last two would change prompts silently.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    token = tokenizer.unk_token or getattr(backend.model, "unk_token", None)
    unknown = backend.token_to_id(token) if token else None
    encodings: list[Encoding] = []
    try:
        encodings = backend.encode_batch(texts)
        missing = {word for pair in zip(texts, encodings, strict=True) for word in _unwritten(*pair, unknown)}
    except Exception:  # tokenizers has no kind of its own
        missing = _parts(backend, texts) - backend.get_vocab().keys()
    if missing or not encodings:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"tokenizer={tokenizer.name_or_path!r} has no token for {', '.join(map(repr, sorted(missing)[:NAMED]))}"
            f"{more}, which the prompts contain; choose tasks, data.template and data.prefix from its vocabulary; for "
            "an exported run, leave out task=, data= and experiment="
        )
    return encodings


def _unwritten(text: str, encoding: Encoding, unknown: int | None) -> list[str]:
    """The words of a text with a character that no token holds, or only the one for all that is unknown."""
    known = zip(encoding.ids, encoding.offsets, strict=True)
    written = {place for number, span in known if number != unknown for place in range(*span)}
    return [word.group() for word in re.finditer(r"\S+", text) if not written.issuperset(range(*word.span()))]


def _parts(backend: Backend, texts: Sequence[str]) -> set[str]:
    """The words or symbols between special tokens that a tokenizer looks up."""
    special = [re.escape(token.content) for token in backend.get_added_tokens_decoder().values()]
    parts = {part for text in texts for part in re.split("|".join(special) or r"(?!)", text)}
    return {piece for part in parts for piece, _ in backend.pre_tokenizer.pre_tokenize_str(part)}
