"""Read and edit the states of every layer at some places of a batch, in one forward pass.

in:  a Hugging Face causal LM, its inputs of (B, T), places: M lines and M columns of that grid
out: its output, and hidden states (L+1, M, D)

Layer 0 is the embedding output, layer l the output of block l. As in transformers' `output_hidden_states`, the last
layer is read after the final norm by default. Only the requested places of each layer are kept, so memory does not grow
with T, and logits can be limited to some places.

An edit of layer l changes the states that block l+1 reads, and by them all that follows; in the last layer it changes
the output of the last block, before the final norm.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from taskcluster.models.architecture import accepted, alike, blocks, is_placed, output_layer, sample
from taskcluster.validation import UserError

Places = tuple[Tensor, Tensor] | tuple[slice, slice]
Edits = Mapping[int, Callable[[Tensor], Tensor]]  # layer -> a function of its states (M, D) at the edited places

EVERYWHERE: Places = (slice(None), slice(None))
AT_THE_END: Places = (slice(None), slice(-1, None))
NO_EDITS: Edits = {}


def forward_with_states(
    network: PreTrainedModel,
    places: Places,
    edits: Edits = NO_EDITS,
    at: Places | None = None,
    *,
    final_norm: bool = True,
    logits_at: Places | None = None,
    parts: Sequence[nn.Module] | None = None,
    **inputs: Any,
) -> tuple[Any, Tensor]:
    """The network's output for its `inputs`, and its hidden states at `places`, (L+1, M, D).

    edits: layers whose states change `at` these places (at `places` if left out), each by a function of the states
    there; what is read of a layer is read after its edit. final_norm: whether the last layer is read after the final
    norm, or as the last block gives it. logits_at: K places whose logits are computed, (1, K, V), instead of (B, T, V).
    parts: the blocks of the network, by default those that `blocks` finds.
    Raises UserError for a layer that the network does not have.
    """
    parts, states = parts or blocks(network), list[Tensor]()
    edited = places if at is None else at
    if unknown := edits.keys() - {*range(len(parts) + 1)}:
        raise UserError(f"layer {min(unknown)} cannot be edited; the model has layers 0 to {len(parts)}")

    def changed(whole: Tensor, layer: int) -> Tensor:
        if layer not in edits:
            return whole
        whole = whole.clone()
        whole[edited] = edits[layer](whole[edited])
        return whole

    def before(layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            whole = changed(args[0] if args else kwargs["hidden_states"], layer)
            states.append(whole[places])
            return ((whole, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": whole})

        return hook

    def after_last(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        whole = changed(output if isinstance(output, Tensor) else output[0], len(parts))
        if not final_norm:
            states.append(whole[places])
        return whole if isinstance(output, Tensor) else (whole, *output[1:])

    def before_head(module: nn.Module, args: tuple[Any, ...]) -> Any:
        if final_norm:
            states.append(args[0][places])
        return None if logits_at is None else (args[0][logits_at][None], *args[1:])

    with ExitStack() as hooks:
        for layer, part in enumerate(parts):
            hooks.enter_context(part.register_forward_pre_hook(before(layer), with_kwargs=True))
        if len(parts) in edits or not final_norm:
            hooks.enter_context(parts[-1].register_forward_hook(after_last))
        hooks.enter_context(output_layer(network).register_forward_pre_hook(before_head))
        output = network(**accepted(network, inputs))
    return output, torch.stack([state.to(states[0].device) for state in states])  # blocks may be on several devices


def logits_at(network: PreTrainedModel, places: Places, **inputs: Any) -> Tensor:
    """The logits at K places alone, (K, V): the output layer sees no others, in either direction."""

    def gather(module: nn.Module, args: tuple[Any, ...]) -> Any:
        return args[0][places][None], *args[1:]

    with output_layer(network).register_forward_pre_hook(gather):
        logits: Tensor = network(**accepted(network, inputs)).logits
    return logits[0]


def numbers_held(network: PreTrainedModel, length: int, lines: int = 1, skip: int = 0, logits: int = 1) -> int:
    """How many numbers a pass holds at once, besides the weights, of lines of so many tokens after `skip` that the
    network need not read again, and so many logits: states of a layer, the attention of a layer, and logits with their
    logarithms."""
    config = network.config
    width, heads = getattr(config, "hidden_size", 0), getattr(config, "num_attention_heads", 0)
    return int(lines * length * (16 * width + heads * (skip + length)) + 3 * logits * config.vocab_size)


@contextmanager
def evaluation(network: PreTrainedModel) -> Iterator[None]:
    """A context without dropout, and without compiled code, which ignores hooks. Afterwards every module is in the mode
    that it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def check(network: PreTrainedModel) -> None:
    """Raise UserError for what is not a causal LM with weights, for a network whose logits are NaN, or whose states
    cannot be read or edited: an identity edit must leave every logit bit-equal, and an edit of a layer's states must
    change some logit.
    """
    config = getattr(network, "config", None)
    if not isinstance(network, nn.Module) or config is None or getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"model: {type(network).__name__} is not a causal LM of Hugging Face; load one with "
            "AutoModelForCausalLM.from_pretrained"
        )
    output_layer(network)  # refuses a network without one
    if network.device.type == "meta" and not is_placed(network):
        raise UserError("model: its weights are on the meta device; load them with from_pretrained")
    with evaluation(network):
        reason = _unreadable(network)
    if reason:
        raise UserError(
            f"model: the states of {type(network).__name__} cannot be read and edited, as {reason}; choose another "
            "model or, if it is loaded in float16, model.dtype=float32"
        )


def _unreadable(network: PreTrainedModel) -> str:
    """Return why states cannot be read and edited, "" if they can."""
    layers = range(len(blocks(network)) + 1)
    inputs: dict[str, Any] = {**sample(network, 2, 3)}
    places = torch.tensor([0, 1], device=network.device), torch.tensor([1, 2], device=network.device)
    clean: Tensor = network(**accepted(network, inputs)).logits  # (B, T, V)
    if clean.isnan().any():
        return f"its logits are NaN in {clean.dtype}"
    later = {**inputs, "input_ids": inputs["input_ids"].clone()}
    later["input_ids"][:, -1] = 0
    if not alike(network(**accepted(network, later)).logits[:, :-1], clean[:, :-1]):
        return "a token's logits depend on the tokens after it"
    same, states = forward_with_states(network, places, dict.fromkeys(layers, lambda state: state), None, **inputs)
    if len(states) != len(layers):
        return f"{len(states)} layers were seen of {len(layers)}"
    if not torch.equal(same.logits, clean):
        return "an identity edit changes its logits"
    if not alike(logits_at(network, places, **inputs), clean[places]):
        return "its output layer does not process each position independently"
    n = len(layers) - 1
    for layer in sorted({0, 1, n // 2, n - 1, n}):  # each is a pass
        other, _ = forward_with_states(network, places, {layer: lambda state: state.flip(-1) + 1}, None, **inputs)
        if torch.equal(other.logits[places], clean[places]):
            return f"an edit of layer {layer} leaves all of its logits unchanged"
    return ""
