"""Prompts run again from a place on, with edited states: activation patching at the cost of what an edit can change.

in:  a causal LM, prompts (B, T) filled up on the left, and of each prompt a place, or several that follow each other
out: raw states of every layer at these places; logits of the last place of all or the last K, clean or after an edit

A first pass keeps the keys and values of every layer. After an edit of layer l, only the blocks above l are computed,
only from the first edited place on, and only the logits of the last places. Layer 0 is the embedding output, layer l
the residual stream after block l; the last layer too is taken before the final norm, since that is where an edit acts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from taskcluster.models.architecture import accepted, blocks
from taskcluster.validation import UserError


class _Kept(DynamicLayer):
    """Keys and values (B, H, T, d) of one layer, of which the last `n` places are computed again, in place."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.dtype, self.device = keys, values, keys.dtype, keys.device
        self.is_initialized, self.n = True, 0
        self._own = keys[:, :, :0], values[:, :, :0]  # of the last n places, as they were

    def begin(self, n: int) -> None:
        """The last `n` places are about to be computed again."""
        if n != self.n:
            first = self.keys.shape[2] - self.n
            self.keys[:, :, first:], self.values[:, :, first:] = self._own
            self.n, self._own = n, (self.keys[:, :, -n:].clone(), self.values[:, :, -n:].clone())

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys[:, :, -self.n :], self.values[:, :, -self.n :] = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.keys.shape[2] - self.n

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0


class Prompts:
    """B prompts (B, T) that have been run once. mask (B, T): 1 where a prompt has a token, 0 where it is filled up.

    last: K, for the logits of the last K places, (B, K, V); None for those of the last alone, (B, V). The network
    should not drop out (`eval`). Raises UserError for a network that keeps no keys and values.
    """

    @torch.no_grad()
    def __init__(self, network: PreTrainedModel, tokens: Tensor, mask: Tensor, last: int | None = None) -> None:
        self._network, self._mask, self._last = network, mask, last
        self._tokens, self._positions = tokens, (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache()
        self._forward(cache, tokens.shape[1])
        layers = [(layer.keys, layer.values) for layer in cache.layers if isinstance(layer, DynamicLayer)]
        self._kept = [_Kept(k.contiguous(), v.contiguous()) for k, v in layers if k is not None and v is not None]
        if len(self._kept) != len(blocks(network)):
            raise UserError(
                f"model: {type(network).__name__} keeps no keys and values of its layers, which interventions need; "
                "choose another model"
            )

    def at(self, back: Tensor, first: Tensor | None = None) -> "Suffixes":
        """The place `back` (B,) places before the last of each prompt; or all from `first` (B,) before the last on."""
        return Suffixes(self, back, back if first is None else first)

    @torch.no_grad()
    def again(self, layer: int, whole: Tensor) -> Tensor:
        """Logits of the last places where the states after `layer` at the last n places are `whole` (B, n, D)."""
        n, parts = whole.shape[1], blocks(self._network)
        first = min(layer, len(parts) - 1)

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return ((whole, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": whole})

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return whole if isinstance(output, Tensor) else (whole, *output[1:])

        part = parts[first]
        hook = (
            part.register_forward_pre_hook(before, with_kwargs=True)
            if layer < len(parts)
            else part.register_forward_hook(after)
        )
        try:
            with _from_block(self._network, first):
                return self._again(n)
        finally:
            hook.remove()

    @torch.no_grad()
    def clean(self, n: int) -> tuple[Tensor, Tensor]:
        """Raw states of every layer at the last n places, (L+1, B, n, D), and the logits of the last ones."""
        parts, states = blocks(self._network), list[Tensor]()

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append(args[0] if args else kwargs["hidden_states"])

        def after_last(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            states.append(output if isinstance(output, Tensor) else output[0])

        hooks = [part.register_forward_pre_hook(before, with_kwargs=True) for part in parts]
        hooks.append(parts[-1].register_forward_hook(after_last))
        try:
            logits = self._again(n)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(states), logits

    def _again(self, n: int) -> Tensor:
        for kept in self._kept:
            kept.begin(n)
        return self._forward(Cache(layers=list(self._kept)), n)

    def _forward(self, cache: Cache, n: int) -> Tensor:
        inputs = {
            "input_ids": self._tokens[:, -n:],
            "attention_mask": self._mask,
            "position_ids": self._positions[:, -n:],
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": self._last or 1,
        }
        logits: Tensor = self._network(**accepted(self._network, inputs)).logits
        return logits[:, -self._last :] if self._last else logits[:, -1]


class Suffixes:
    """Prompts from the first of some places of each on: M places in all, prompt after prompt.

    states: of these places after every layer, (L+1, M, D); logits: of the last place of each prompt, (B, V), or of the
    last K, (B, K, V), as `Prompts` has them.
    """

    def __init__(self, prompts: Prompts, back: Tensor, first: Tensor) -> None:
        self._prompts = prompts
        n, lengths = int(first.max()) + 1, first - back + 1
        self._whole, self.logits = prompts.clean(n)
        self._lines = torch.arange(len(back), device=back.device).repeat_interleave(lengths)
        within = torch.arange(len(self._lines), device=back.device) - (lengths.cumsum(0) - lengths)[self._lines]
        self._columns = n - 1 - first[self._lines] + within
        self.states = self._whole[:, self._lines, self._columns]

    def edited(self, layer: int, states: Tensor) -> Tensor:
        """Logits of the last places after the states of a layer at the places have become `states` (M, D)."""
        whole = self._whole[layer].clone()
        whole[self._lines, self._columns] = states
        return self._prompts.again(layer, whole)


@contextmanager
def _from_block(network: PreTrainedModel, first: int) -> Iterator[None]:
    """A context in which the network has no blocks below `first`."""
    parts = blocks(network)
    held = next(m for m in network.modules() if isinstance(m, nn.ModuleList) and list(m.children()) == list(parts))
    whole = held._modules
    held._modules = {str(k): part for k, part in enumerate(parts[first:])}
    try:
        yield
    finally:
        held._modules = whole
