"""Models from scratch: their sizes, their weights as a function of the seed, and what is refused."""

import pytest
import torch
from networks import ARCHITECTURES, small
from transformers import GPT2LMHeadModel, GPTNeoXForCausalLM, LlamaForCausalLM

from taskcluster.models import architecture
from taskcluster.models.architecture import blocks, takes_mask
from taskcluster.models.from_scratch import with_random_weights
from taskcluster.models.hidden_states import check
from taskcluster.validation import UserError

CLASSES = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "gpt_neox": GPTNeoXForCausalLM}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_has_the_sizes_asked_for(name: str) -> None:
    network = small(name, vocab_size=11, n_layer=3, n_head=4, n_embd=32)
    config = network.config
    assert type(network) is CLASSES[name]
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (3, 4, 32)
    assert network(torch.arange(11)[None]).logits.shape == (1, 11, 11)
    assert len(blocks(network)) == 3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_initial_weights_have_the_scale_asked_for(name: str) -> None:
    network = small(name, n_embd=64, initializer_range=0.25)
    matrices = [p for part in blocks(network) for p in part.parameters() if p.ndim == 2 and p.shape[0] == p.shape[1]]
    assert matrices
    for matrix in matrices:
        scaled = name == "gpt2" and matrix.shape == (64, 64)  # what GPT-2 adds to the residual stream, by its depth
        assert float(matrix.detach().std()) == pytest.approx(0.25 / (2 * 2) ** 0.5 if scaled else 0.25, rel=0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_blocks_of_known_architectures_are_found_by_inspection(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small(name)
    check(network)
    known, takes = blocks(network), takes_mask(network)
    monkeypatch.setattr(architecture, "KNOWN", {})
    assert [*blocks(network)] == known
    assert takes_mask(network) is takes is True


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("changes", "longest", "reason"),
    [
        ({"n_head": 3}, 8, r"model.n_head=3 does not divide n_embd=16; use one of 1, 2, 4, 8, 16"),
        ({"n_positions": 7}, 8, "model.n_positions=7 is below the longest sequence, 8 tokens"),
        ({"n_layer": 0}, 8, "model.n_layer=0: input should be greater than 0"),
        ({"initializer_range": "wide"}, 8, "model.initializer_range='wide'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, changes: dict[str, object], longest: int, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        small(name, longest=longest, **changes)


def test_rotary_positions_need_an_even_number_of_dimensions() -> None:
    with pytest.raises(UserError, match=r"n_head=16 gives rotary positions 1 of the 1 dimensions"):
        small("llama", n_head=16)
    with pytest.raises(UserError, match=r"n_head=4 gives rotary positions 1 of the 4 dimensions"):
        small("gpt_neox", n_head=4)
    with pytest.raises(UserError, match=r"n_kv_head=3 does not divide n_head=4"):
        small("llama", n_head=4, n_kv_head=3)


def test_options_of_an_architecture_reach_it() -> None:
    grouped = small("llama", n_head=4, n_kv_head=2, n_inner=40, tie_embeddings=False, rope_theta=500.0)
    assert grouped.get_submodule("model.layers.0.self_attn.k_proj").weight.shape == (8, 16)
    assert grouped.get_submodule("model.layers.0.mlp.up_proj").weight.shape == (40, 16)
    assert grouped.get_output_embeddings().weight is not grouped.get_input_embeddings().weight
    angles = {theta: small("llama", rope_theta=theta).model.rotary_emb.inv_freq for theta in (500.0, 10000.0)}
    assert not torch.equal(angles[500.0], angles[10000.0])
    assert len(small("gpt_neox", rotary=1.0).gpt_neox.rotary_emb.inv_freq) == 4  # of the 8 dimensions of a head
    assert len(small("gpt_neox").gpt_neox.rotary_emb.inv_freq) == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_weights_are_those_of_step_0_and_leave_all_else_as_it_was(name: str, dtype: torch.dtype) -> None:
    network = small(name, seed=3).to(dtype)
    network.set_attn_implementation("eager")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(99)
    made = with_random_weights(network, seed=3)
    assert float(torch.rand(())) == float(torch.rand((), generator=torch.Generator().manual_seed(99)))
    assert made.dtype is dtype
    assert made.config._attn_implementation == network.config._attn_implementation == "eager"
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())
    other = with_random_weights(network, seed=4).get_input_embeddings().weight
    assert not torch.equal(other, network.get_input_embeddings().weight)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
