"""One observation of a model: a network and a split of the probe set in, states, labels, loss and answers out.

in:  a network, a datamodule with its probe set, the positions whose states are wanted
out: Observation: states {position: (L+1, N, D)}, labels {position: {name: (N,)}}, loss, which answers are right
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from taskcluster.data.batches import Hidden, LossOn, Packer, Padding, shared_prefix_length
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position, Rows
from taskcluster.data.tokenized import TokenizedPrompts, prompts_of_rows
from taskcluster.measures.edited_prompts import Answers, AppliedEdits, Edit, answers_of, logits_of, with_indices
from taskcluster.models.architecture import is_placed
from taskcluster.models.hidden_states import evaluation, forward_with_states, numbers_held
from taskcluster.models.prefix_cache import prefix_cache
from taskcluster.validation import UserError
from taskcluster.work import each

CHUNK = 256  # rows a forward pass, at most
AT_ONCE = 2**27  # numbers that a forward pass may hold besides the weights: half a GiB in float32
ANSWERS = "answers"  # most results of an observation that `once` keeps
SHORTEST = 8  # shortest shared prefix worth computing separately

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    def __call__(self, work: Callable[[T], R], items: Sequence[T], /) -> list[R]:
        """The results of `work` for each item, in order."""


def in_turn(work: Callable[[T], R], items: Sequence[T], /) -> list[R]:
    return [work(item) for item in each(items, "part")]


def _no_prompts() -> TokenizedPrompts:
    raise UserError("this observation has no prompts")


@dataclass(frozen=True, repr=False)
class Observation:
    """What a network computes for one split of the probe set.

    Attributes:
        split: "train" or "val".
        states: {position: (L+1, N, D) float32}, on the network's device, or on the CPU for one that is placed by
            model.device_map or model.bits. N is the number of instructions at "instruction_end", where a state cannot
            depend on x, of the demonstrations of all instructions at "demonstrations", and the number of examples
            elsewhere. Layer 0 is the embedding output, layer l the output of block l; the last layer is after the final
            norm, unless it was observed with `final_norm=False`.
        labels: {position: {name: (N,)}} on the CPU, with the names "task", "description" and "instruction" and, except
            at "instruction_end" and "demonstrations", "x" and "y"; at "demonstrations" also "demonstration", from 1.
        n_tasks: number of tasks in the family; a small probe set may lack some of them.
        loss: mean over predictions, in nats.
        correct: for each of E examples, whether all tokens of y are right, given I and x, (E,).
        edited: edited(position, {layer: edit}) runs the network again with edited states: an Observation of the same
            rows. An edit is a function of states (M, D) and of their indices among the N, (M,).
        network: the network itself.
        read_prompts: makes `prompts`.
        values: {label: the value of each code in `labels`}, of x, of y, and of tasks that have names.
        applied: the edits under which the network ran; None without.
        executor: computes work for several items, n_workers of them at a time.
        kept: what `once` computed.
    """

    split: str
    states: Mapping[str, Tensor]
    labels: Mapping[str, Mapping[str, Tensor]]
    n_tasks: int
    loss: float
    correct: Tensor
    edited: Callable[[Any, Mapping[int, Edit]], "Observation"]
    network: PreTrainedModel
    read_prompts: Callable[[], TokenizedPrompts] = _no_prompts
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    applied: AppliedEdits | None = None
    executor: Executor = in_turn
    n_workers: int = 1
    kept: dict[Hashable, Any] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{position} {tuple(states.shape)}" for position, states in self.states.items())
        return f"{type(self).__name__} of {self.split}: states at {shapes}"

    @property
    def accuracy(self) -> float:
        return float(self.correct.sum()) / len(self.correct)

    @property
    def prompts(self) -> TokenizedPrompts:
        """The prompts: token ids, texts, token strings, and which token is read for each state."""
        return self.once("prompts", self.read_prompts)

    @property
    def texts(self) -> list[str]:
        """The text of each prompt, up to the token that predicts the answer. `prompts.texts_at(position)` has what is
        read for each state."""
        return self.prompts.texts

    @property
    def tokens(self) -> list[list[str]]:
        """The token strings of each prompt. `prompts.reads(position)` says which of them is read for each state."""
        return self.prompts.strings

    @property
    def answers(self) -> list[str]:
        """The likeliest next token of each prompt, as text."""
        return self.prompts.words(self.answer_tokens.tolist())

    @property
    def answer_tokens(self) -> Tensor:
        """The likeliest next token of each prompt, (E,), on the CPU. The network runs again, prompt by prompt, when
        answers or losses are first asked for."""
        return self._answers.tokens

    @property
    def losses(self) -> Tensor:
        """The loss of the first token of each right answer, (E,), in nats, on the CPU; NaN where none is known."""
        return self._answers.losses

    @property
    def _answers(self) -> Answers:
        return self.once(ANSWERS, lambda: answers_of(self.network, self.prompts, self.applied))

    def label(self, name: str, position: str) -> list[Any]:
        """The values of a label, for each state at a position: x, y and the names of tasks as texts, others as
        numbers."""
        codes = self.labels[position][name].tolist()
        return [self.values[name][code] for code in codes] if name in self.values else codes

    def logits(self, position: str) -> Tensor:
        """The logits at a position, for each state, (N, V) float32, on the CPU. The network runs again, prompt by
        prompt."""
        return logits_of(self.network, self.prompts, position, self.applied)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute`, called only the first time with `key`: what several measures of an observation need.

        The result is kept as long as the observation, so it should be small.
        """
        if key not in self.kept:
            self.kept[key] = compute()
        return cast(T, self.kept[key])

    def by_layer(self, states: Tensor, work: Callable[[Tensor], list[T]]) -> list[T]:
        """`work` of states (L+1, N, D), one result a layer. The workers of the executor divide the layers."""
        n = min(self.n_workers, len(states))
        parts = self.executor(work, [states[k::n] for k in range(n)])
        return [parts[k % n][k // n] for k in range(len(states))]


@torch.no_grad()
def observe(
    network: PreTrainedModel,
    data: SequenceDataModule,
    split: str = "val",
    positions: Sequence[Position] = ("instruction_end", "input"),
    edited_at: Position = "input",
    edits: Mapping[int, Edit] | None = None,
    *,
    final_norm: bool | None = None,
    executor: Executor = in_turn,
    n_workers: int = 1,
) -> Observation:
    """Run `network`, without dropout, over a split of the probe set.

    Where the loss is on y alone, logits are computed at no other positions, and the tokens that all rows begin with are
    computed once.

    Args:
        network: a causal LM that was trained on `data`.
        data: the datamodule with the probe set.
        split: "train" or "val".
        positions: where to keep the states of every layer.
        edited_at: the position of the edited states.
        edits: {layer: edit}; see `Observation`.
        final_norm: whether the states of the last layer are those after the final norm, which the output layer reads,
            as in transformers; False for the residual stream as the last block leaves it. By default as `data` has it,
            data.probe_final_norm.
        executor, n_workers: see `Observation`; the executor computes the chunks of rows.

    Raises:
        UserError: an edited layer does not exist.
    """
    rows, on_answer = data.probe[split], data.loss_on == "y"
    home = torch.device("cpu") if is_placed(network) else network.device
    norm = data.probe_final_norm if final_norm is None else final_norm
    with evaluation(network):
        skip, prefix = shared_prefix(network, rows) if on_answer else (0, None)
        known: dict[str, Any] = {"past_key_values": prefix, "use_cache": True} if prefix else {}
        pack = Packer(rows, data.loss_on, network.device, data.padding, skip, width=data.longest - 1 - skip)
        run = partial(
            _run_rows, network, rows, pack, positions, edited_at, edits or {}, data.hidden, final_norm=norm, **known
        )
        n = rows_at_once(network, rows, data.loss_on, data.padding, skip)
        parts, losses, weights, correct = zip(*executor(run, torch.arange(len(rows)).split(n)), strict=True)
    return Observation(
        split=split,
        states={
            position: torch.cat([part.to(home) for part in of_position], dim=1)
            for position, of_position in zip(positions, zip(*parts, strict=True), strict=True)
        },
        labels={position: rows.labels(position) for position in positions},
        n_tasks=len(data.family.tasks),
        loss=sum(float(loss) * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights),
        correct=torch.cat([right.cpu() for right in correct]),
        edited=partial(
            observe, network, data, split, positions, final_norm=norm, executor=executor, n_workers=n_workers
        ),
        network=network,
        read_prompts=partial(
            prompts_of_rows, rows, data.tokenizer, [*positions, *([edited_at] if edits else [])], data.hidden
        ),
        values=data.family.values,
        applied=AppliedEdits(edited_at, edits) if edits else None,
        executor=executor,
        n_workers=n_workers,
    )


def _run_rows(
    network: PreTrainedModel,
    rows: Rows,
    pack: Packer,
    positions: Sequence[Position],
    edited_at: Position,
    edits: Mapping[int, Edit],
    hidden: Hidden | None,
    chosen: Tensor,
    **inputs: Any,
) -> tuple[Sequence[Tensor], Tensor, float, Tensor]:
    """States at each position, the mean loss, its weight, and which answers are right: of rows with numbers `chosen`.

    inputs: what `forward_with_states` receives besides the rows.
    """
    batch = pack(chosen)
    places = [torch.stack(batch.places(position)) for position in positions]
    line, column = torch.cat([torch.zeros(2, 0, dtype=torch.long, device=network.device), *places], dim=1)
    at, changes = None, {}
    if edits:
        at, which = batch.places(edited_at), torch.searchsorted(rows.at(edited_at), batch.tokens_at(edited_at))
        changes = {layer: partial(with_indices, edit, which) for layer, edit in edits.items()}
    logits_at = batch.predicting_y if batch.on_y else None
    inputs |= batch.inputs | ({"hidden_keys": hidden(batch.token_places)} if hidden else {})
    output, layers = forward_with_states(network, (line, column), changes, at, logits_at=logits_at, **inputs)
    states = (layers.cpu() if is_placed(network) else layers).float().split([place.shape[1] for place in places], dim=1)
    logits = output.logits[0] if batch.on_y else output.logits
    return states, batch.loss(logits), batch.total, batch.correct(logits)


def shared_prefix(network: PreTrainedModel, rows: Rows, fewer: int = 0) -> tuple[int, Cache | None]:
    """Return the number of prefix tokens that the network need not read again, and the cache that holds them."""
    n = shared_prefix_length(rows) - fewer
    shared = prefix_cache(network, rows.tokens[:n].long().to(network.device)) if n >= SHORTEST else None
    return (n, shared) if shared else (0, None)


def rows_at_once(network: PreTrainedModel, rows: Rows, loss_on: LossOn, padding: Padding | None, skip: int = 0) -> int:
    """Return the number of rows per forward pass that bounds its memory: states of a layer, the attention of a layer,
    and logits with their logarithms."""
    examples, unpadded = int(rows.counts.max()), (1, rows.lengths.max())
    lines, longest = (examples, rows.prefixes[:-1].max() + rows.reads.max()) if padding else unpadded
    length = int(longest) - skip
    logits = lines * length if loss_on == "sequence" else examples * int(rows.answers.max())
    return min(CHUNK, max(1, AT_ONCE // numbers_held(network, length, lines, skip, logits)))
