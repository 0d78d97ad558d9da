"""Models of other architectures, and models as their users left them: compiled, in training, on no device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from networks import byte_tokenizer, small

import taskcluster as tc

TOKENIZER = byte_tokenizer()
PROMPTS = ["red is ->", "This is a question: abc red -> blue.", "abc a", "blue question 😀 abc"]
LABELS = {"even": [0, 1, 0, 1]}

WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(TOKENIZER)}
LARGE = {**WIDE, "intermediate_size": 32, "initializer_range": 0.3}


def built(name: str, config: str, **keys: Any) -> Any:
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, config)(**keys)).eval()


BUILT: dict[str, Callable[[], Any]] = {
    "opt": lambda: built("OPTForCausalLM", "OPTConfig", ffn_dim=32, word_embed_proj_dim=16, init_std=0.3, **WIDE),
    "bloom": lambda: built("BloomForCausalLM", "BloomConfig", n_layer=2, n_head=2, initializer_range=0.3, **WIDE),
    "mistral": lambda: built("MistralForCausalLM", "MistralConfig", num_key_value_heads=1, sliding_window=4, **LARGE),
    "falcon": lambda: built("FalconForCausalLM", "FalconConfig", initializer_range=0.3, **WIDE),
}


@pytest.mark.parametrize("name", BUILT)
def test_states_and_patches_are_those_of_each_prompt_alone(name: str) -> None:
    model = BUILT[name]()
    seen = tc.observe(model, TOKENIZER, PROMPTS, positions={"second": 1, "end": "last"}, final_norm=True)
    for number, prompt in enumerate(PROMPTS):
        alone = model(TOKENIZER(prompt, return_tensors="pt")["input_ids"], output_hidden_states=True)
        expected = torch.stack([layer[0, -1] for layer in alone.hidden_states])
        torch.testing.assert_close(seen.at("end")[:, number], expected, rtol=1e-4, atol=1e-4)
    table = tc.observe(model, TOKENIZER, PROMPTS, LABELS).patch("even", edit="replace").table()
    assert table["flipped"][-1] == 1
    assert table["kept"][-1] == 0


def test_an_mlp_to_which_attention_is_added_in_place_is_read_before() -> None:
    seen = tc.observe(BUILT["falcon"](), TOKENIZER, PROMPTS, sites=["resid_pre", "attn_out", "mlp_out"])
    added = seen.at(site="resid_pre") + seen.at(site="attn_out") + seen.at(site="mlp_out")
    torch.testing.assert_close(added, seen.at()[1:])


def test_large_states_do_not_hide_a_norm_after_attention() -> None:
    gemma = built("Gemma2ForCausalLM", "Gemma2Config", num_key_value_heads=1, head_dim=8, **LARGE).bfloat16()
    gemma.get_input_embeddings().weight.data[:, 0] = 1e4
    with pytest.raises(tc.UserError, match=r"sites=attn_out: .* do not add up"):
        tc.observe(gemma, TOKENIZER, PROMPTS, sites=["attn_out"])


def test_an_edit_reaches_the_middle_of_its_block() -> None:
    model = small("llama", vocab_size=len(TOKENIZER))
    seen = tc.observe(model, TOKENIZER, PROMPTS, sites=["resid_pre", "resid_mid", "attn_out"])
    edited: Any = seen.edited("last", {1: lambda states, which: 3 * states})
    torch.testing.assert_close(
        edited.at(site="resid_pre") + edited.at(site="attn_out"), edited.at(site="resid_mid"), rtol=1e-5, atol=1e-5
    )


def test_a_model_in_training_is_read_without_dropout_and_left_as_it_was() -> None:
    dropping = {"hidden_dropout": 0.5, "attention_dropout": 0.5, "use_parallel_residual": False}
    model = built("GPTNeoXForCausalLM", "GPTNeoXConfig", **dropping, **LARGE)
    expected = tc.observe(model, TOKENIZER, PROMPTS, sites=["resid_mid"])
    model.train().gpt_neox.layers[0].eval()
    modes = [module.training for module in model.modules()]
    seen = tc.observe(model, TOKENIZER, PROMPTS, sites=["resid_mid"])
    assert torch.equal(seen.at(site="resid_mid"), expected.at(site="resid_mid"))
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_model_is_read_like_any_other(in_place: bool) -> None:
    model = small("llama", vocab_size=len(TOKENIZER))
    expected = tc.observe(model, TOKENIZER, PROMPTS).at()
    compiled: Any = model.compile(backend="eager") or model if in_place else torch.compile(model, backend="eager")
    assert torch.equal(tc.observe(compiled, TOKENIZER, PROMPTS).at(), expected)


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "a name": (lambda: "gpt2", {}, "str is not a causal LM of Hugging Face"),
    "encoder and decoder": (
        lambda: built("T5ForConditionalGeneration", "T5Config", d_model=16, num_layers=1, d_ff=16, vocab_size=300),
        {},
        "T5ForConditionalGeneration is not a causal LM",
    ),
    "an encoder": (lambda: built("BertForMaskedLM", "BertConfig", **LARGE), {}, "depend on the tokens after it"),
    "no output layer": (
        lambda: built("GPT2Model", "GPT2Config", n_embd=16, n_layer=1, n_head=2, vocab_size=300),
        {},
        "load it with AutoModelForCausalLM",
    ),
    "no weights": (lambda: small("llama").to("meta"), {}, "on the meta device"),
    "few embeddings": (lambda: small("llama", vocab_size=20), {}, r"prompt 0 has token \d+ .* embeddings for 20"),
    "no attention": (
        lambda: built("MambaForCausalLM", "MambaConfig", hidden_size=8, num_hidden_layers=1, vocab_size=300),
        {"sites": ["heads"]},
        "leave heads out of sites",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(case: str) -> None:
    make, arguments, sentence = REFUSED[case]
    with pytest.raises(tc.UserError, match=sentence):
        tc.observe(make(), TOKENIZER, PROMPTS, **arguments)
