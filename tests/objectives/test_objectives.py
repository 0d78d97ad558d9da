"""Objectives: what they hide, where they stop gradients, and what they add to the loss."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Outcome, composed
from networks import ARCHITECTURES, small
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster import load_run
from taskcluster.config import RunConfig
from taskcluster.data.batches import Batch, Packer
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.observation import observe
from taskcluster.models.attention import attend_selectively
from taskcluster.objectives.next_token import NextToken
from taskcluster.objectives.objective import Objective, Objectives
from taskcluster.objectives.pull import contrastive_loss
from taskcluster.training.experiment import objectives, prepare
from taskcluster.validation import UserError

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LAYOUTS = ("shared_prefix", "sequences", "padded")


def built(*overrides: str, architecture: str = "gpt2") -> tuple[SequenceDataModule, PreTrainedModel, Objectives]:
    """Data, a network whose states differ, and what the overrides ask of it."""
    config = RunConfig.of(composed(*SMALL, *overrides))
    data, _ = prepare(config)
    network = small(architecture, vocab_size=len(data.tokenizer))
    attend_selectively(network)
    return data, network, objectives(config, data, network)


def batch_of(data: SequenceDataModule, n: int = 3) -> Batch:
    return Packer(data.train_rows, data.weights, torch.device("cpu"), data.padding)(torch.arange(n))


def gradient(network: PreTrainedModel, loss: Tensor) -> Tensor:
    network.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def one_by_one(network: PreTrainedModel, data: SequenceDataModule, n: int, last: int) -> Tensor:
    """The mean loss of the sequences of some rows through a bottleneck, each by itself, with a mask written by hand."""
    rows, losses = data.train_rows, []
    for row in range(n):
        start, prefix = int(rows.starts[row]), int(rows.prefixes[row])
        shared = rows.tokens[start : start + prefix]
        for example in (rows.row_of[rows.firsts.long()] == row).nonzero().squeeze(1).tolist():
            first, reads = int(rows.firsts[example]), int(rows.reads[example])
            read = torch.cat([shared, rows.tokens[first : first + reads]]).long()
            targets = torch.cat([read[1:], rows.targets[first + reads - 1 : first + reads].long()])
            mask = torch.ones(len(read), len(read), dtype=torch.bool).tril()
            mask[prefix:, : prefix - last] = False
            logits = network(read[None], attention_mask=mask[None, None]).logits[0]
            losses.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    return torch.cat(losses).mean()


@pytest.mark.parametrize("last", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_through_a_bottleneck_loss_and_gradient_are_those_of_sequences_with_a_mask_of_their_own(
    architecture: str, layout: str, last: int
) -> None:
    words = ("objective=[next_token,bottleneck]", f"objective.bottleneck.last={last}", f"data.layout={layout}")
    data, network, asked = built(*words, architecture=architecture)
    n = 3 if layout == "shared_prefix" else 6
    expected = one_by_one(network, data, n, last)
    loss = asked.loss(network, batch_of(data, n), 0)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    of_sequences, of_batch = gradient(network, expected), gradient(network, loss)
    assert (of_batch - of_sequences).norm() < 1e-4 * of_sequences.norm()


def test_some_rows_have_the_bottleneck_and_whole_ones() -> None:
    data, _, asked = built("objective=[next_token,bottleneck]", "objective.bottleneck.probability=0.5")
    batch = batch_of(data, 20)
    torch.manual_seed(0)
    hidden = asked._selection(batch, 0)["hidden_keys"]
    whole = built("objective=[next_token,bottleneck]")[2]._selection(batch, 0)["hidden_keys"]
    line, column = batch.places("input")
    chosen, possible = hidden.any(2)[line, column], whole.any(2)[line, column]
    assert possible.all()
    row = data.train_rows.row_of[batch.tokens_at("input")]
    rates = [chosen[row == k].float().mean().item() for k in row.unique()]
    assert {*rates} == {0.0, 1.0}
    assert torch.equal(hidden & whole, hidden)


def test_which_sequences_have_the_bottleneck_follows_from_seed_and_step_alone() -> None:
    words = ("objective=[next_token,bottleneck]", "objective.bottleneck.probability=0.3")

    def drawn(layout: str, step: int, *changes: str, rank: int = 0, world: int = 1) -> dict[int, bool]:
        """{number of a sequence: whether it has the bottleneck}"""
        data, _, asked = built(*words, f"data.layout={layout}", *changes)
        rows = data.train_rows
        batch = Packer(rows, data.weights, torch.device("cpu"), data.padding)(torch.arange(150), rank, world)
        torch.manual_seed(step + rank + 100)  # as several processes have
        hidden = asked._selection(batch, step)["hidden_keys"].any(2)[batch.places("input")]
        return dict(zip(rows.row_of[batch.tokens_at("input")].tolist(), hidden.tolist(), strict=True))

    packed = drawn("sequences", 3)
    assert drawn("padded", 3) == packed
    assert drawn("sequences", 3, rank=0, world=2) | drawn("sequences", 3, rank=1, world=2) == packed
    assert drawn("sequences", 4) != packed
    assert drawn("sequences", 3, "seeds.batches=9") != packed
    assert sum(packed.values()) == pytest.approx(45, abs=18)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_a_gradient_through_the_only_route_the_instruction_has_none(layout: str) -> None:
    words = ("objective=[answer,bottleneck,detached]", f"data.layout={layout}")
    data, network, asked = built(*words)
    batch, kept = batch_of(data, 6), list[Tensor]()
    hook = network.get_input_embeddings().register_forward_hook(lambda *call: kept.append(call[2]))

    def reached(of: Objectives) -> Tensor:
        """The places whose embedding has a gradient."""
        kept.clear()
        loss = of.loss(network, batch, 0)
        return torch.autograd.grad(loss, kept[0])[0].abs().sum(2) > 0

    with_both, through, around = (
        reached(of)
        for of in (asked, built("objective=[answer,bottleneck]")[2], built("objective=[answer,detached]")[2])
    )
    hook.remove()
    before = batch.positions <= batch.positions.gather(1, batch.ends)
    assert not with_both[before].any()
    assert with_both[batch.places("input")].all()
    before &= batch.origin < len(data.train_rows.tokens) - 1  # not what fills lines up
    assert through[before].all()  # through the separator
    assert around[before & (batch.roles & 1 == 0)].all()


def test_a_lifted_bottleneck_and_one_of_probability_0_hide_nothing() -> None:
    for words in ("until=3", "probability=0.0"):
        data, network, asked = built("objective=[next_token,bottleneck]", f"objective.bottleneck.{words}")
        plain = built()[2].loss(network, batch_of(data), 3)
        assert torch.equal(asked.loss(network, batch_of(data), 3), plain)
        assert data.hidden is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_measures_see_through_the_bottleneck_in_every_pass(layout: str) -> None:
    data, network, _ = built("objective=[answer,bottleneck]", f"data.layout={layout}")
    through = observe(network, data, positions=("instruction_end", "input"))
    logits = through.logits("input")
    data.hidden = None
    around = observe(network, data, positions=("instruction_end", "input"))
    assert torch.equal(through.states["instruction_end"], around.states["instruction_end"])
    assert not torch.allclose(through.states["input"][1:], around.states["input"][1:])
    assert not torch.allclose(logits, around.logits("input"))
    right = logits.argmax(1) == through.prompts.answers  # y is one token here
    assert torch.equal(right, through.correct)


@pytest.mark.parametrize(
    ("objective", "later", "reaches"),
    [
        ("answer", "[x,y]", False),
        ("answer", "[y]", False),
        ("answer", "[x]", True),
        ("next_token", "[x,y]", True),  # its own prediction, of x
    ],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_detached_has_no_gradient_of_later_losses(
    architecture: str, objective: str, later: str, reaches: bool
) -> None:
    words = (f"objective=[{objective},detached]", f"objective.detached.later={later}")
    data, network, asked = built(*words, architecture=architecture)
    batch, plain = batch_of(data), built(f"objective=[{objective}]")[2]
    ends, symbols = (
        (batch.roles & 1) != 0,
        (batch.roles == 0) & (batch.positions < batch.positions.gather(1, batch.ends)),
    )

    def gradients(of: Objectives) -> tuple[Tensor, Tensor]:
        """Of the embeddings, and the loss."""
        kept: list[Tensor] = []
        embedding = network.get_input_embeddings()
        hook = embedding.register_forward_hook(lambda *call: kept.append(call[2]) or call[2].retain_grad())
        loss = of.loss(network, batch, 0)
        loss.backward()
        hook.remove()
        return kept[0].grad, loss.detach()

    (stopped, loss), (flowing, same) = gradients(asked), gradients(plain)
    assert torch.equal(loss, same)
    assert bool(flowing[ends].any())
    assert bool(stopped[ends].any()) is reaches
    assert bool(stopped[symbols].any())


def test_weights_of_parts_add_up() -> None:
    data, _, both = built("objective=[next_token,answer]")
    assert both.weights == (1, 1, 2)
    zero, three = (
        torch.zeros(len(data.tokenizer)),
        built("objective.next_token.instruction=0.0", "objective.next_token.x=0.5"),
    )
    batch = batch_of(three[0])
    logits = torch.randn(*batch.tokens.shape, len(zero))
    log_p, rows = logits.log_softmax(-1), three[0].train_rows
    at_y = log_p[batch.places("input")].gather(1, batch.targets[batch.places("input")][:, None])
    n = len(at_y)
    at_ends = log_p.flatten(1).gather(1, batch.ends * len(zero) + batch.tokens)[batch.places("input")]  # predicting x
    assert batch.loss(logits) == pytest.approx(float(-(at_y.sum() + 0.5 * at_ends.sum()) / (1.5 * n)), rel=1e-5)
    assert rows.n_examples > n


def test_the_contrastive_loss_is_that_of_its_formula() -> None:
    states, groups, cells = (
        torch.randn(9, 4),
        torch.tensor([0, 0, 1, 1, 2, 0, 1, 0, 3]),
        torch.tensor([0] * 5 + [1] * 4),
    )
    unit, terms = states / states.norm(dim=1, keepdim=True), []
    for i in range(9):
        others = [a for a in range(9) if a != i and cells[a] == cells[i]]
        same = [p for p in others if groups[p] == groups[i]]
        total = sum(torch.exp(unit[i] @ unit[a] / 0.1) for a in others)
        if same:
            terms.append(-sum(torch.log(torch.exp(unit[i] @ unit[p] / 0.1) / total) for p in same) / len(same))
    torch.testing.assert_close(contrastive_loss(states, groups, cells, 0.1), torch.stack(terms).mean())
    alone = contrastive_loss(states[:2], torch.tensor([0, 1]), torch.zeros(2), 0.1)
    assert alone == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pull_and_push_add_their_weighted_losses(layout: str) -> None:
    pull = ("objective.pull.layers=[0,2]", "objective.pull.weight=0.3", "objective.pull.at=input")
    words = ("objective=[next_token,pull,push]", *pull, "objective.push.layers=[1]", f"data.layout={layout}")
    data, network, asked = built(*words)
    batch, rows = batch_of(data, 40), data.train_rows
    loss = asked.loss(network, batch, 0)
    output = network(**batch.inputs, output_hidden_states=True)

    def contrast(layer: int, at: Any, cell: Tensor, example: Tensor) -> Tensor:
        line, column = batch.places(at)
        states = output.hidden_states[layer][line, column]
        return contrastive_loss(states, rows.numbers[example, 0], cell, 0.1)

    example = rows.example_of[batch.tokens_at("input")].long()
    first = rows.first_examples[rows.row_of[batch.tokens_at("instruction_end")].long()]
    with torch.no_grad():
        block = network.transformer.h[-1].register_forward_hook(lambda *call: kept.append(call[2]))
        kept: list[Any] = []
        network(**batch.inputs)
        block.remove()
        before_norm = kept[0] if isinstance(kept[0], Tensor) else kept[0][0]
    output.hidden_states = (*output.hidden_states[:2], before_norm)
    pulled = [contrast(layer, "input", rows.numbers[example, 3], example) for layer in (0, 2)]
    pushed = contrast(1, "instruction_end", torch.zeros(len(first)), first)
    expected = batch.loss(output.logits) + 0.3 * sum(pulled) / 2 - 0.02 * pushed
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_random_labels_are_dealt_once_for_each_seed() -> None:
    def labels(*words: str) -> Tensor:
        words = ("objective=[next_token,pull]", "objective.pull.layers=[1]", "objective.pull.labels=random", *words)
        (part,) = built(*words)[2]._parts[1:]
        return part._task

    once, again, other = labels(), labels(), labels("objective.pull.seed=5")
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    data = built()[0]
    task = torch.cat([data.train_rows.numbers[data.train_rows.first_examples, 0], torch.tensor([-1])])
    of_rows = [of[data.train_rows.starts[:-1].long()].sort().values for of in (once, other)]
    assert torch.equal(of_rows[0], task[:-1].sort().values.to(once))
    assert torch.equal(of_rows[0], of_rows[1])


def test_pulling_draws_states_of_a_task_together_and_pushing_apart() -> None:
    def similarity(weight: float) -> float:
        words = ("objective=[next_token,pull]", "objective.pull.layers=[1]", f"objective.pull.weight={weight}")
        data, network, asked = built(*words)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(30):
            optimizer.zero_grad()
            asked.loss(network, batch_of(data, 30), 0).backward()
            optimizer.step()
        batch = batch_of(data, 30)
        states = network(**batch.inputs, output_hidden_states=True).hidden_states[1][batch.places("instruction_end")]
        task = data.train_rows.numbers[data.train_rows.first_examples, 0][:30]
        return float(contrastive_loss(states, task, torch.zeros(30), 0.1).detach())

    pulled, plain, pushed = (similarity(weight) for weight in (1.0, 0.0, -1.0))
    assert pulled < plain - 0.1
    assert pushed > plain + 0.1


def journal(run: Outcome) -> list[dict[str, Any]]:
    run.output()
    (file,) = Path("outputs").glob("**/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "elapsed", "measuring")} for row in rows]


def test_pulling_with_weight_0_has_the_bits_of_next_token(taskcluster_train, monkeypatch, tmp_path) -> None:
    rows = []
    for name, words in (
        ("plain", ()),
        ("pull", ("objective=[next_token,pull]", "objective.pull.layers=[1]", "objective.pull.weight=0.0")),
    ):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        rows.append(journal(taskcluster_train(*SMALL, *words)))
    assert rows[0] == rows[1]


def test_a_run_is_measured_again_through_its_bottleneck_or_around_it(taskcluster_train) -> None:
    words = ("objective=[next_token,bottleneck]", "measures=[clustering]", "hydra.run.dir=run")
    taskcluster_train(*SMALL, *words).output()
    through, around = (load_run("run", changes=c) for c in ({}, {"objective.bottleneck.measured": False}))
    last, measured, other = through.run.rows()[-1], through.measure(), around.measure()
    assert measured["val/loss"] == last["val/loss"] != other["val/loss"]
    assert measured["ari/val/layer_2"] == other["ari/val/layer_2"]  # of the separator, which sees all


EVERYTHING = (
    "objective=[next_token,bottleneck,detached,pull,push]",
    "objective.bottleneck.probability=0.5",
    "objective.pull.layers=[1]",
    "objective.push.layers=[1,2]",
    "objective.push.at=input",
)


@pytest.mark.parametrize(
    "words",
    [
        ("trainer.precision=bf16-mixed",),
        ("trainer.accumulate_grad_batches=2",),
        ("data.layout=padded", "data.loss_on=y"),
        ("data.layout=sequences", "model=llama", "model.n_layer=2"),
    ],
)
def test_objectives_train_in_other_settings(words: tuple[str, ...], taskcluster_train) -> None:
    rows = journal(taskcluster_train(*SMALL, *EVERYTHING, *words))
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert all(torch.isfinite(torch.tensor(row["val/loss"])) for row in rows)


class Mine(Objective):
    reads = ("input",)

    def __init__(self, given: object) -> None:
        self._given = given

    def auxiliary(self, states: Any, batch: Batch, step: int) -> Any:
        return self._given(states["input"]) if callable(self._given) else self._given


class Masking(Mine):
    reads = ()

    def hidden(self, places: Any) -> Any:
        return self._given(places)

    def auxiliary(self, states: Any, batch: Batch, step: int) -> None:
        return None


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (Mine(lambda states: states.mean(-1)), r"objective\.mine: auxiliary returns shapes \[\(3, \d+\)\] instead of"),
        (Mine(lambda states: states.mean() * torch.nan), r"objective\.mine: auxiliary is nan in the first batch"),
        (Mine(lambda states, step: states.mean()), r"objective\.mine: auxiliary failed \(TypeError: .*test_objectives"),
        (Mine(0.5), r"objective\.mine: auxiliary failed \(AttributeError: 'float' object has no attribute 'shape'"),
        (Masking(lambda places: places.query > places.end), r"objective\.mine: hidden returns shapes .* instead of"),
    ],
)
def test_an_objective_of_ones_own_is_tried_before_training(part: Objective, sentence: str) -> None:
    data, network, _ = built()
    with pytest.raises(UserError, match=sentence):
        Objectives({"next_token": NextToken(data, None, None, None), "mine": part}).check(network, data)


def test_an_objective_of_ones_own_may_do_nothing_and_may_not_read_what_is_not_there() -> None:
    data, network, _ = built()
    plain = NextToken(data, None, None, None)
    idle = Objectives({"next_token": plain, "mine": Masking(lambda places: None)})
    idle.check(network, data)
    assert idle.measured is not None
    assert not idle.measured(batch_of(data).token_places).any()
    for wrong in ("demonstrations", "middle"):
        part = Mine(None)
        part.reads = (wrong,)
        with pytest.raises(
            UserError, match=f"objective.mine reads the states at '{wrong}', which the prompts of these"
        ):
            Objectives({"next_token": plain, "mine": part}).check(network, data)
    for weights in ((1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan"))):
        part = Mine(None)
        part.weights = weights
        with pytest.raises(UserError, match=r"objective\.mine: weights=.* must be three numbers of at least 0"):
            Objectives({"mine": part})


def test_an_objective_of_ones_own(taskcluster_train) -> None:
    words = ("--config-dir", str(EXAMPLES / "objective"), "objective=[next_token,smooth]")
    assert journal(taskcluster_train(*SMALL, *words))[-1]["step"] == 6


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "objective=bottleneck",
            "objective=[bottleneck] gives no prediction a weight, so the loss is empty; add next_token or ",
        ),
        (
            "objective.next_token.y=0.0 objective.next_token.x=0.0 objective.next_token.instruction=0.0",
            "no prediction a weight",
        ),
        (
            "objective=[next_token,bottleneck] objective.bottleneck.last=40",
            "objective.bottleneck.last=40: the shortest instruction has",
        ),
        (
            "objective=[next_token,detached] objective.detached.last=40",
            "objective.detached.last=40: the shortest instruction has",
        ),
        (
            "objective=[next_token,bottleneck] objective.bottleneck.probability=1.5",
            "objective.bottleneck.probability=1.5: ",
        ),
        (
            "objective=[next_token,pull] objective.pull.at=demonstrations",
            "objective.pull.at='demonstrations': the prompts of these tasks",
        ),
        (
            "objective=[next_token,pull] objective.pull.layers=[7]",
            "objective.pull.layers=[7]: the model has layers 0 to 2; lower it",
        ),
        ("objective=[next_token,pull] objective.pull.temperature=0.0", "objective.pull.temperature=0.0: "),
        ("objective=[next_token,pul]", "did you mean"),
        ("objective=[]", "objective holds nothing; choose one of its options, as in objective=[next_token]"),
        ("objective.next_token.y=-1.0", "objective.next_token.y=-1.0: "),
        ("objective=[answer,detached] objective.detached.later=[z]", "objective.detached.later"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(words: str, sentence: str, taskcluster_train) -> None:
    assert sentence in taskcluster_train(*SMALL, *words.split()).refusal()
    assert not [*Path().glob("**/config.yaml")]
