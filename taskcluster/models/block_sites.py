"""Read activations inside a block, not only its output.

in:  a causal LM, its inputs of (B, T), places: M lines and M columns of that grid
out: {site: activations at the places, layer by layer}, on the CPU

    resid_pre    the residual stream that block l reads, layers 1 to L
    resid_mid    the residual stream between its attention and its MLP, 1 to L
    resid_post   the residual stream that it writes; layer 0 is the embedding output, 0 to L
    attn_out     what its attention adds to the residual stream, 1 to L
    mlp_out      what its MLP adds, 1 to L
    heads        what each attention head gives before the output projection, 1 to L, (H, d) a place

The names are those of TransformerLens. Attention and MLP are found by the names of a block's children; `check_sites`
tests that what was found adds up to the residual stream.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from taskcluster.models.architecture import accepted, blocks, sample
from taskcluster.models.heads import projections
from taskcluster.models.hidden_states import EVERYWHERE, Places, evaluation, forward_with_states
from taskcluster.validation import UserError

Site = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "heads"]

SITES: tuple[Site, ...] = get_args(Site)
STREAM: tuple[Site, ...] = ("resid_post", "resid_pre")  # which every block has


class Part(NamedTuple):
    """The attention and the MLP of a block."""

    attention: nn.Module
    mlp: nn.Module


def parts(network: PreTrainedModel) -> list[Part]:
    """Of every block. Raises UserError where they cannot be found."""
    return [
        Part(_child(network, block, ("att",)), _child(network, block, ("mlp", "ffn", "feed_forward")))
        for block in blocks(network)
    ]


def _child(network: PreTrainedModel, block: nn.Module, words: Sequence[str]) -> nn.Module:
    """Return the only child whose name contains one of these words, norms and dropout excluded."""
    found = [
        module
        for name, module in block.named_children()
        if any(word in name.lower() for word in words) and not re.search("norm|drop|ln_", name.lower())
    ]
    if len(found) != 1:
        raise UserError(
            f"sites: the blocks of {type(network).__name__} have no single child named like {' or '.join(words)}; "
            f"choose sites from {', '.join(STREAM)}"
        )
    return found[0]


def _tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def reading_sites(
    network: PreTrainedModel, sites: Sequence[Site], places: Places
) -> Iterator[dict[Site, list[Tensor]]]:
    """A context in which every pass adds to the dictionary the activations at `places`, block after block, for
    "attn_out", "mlp_out" and "heads". The other sites follow from the states (see `forward_with_states`), resid_mid as
    what a block reads and what its attention adds to it."""
    asked = ["attn_out" if site == "resid_mid" else site for site in sites]
    seen: dict[Site, list[Tensor]] = {site: [] for site in asked if site not in STREAM}

    def keep(site: Site, whole: Tensor) -> None:
        seen[site].append(whole[places].clone())  # some blocks add to it in place

    with ExitStack() as hooks:

        def after(module: nn.Module, site: Site) -> None:
            hooks.enter_context(module.register_forward_hook(lambda module, args, output: keep(site, _tensor(output))))

        if {"attn_out", "mlp_out"} & seen.keys():
            for part in parts(network):
                for site in ("attn_out", "mlp_out"):
                    if site in seen:
                        after(part.attention if site == "attn_out" else part.mlp, site)
        if "heads" in seen:
            for projection in projections(network):
                hooks.enter_context(
                    projection.register_forward_pre_hook(
                        lambda module, args: keep(
                            "heads", args[0].unflatten(-1, (network.config.num_attention_heads, -1))
                        )
                    )
                )
        yield seen


@torch.no_grad()
def check_sites(network: PreTrainedModel, sites: Sequence[Site]) -> None:
    """Raise UserError for a site that the architecture lacks: where attention and MLP do not add up to the block's
    output, or, for resid_mid, where the MLP does not read what the attention adds (parallel blocks)."""
    asked = [site for site in sites if site in ("resid_mid", "attn_out", "mlp_out")]
    if not asked:
        return
    name, inputs = type(network).__name__, dict[str, Any](sample(network, 2, 3))
    with evaluation(network):
        with reading_sites(network, ("attn_out", "mlp_out"), EVERYWHERE) as seen:
            _, whole = forward_with_states(network, EVERYWHERE, final_norm=False, **inputs)
        serial = "resid_mid" not in asked or _mlp_reads_attention(network, inputs)
    for layer, written in enumerate(whole[1:].float()):
        summed = [whole[layer].float(), *(seen[site][layer].to(whole.device).float() for site in seen)]
        rounding = 4 * torch.finfo(whole.dtype).eps * torch.stack(summed).abs().sum(0)
        if not (torch.stack(summed).sum(0) - written).abs().le(rounding).all():
            raise UserError(
                f"sites={asked[0]}: in {name} attention and MLP do not add up to the output of a block, so what they "
                f"add cannot be read; choose from {', '.join((*STREAM, 'heads'))}"
            )
    if not serial:
        raise UserError(
            f"sites=resid_mid: the blocks of {name} run attention and MLP in parallel, without a stream between them; "
            f"choose from {', '.join(site for site in SITES if site != 'resid_mid')}"
        )


def _mlp_reads_attention(network: PreTrainedModel, inputs: dict[str, Tensor]) -> bool:
    part = parts(network)[0]
    with_it: list[Tensor] = []

    def read(module: nn.Module, args: tuple[Any, ...]) -> None:
        with_it.append(args[0])

    def double(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return 2 * output if isinstance(output, Tensor) else (2 * output[0], *output[1:])

    with part.mlp.register_forward_pre_hook(read):
        network(**accepted(network, inputs))
        with part.attention.register_forward_hook(double):
            network(**accepted(network, inputs))
    return not torch.equal(*with_it)
