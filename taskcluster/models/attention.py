"""Attention in which an objective hides tokens from others, or lets no gradient flow between them.

in:  a network with scaled dot-product attention; among its inputs `hidden_keys`, `detached_keys` or `weights_kept`
out: the same network, whose attention applies them

They travel as keyword arguments of the network, which transformers hands to the attention of every block.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from taskcluster.models.architecture import REFUSALS, accepted, sample
from taskcluster.validation import UserError

NAME = "selective"

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def selective_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    hidden_keys: Tensor | None = None,
    detached_keys: tuple[Tensor, Tensor] | None = None,
    weights_kept: list[Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention of query (B, H, Q, d) and key, value (B, H, K, d).

    hidden_keys: bool (B, Q' >= Q, K), True where a query may not attend to a key; of queries, the last Q count.
    detached_keys: bool (B, Q) and (B, K): from what these queries read at these keys no gradient returns to the keys
    and values. The numbers of the forward pass stay the same.
    weights_kept: gets the attention weights (B, H, Q, K) of each block.
    """
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    n = query.shape[2]
    if attention_mask is None and (hidden_keys is not None or weights_kept is not None):  # a plain causal mask
        size = key.shape[2]
        attention_mask = torch.ones(size, size, dtype=torch.bool, device=key.device).tril()[None, None, -n:]
    if hidden_keys is not None:
        attention_mask = attention_mask & ~hidden_keys[:, None, -n:]  # type: ignore[operator]  # no longer None
    if weights_kept is not None:
        keys_of_heads = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        logits = query @ keys_of_heads.transpose(2, 3) * (options.get("scaling") or query.shape[3] ** -0.5)
        weights_kept.append(logits.where(attention_mask, -torch.inf).softmax(-1))

    def output(*states: Tensor) -> Tensor:
        attended: Tensor = attend(module, *states, attention_mask, **options)[0]
        return attended

    if detached_keys is None:
        return output(query, key, value), None
    queries, keys = detached_keys[0][:, :, None, None], detached_keys[1][:, None, :, None]
    if not torch.compiler.is_compiling():
        return _Detached.apply(query, key, value, queries, keys, output), None
    constant = (torch.where(keys, states.detach(), states) for states in (key, value))  # compiled code has no _Detached
    return torch.where(queries, output(query, *constant), output(query, key, value)), None


class _Detached(torch.autograd.Function):
    """Attention once; its gradient in two parts, of which that of `queries` does not reach `keys`."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, queries: Tensor, keys: Tensor, attend: Attend
    ) -> Tensor:
        with torch.enable_grad():
            ctx.states = [states.detach().requires_grad_() for states in (query, key, value)]
            ctx.output = attend(*ctx.states)
        ctx.queries, ctx.keys = queries, keys
        return ctx.output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        other, own = (gradient.masked_fill(rows, 0) for rows in (ctx.queries, ~ctx.queries))
        whole = torch.autograd.grad(ctx.output, ctx.states, other, retain_graph=True)
        query, *read = torch.autograd.grad(ctx.output, ctx.states, own)
        parts = (query, *(states.masked_fill(ctx.keys, 0) for states in read))
        return *(one + part for one, part in zip(whole, parts, strict=True)), None, None, None


AttentionInterface.register(NAME, selective_attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


@torch.no_grad()
def attend_selectively(network: PreTrainedModel, key: str = "objective") -> None:
    """Install this attention in a network. Raises UserError, naming the configuration `key` that needs it, for a
    network that does not pass the arguments on."""
    network.set_attn_implementation(NAME)
    inputs, training = sample(network, 1, 3), network.training
    network.eval()
    nothing = torch.zeros(1, 3, 3, dtype=torch.bool, device=network.device)
    first = nothing.clone()
    first[:, 2, 0] = True  # hidden from the last token
    try:
        clean, same, other = (
            network(**accepted(network, {**inputs, **given})).logits
            for given in ({}, {"hidden_keys": nothing}, {"hidden_keys": first})
        )
        works = torch.equal(clean, same) and torch.equal(clean[:, :2], other[:, :2])
        works = works and not torch.equal(clean[:, 2], other[:, 2])
    except REFUSALS:
        works = False
    network.train(training)
    if not works:
        raise UserError(
            f"{key}: the attention of {type(network).__name__} does not accept a mask; choose model=gpt2, "
            "llama or gpt_neox, or leave out what needs a mask"
        )
