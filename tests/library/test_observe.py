"""A user's prompts: which states are read, and clusters and patches with known answers."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from networks import ARCHITECTURES, byte_tokenizer, small

import taskcluster as tc

COLOURS, SHAPES = ["red", "blue", "abc"], ["is", "This", "question", "a"]
PROMPTS = [f"{colour} {shape} ->" for colour in COLOURS for shape in SHAPES]
LABELS = {"colour": [colour for colour in COLOURS for _ in SHAPES], "shape": SHAPES * len(COLOURS)}
SITES = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "heads")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture(scope="module")
def llama(tokenizer: Any) -> Any:
    return small("llama", vocab_size=len(tokenizer), n_embd=32)


@pytest.fixture(scope="module")
def seen(llama: Any, tokenizer: Any) -> tc.PromptObservation:
    return tc.observe(
        llama, tokenizer, PROMPTS, LABELS, positions={"colour": LABELS["colour"], "end": "last"}, sites=SITES
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_are_those_of_each_prompt_alone(architecture: str, tokenizer: Any) -> None:
    network = small(architecture, vocab_size=len(tokenizer))
    seen = tc.observe(network, tokenizer, PROMPTS, final_norm=True)
    for number, prompt in enumerate(PROMPTS[:5]):
        alone = network(**tokenizer(prompt, return_tensors="pt"), output_hidden_states=True)
        expected = torch.stack([layer[0, -1] for layer in alone.hidden_states])
        torch.testing.assert_close(seen.at()[:, number], expected, rtol=1e-4, atol=1e-4)
        assert seen.answer_tokens[number] == alone.logits[0, -1].argmax()
        torch.testing.assert_close(seen.logits()[number], alone.logits[0, -1], rtol=1e-4, atol=1e-4)


def test_sites_add_up_to_the_residual_stream(seen: tc.PromptObservation, llama: Any) -> None:
    before, middle, after = seen.at(site="resid_pre"), seen.at(site="resid_mid"), seen.at()
    torch.testing.assert_close(before, after[:-1])
    torch.testing.assert_close(before + seen.at(site="attn_out"), middle)
    torch.testing.assert_close(middle + seen.at(site="mlp_out"), after[1:])
    joined = seen.at(site="heads")[0].flatten(1)
    torch.testing.assert_close(llama.model.layers[0].self_attn.o_proj(joined), seen.at(site="attn_out")[0])


def test_a_site_that_the_architecture_lacks_is_one_sentence(tokenizer: Any) -> None:
    parallel = small("gpt_neox", vocab_size=len(tokenizer), parallel=True)
    with pytest.raises(tc.UserError, match=r"sites=resid_mid: .* in parallel"):
        tc.observe(parallel, tokenizer, PROMPTS, sites=["resid_mid"])
    assert tc.observe(parallel, tokenizer, PROMPTS, sites=["attn_out"]).at(site="attn_out").shape[:2] == (2, 12)


@pytest.mark.parametrize(
    ("position", "token"),
    [
        *[("last", -1), (0, 0), (-2, -2), ("->", -1), ((0, 1), 0), (lambda tokens: 1, 1), ([0] * 12, 0)],
        *[(np.int64(1), 1), (np.zeros(12, dtype=int), 0), (polars.Series(["->"] * 12), -1)],
    ],
    ids=["last", "first", "from the end", "text", "characters", "function", "each", "number", "array", "series"],
)
def test_positions(position: Any, token: int, llama: Any, tokenizer: Any) -> None:
    seen = tc.observe(llama, tokenizer, PROMPTS, positions={"here": position})
    assert seen.prompts.reads("here").tolist() == [range(len(tokens))[token] for tokens in seen.tokens]


def test_chats_are_rendered_up_to_the_reply(llama: Any) -> None:
    chatty = byte_tokenizer()
    chatty.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}->"
    chats = [[{"role": "user", "content": prompt}] for prompt in ("red", "blue")]
    assert tc.observe(llama, chatty, chats).texts == ["red ->", "blue ->"]


def test_labels_texts_and_answers_of_ones_own(seen: tc.PromptObservation) -> None:
    assert seen.texts == PROMPTS
    assert seen.label("colour") == LABELS["colour"]
    assert seen.table()["token at end"].to_list() == [tokens[-1] for tokens in seen.tokens]
    assert "<mark" in seen.page()


def test_the_embedding_of_a_word_clusters_by_the_word(seen: tc.PromptObservation) -> None:
    scores = seen.cluster("colour", position="end")
    assert scores.layers == [0, 1, 2]
    assert scores.ari[0] == 0  # the same token everywhere
    at_word = tc.observe(seen.model, seen.prompts.tokenizer, PROMPTS, LABELS, positions=0)
    assert at_word.cluster("colour").ari[0] == 1
    assert at_word.cluster("colour").n_clusters == 3
    assert at_word.cluster("shape").ari[0] < at_word.cluster("shape").chance[0] + 0.01


def test_states_that_are_not_finite_have_no_score(seen: tc.PromptObservation) -> None:
    at_word = tc.observe(seen.network, seen.prompts.tokenizer, PROMPTS, LABELS, positions=0)
    at_word.at()[1, 3, 0] = float("nan")
    assert np.isnan(at_word.cluster("colour").ari).tolist() == [False, True, False]


def test_clusters_within_a_label_and_by_head(seen: tc.PromptObservation) -> None:
    doubled = tc.observe(
        seen.model,
        seen.prompts.tokenizer,
        PROMPTS * 2,
        {name: values * 2 for name, values in LABELS.items()},
        positions=0,
        sites=["heads"],
    )
    within = doubled.cluster("colour", within="shape")
    assert within.ari[0] == 1
    by_head = doubled.cluster("colour", site="heads")
    assert by_head.ari.shape == (2, 2)
    assert by_head.table().columns == ["layer", "head", "ari", "chance", "n_clusters"]
    assert by_head.plot().to_dict()
    assert within.plot().to_dict()


def test_the_state_of_the_source_before_the_output_gives_its_answer(seen: tc.PromptObservation) -> None:
    effects = seen.patch("colour", edit="replace", position="end")
    table = effects.table()
    assert effects.within == ("shape",)
    assert table["layer"].to_list() == [0, 1, 2]
    assert table["flipped"][-1] == 1
    assert table["kept"][-1] == 0
    assert table["kept"][0] == 1  # "->" has the embedding that it had
    assert effects.plot().to_dict()


def test_an_edit_runs_the_model_again(seen: tc.PromptObservation) -> None:
    same = seen.edited("end", {1: lambda states, which: states})
    torch.testing.assert_close(same.states["end"], seen.states["end"])
    other = seen.edited("end", {1: lambda states, which: -states})
    assert not torch.allclose(other.states["end"][2], seen.states["end"][2])
    assert torch.equal(other.logits("end").argmax(1), other.answer_tokens)  # edited as well
    with pytest.raises(tc.UserError, match="all edits to `edited` at once"):
        other.patch("colour")


def test_expected_answers_are_scored(llama: Any, tokenizer: Any, seen: tc.PromptObservation) -> None:
    right = tc.observe(llama, tokenizer, PROMPTS, answers=["red"] * 12)
    expected = -right.logits().log_softmax(1)[:, tokenizer("red")["input_ids"][0]]
    torch.testing.assert_close(right.losses, expected, rtol=1e-4, atol=1e-5)
    assert right.loss == pytest.approx(float(expected.mean()), rel=1e-4)


def test_saved_states_come_back_without_the_model(seen: tc.PromptObservation, tmp_path: Path) -> None:
    again = tc.load_states(seen.save(tmp_path / "states"))
    for site in ("resid_post", *SITES):
        assert torch.equal(again.at(site=site), seen.at(site=site))
    assert (again.texts, again.answers, again.label("colour")) == (seen.texts, seen.answers, seen.label("colour"))
    np.testing.assert_array_equal(again.cluster("colour").ari, seen.cluster("colour").ari)
    with pytest.raises(tc.UserError, match="without their model"):
        again.patch("colour")
    seen.save(tmp_path / "states")  # the same again
    tuned = copy.deepcopy(seen.model)
    tuned.get_output_embeddings().weight.data *= 2
    other = tc.observe(
        tuned, seen.prompts.tokenizer, PROMPTS, positions={"colour": LABELS["colour"], "end": "last"}, sites=SITES
    )
    with pytest.raises(tc.UserError, match="choose another folder"):
        other.save(tmp_path / "states")


def test_a_killed_observation_resumes(
    llama: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskcluster.library import observing
    from taskcluster.measures import edited_prompts

    monkeypatch.setattr(edited_prompts, "AT_ONCE", 4)
    whole = tc.observe(llama, tokenizer, PROMPTS, LABELS, folder=tmp_path)
    files = sorted(tmp_path.glob("batch=*"))
    assert len(files) == 3
    files[1].unlink()
    (tmp_path / "batch=00001.partial").write_bytes(b"half")
    run: list[int] = []
    batch = observing.run_batch
    monkeypatch.setattr(observing, "run_batch", lambda *given: run.append(1) or batch(*given))
    again = tc.observe(llama, tokenizer, PROMPTS, LABELS, folder=tmp_path)
    assert len(run) == 1
    assert torch.equal(again.at(), whole.at())
    files[1].unlink()
    with pytest.raises(tc.UserError, match="lacks states of its 12 prompts"):
        tc.load_states(tmp_path)
    files[1].write_bytes(b"half")
    with pytest.raises(tc.UserError, match="cannot be read"):
        tc.load_states(tmp_path)
    assert torch.equal(tc.observe(llama, tokenizer, PROMPTS, LABELS, folder=tmp_path).at(), whole.at())
    with pytest.raises(tc.UserError, match="another folder"):
        tc.observe(llama, tokenizer, PROMPTS[:6], folder=tmp_path)
    with pytest.raises(tc.UserError, match="another folder"):
        tc.observe(llama, tokenizer, PROMPTS, LABELS, answers=["red"] * 12, folder=tmp_path)
    tuned = copy.deepcopy(llama)
    tuned.model.layers[1].mlp.down_proj.weight.data *= 1.5  # the embedding is the same
    with pytest.raises(tc.UserError, match="another folder"):
        tc.observe(tuned, tokenizer, PROMPTS, LABELS, folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"labels": {"colour": ["red"]}}, r"labels\['colour'\] has 1 values for 12 prompts"),
        ({"positions": "green"}, "'green' is not in prompt 0"),
        ({"positions": 40}, "=40 is outside prompt 0"),
        ({"positions": (90, 95)}, "contains no token of prompt 0"),
        ({"positions": [0, 1]}, "has 2 entries for 12 prompts"),
        ({"positions": {}}, r"positions=\{\}: give"),
        ({"positions": {0: "last"}}, "with texts as names"),
        ({"positions": 1.5}, "is not a position"),
        ({"positions": ("red", "blue")}, "or a list with one of these per prompt"),
        ({"positions": (0, 1, 2)}, "is not a position"),
        ({"positions": (2, 2)}, "contains no token of prompt 0"),
        ({"positions": lambda tokens: tokens.index("Ġblue")}, r"fails on prompt 0 \('red is ->'\) with ValueError"),
        ({"positions": lambda tokens: None}, "=None is not a position"),
        ({"sites": ["resid_mi"]}, "did you mean 'resid_mid'"),
        ({"sites": None}, "sites=None: choose from"),
        ({"answers": ["red"]}, "answers has 1 entries for 12 prompts"),
        ({"answers": [1] * 12}, r"answers\[0\]=1 has no token"),
        ({"labels": ["red"] * 12}, "labels is of type list"),
        ({"labels": {"colour": 3}}, "has 1 values for 12 prompts"),
        ({"labels": {"colour": [*range(11), float("nan")]}}, r"labels\['colour'\] has nan for prompt 11"),
        ({"labels": {"colour": [None, *range(11)]}}, r"labels\['colour'\] has None for prompt 0"),
        ({"labels": {"colour": [["red"]] * 12}}, r"labels\['colour'\] has \['red'\] for prompt 0"),
        ({"labels": {"answer": [*range(12)]}}, "labels has the name 'answer'"),
        ({"labels": {1: [*range(12)]}}, "labels has the name 1"),
        ({"prompts": ["red", None]}, "prompt 1 is neither a text nor a chat, but of type NoneType"),
        ({"prompts": [{"role": "user", "content": "red"}]}, "but of type dict"),
        ({"folder": __file__}, "is a file; choose another folder"),
        ({"prompts": ["a", ""]}, "has no token"),
        ({"prompts": []}, "non-empty list"),
        ({"prompts": [[{"role": "user", "content": "red"}]]}, "has no chat template"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], sentence: str, llama: Any, tokenizer: Any) -> None:
    with pytest.raises(tc.UserError, match=sentence):
        tc.observe(llama, tokenizer, **{"prompts": PROMPTS, **arguments})


def test_a_prompt_that_is_longer_than_the_model_reads_is_refused(tokenizer: Any) -> None:
    with pytest.raises(tc.UserError, match=r"prompt 1 has \d+ tokens, but the model reads at most \d+"):
        tc.observe(small("gpt2", vocab_size=len(tokenizer)), tokenizer, ["red", "red " * 2000])


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (lambda seen: seen.cluster("color"), "did you mean 'colour'"),
        (lambda seen: seen.cluster("colour", n_clusters=13), "n_clusters=13 exceeds the 12 states"),
        (lambda seen: seen.cluster("colour", within="shape"), "only one state per value within 'shape'"),
        (lambda seen: seen.cluster("colour", within="colour"), "has fewer than two values within"),
        (lambda seen: seen.cluster("colour", position="start"), "choose from colour, end"),
        (lambda seen: seen.patch("colour", within="shape"), "no two prompts differ"),  # one a colour and shape
        (lambda seen: seen.patch("colour", layers=[3]), "has layers 0 to 2"),
        (lambda seen: seen.patch("colour", layers=[]), r"layers=\[\]: give a list"),
        (lambda seen: seen.patch("colour", n_pairs=0), "n_pairs=0: give a number from 1 on"),
        (lambda seen: seen.patch("colour", alpha=float("nan")), "alpha=nan: give a finite number"),
        (lambda seen: seen.patch("colour", edit="put"), "choose from add, centroid, replace"),
        (lambda seen: seen.cluster("colour", within=["shape"]), r"label=\['shape'\] is unknown"),
        (lambda seen: seen.cluster("colour", n_clusters=0), "n_clusters=0: give a number from 1 on"),
        (lambda seen: seen.cluster("colour", site="mlp"), "site='mlp' was not read; choose from resid_post"),
        (lambda seen: seen.edited("start", {}), "choose from colour, end"),
        (lambda seen: seen.edited("end", {1: lambda states, which: None}), "the edit of layer 1 returns NoneType"),
        (lambda seen: seen.edited("end", {1: lambda states, which: states[:, :3]}), r"returns \(12, 3\) for states"),
        (lambda seen: seen.patch("colour", within="size"), "is not another label"),
        (lambda seen: tc.load_states("nowhere"), "contains no observation"),
        (lambda seen: tc.load_states(__file__), "contains no observation"),
    ],
)
def test_wrong_questions_are_one_sentence(question: Any, sentence: str, seen: tc.PromptObservation) -> None:
    with pytest.raises(tc.UserError, match=sentence):
        question(seen)


@pytest.mark.parametrize(
    "given",
    [
        {"group": [np.int64(k % 2) for k in range(12)]},
        {"group": torch.arange(12) % 2},
        {"group": [torch.tensor(k % 2) for k in range(12)]},
        polars.DataFrame({"group": [0, 1] * 6}),
    ],
    ids=["numpy numbers", "a tensor", "tensors", "a table"],
)
def test_labels_of_any_library(given: Any, llama: Any, tokenizer: Any, tmp_path: Path) -> None:
    seen = tc.observe(llama, tokenizer, iter(PROMPTS), given)
    assert seen.cluster("group").n_clusters == 2
    assert tc.load_states(seen.save(tmp_path)).label("group") == [0, 1] * 6


def test_values_whose_states_cannot_disagree_do_not_count(llama: Any, tokenizer: Any) -> None:
    """Clusters of one state each, as many as the label's values, would be right at any layer."""
    prompts = [f"{first} {second}" for first in ("red", "blue", "abc") for second in ("a", "is", "->", "This")]
    labels = {"kind": [0, 1, 0, 1, *range(2, 10)], "group": [0] * 4 + [1] * 8}
    alone = tc.observe(llama, tokenizer, prompts[:4], {"kind": [0, 1, 0, 1]}).cluster("kind")
    within = tc.observe(llama, tokenizer, prompts, labels).cluster("kind", within="group")
    np.testing.assert_array_equal(within.ari, alone.ari)
    assert within.n_clusters == 2


def test_a_layer_alone_is_patched(seen: tc.PromptObservation) -> None:
    assert seen.patch("colour", layers=1).table()["layer"].to_list() == [1]


def test_a_run_refuses_what_it_does_not_have(trained: Any) -> None:
    run = tc.load_run(trained.path)
    with pytest.raises(tc.UserError, match="split='other': choose from train, val"):
        run.observe("other")
    for positions in ("demonstrations", ["end"], []):
        with pytest.raises(tc.UserError, match="choose from instruction_end, input, answer"):
            run.observe(positions=positions)  # type: ignore[arg-type]
    shared = run.observe(positions="instruction_end")
    assert shared.table().columns == ["prompt", "answer", "loss"]
    with pytest.raises(tc.UserError, match="prompts share their states at instruction_end"):
        shared.patch("task")
    assert shared.page().count("<mark") == len(shared.label("task", "instruction_end"))


def test_a_run_is_observed_like_prompts(trained: Any) -> None:
    run = tc.load_run(trained.path)
    seen = run.observe("val")
    assert seen.accuracy == run.measure()["val/accuracy"]
    task = run.data.family.tasks[int(seen.label("task", "input")[0])]
    assert task.mapping[seen.label("x", "input")[0]] == seen.label("y", "input")[0]
    assert seen.texts[0].startswith(seen.prompts.texts_at("instruction_end")[0])
    right = seen.answer_tokens == seen.prompts.answers
    assert torch.equal(right, seen.correct)
    assert seen.cluster("task", position="instruction_end").ari[-1] == pytest.approx(
        run.measure()[f"ari/val/layer_{run.config.model.arguments['n_layer']}"], abs=1e-9
    )
    effects = seen.patch("task", edit="replace", within="x", position="input").table()
    assert effects["flipped"][-1] == 1
