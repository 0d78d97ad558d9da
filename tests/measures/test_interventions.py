"""Interventions on networks that were built by hand, so that the effect of every edit is known."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import ByHand
from networks import small
from torch import Tensor, nn
from transformers.cache_utils import Cache

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.interventions import edits
from taskcluster.measures.interventions.causal_effects import Interventions
from taskcluster.measures.interventions.edits import CONTROLS, match_clusters
from taskcluster.measures.interventions.sites import SITES, site_states, task_pairs
from taskcluster.measures.observation import in_turn
from taskcluster.tasks.family import Task, TaskFamily

TASKS = 4
IS_SEPARATOR, IS_X = TASKS, TASKS + 1  # of a state; the dimensions before them say which task
POSITIONS = ["instruction_end", "input"]


def data(**changes: Any) -> SequenceDataModule:
    """Tasks whose instructions repeat a letter of their own, and that map the only x to a y of their own."""
    tasks = tuple(
        Task(k, ("letters",), (tuple(letter * n for n in range(2, 22)),), {"q": changes.get("y", f"y{k}")})
        for k, letter in enumerate("abcd")
    )
    family = TaskFamily(tasks, "instruction", 0.5, 0, words=False)
    return SequenceDataModule(family, None, None, "shared_prefix", "right", 8, "sequence", 200, 0, 0)


class Block(nn.Module):
    """Adds to every state that `reads` marks what the states that `of` marks say about the task."""

    def __init__(self, layer: int, reads: int | None, of: int | None) -> None:
        super().__init__()
        self.layer, self.reads, self.of = layer, reads, of

    def forward(self, hidden_states: Tensor, past_key_values: Cache, visible: Tensor) -> Tensor:
        _, states = past_key_values.update(hidden_states[:, None], hidden_states[:, None], self.layer)
        states = states[:, 0]
        seen = states[..., :TASKS] * visible[..., None]
        marked = states[..., self.of, None] if self.of is not None else 1 - states[..., TASKS:].sum(-1, keepdim=True)
        task = (seen * marked).sum(1, keepdim=True).sign()
        added = torch.nn.functional.pad(task, (0, hidden_states.shape[-1] - TASKS))
        reading = hidden_states[..., self.reads, None] if self.reads is not None else 0.0
        return hidden_states + added * reading


def network(of_data: SequenceDataModule, through_separator: bool) -> ByHand:
    """Two blocks: the separator collects the task from the instruction, then x does: from the separator, or from the
    instruction itself."""
    ids = of_data.tokenizer.convert_tokens_to_ids
    embedding, output = torch.zeros(2, len(of_data.tokenizer), TASKS + 2)
    answers = ids([f"<y:y{k}>" for k in range(TASKS)])
    embedding[ids([*"abcd"]), range(TASKS)] = output[answers, range(TASKS)] = 1
    output[answers[0], TASKS:] = 0.1  # without a task it is y0
    embedding[of_data.tokenizer.sep_token_id, IS_SEPARATOR] = embedding[ids("<x:q>"), IS_X] = 1
    reader = Block(1, IS_X, IS_SEPARATOR if through_separator else None)
    return ByHand(embedding, output, Block(0, IS_SEPARATOR, None), reader)


def interventions(
    of_data: SequenceDataModule, edits: Any, at: Any, alphas: Any = (1.0,), layers: Any = None, spans: Any = ("layer",)
) -> Interventions:
    return Interventions(
        data=of_data,
        clusterer=KMeans(None, 4, 0),
        edits=edits,
        at=at,
        alphas=[*alphas],
        controls=[*CONTROLS],
        layers=layers,
        n_layer=2,
        spans=[*spans],
        n_pairs=300,
        seed=0,
    )


def effects(
    through_separator: bool,
    edits: list[str],
    at: list[str] = POSITIONS,
    alphas: tuple[float, ...] = (1.0,),
    layers: list[int] | int | None = None,
    spans: tuple[Any, ...] = ("layer",),
) -> dict[str, list[float]]:
    measure = interventions(data(), edits, at, alphas, layers, spans)
    observed = SimpleNamespace(network=network(measure.data, through_separator), executor=in_turn)
    return {metric.key: values for metric, values in measure.measure(observed).items()}


@pytest.mark.parametrize("edit", ["add", "replace", "interchange", "cluster"])
def test_an_edit_flips_answers_only_where_the_network_reads_the_task(edit: str) -> None:
    through, around = effects(True, [edit]), effects(False, [edit])
    known = {"clean_a": 1, "clean_b": 0, "source_b": 1, f"effect_{edit}_input": [0, 0, 1]}
    assert through == through | known | {f"effect_{edit}_instruction_end": [0, 1, 0]}
    assert through[f"recovered_{edit}_input"] == pytest.approx([0, 0, 1])
    kept = {f"effect_{edit}_instruction_end": [0, 0, 0], f"kept_{edit}_instruction_end": [1, 1, 1]}
    assert around == around | known | kept


def test_controls_flip_no_answers() -> None:
    found = effects(True, ["add"])
    assert found["kept_random_subspace_input"] == [1, 1, 1]
    for control in [control for control in CONTROLS if control != "random_subspace"]:
        for position in POSITIONS:
            # Of four tasks, a direction that has nothing to do with B is B's for one in four or so.
            assert max(found[f"effect_{control}_{position}"]) <= 0.4, (control, position)
    assert found["kept_third_task_input"] == [1, 1, 0]


def test_what_is_taken_out_is_missed_where_the_network_reads_it() -> None:
    found = effects(True, ["ablate", "keep"])
    assert found["kept_ablate_input"][:2] == [1, 1]
    assert found["kept_ablate_input"][2] <= 0.5
    assert found["kept_keep_input"] == [1, 1, 1]
    assert found["kept_ablate_instruction_end"][1] <= 0.5


def test_all_tokens_of_an_instruction_are_edited_at_once() -> None:
    through = effects(True, ["interchange", "mean"], ["instruction"])
    assert through["effect_interchange_instruction"] == [1, 1, 0]  # the separator's own state is among them
    assert through["kept_mean_instruction"][2] == 1
    assert max(through["kept_mean_instruction"][:2]) <= 0.5
    around = effects(False, ["interchange", "cluster"], ["instruction"])
    assert around["effect_interchange_instruction"] == [1, 1, 0]
    assert "effect_cluster_instruction" not in around


def test_only_the_whole_stream_of_the_only_route_flips_every_answer() -> None:
    end, others = "effect_interchange{}_instruction_last_1", "effect_interchange{}_instruction_without_end"
    at = ["instruction_last_1", "instruction_without_end", "input"]
    through, around = (
        effects(only, ["interchange", "add"], at, spans=("layer", "from", [0, 2])) for only in (True, False)
    )
    # Through the separator, which knows the task after block 1; its stream from there on or from the start.
    assert through[end.format("")] == [0, 1, 0]
    assert through[end.format("_from")] == [1, 1, 0]
    assert through[end.format("_layers_0_2")] == 0  # not in the layer that is read
    assert through[others.format("_from")] == [1, 0, 0]  # as the separator collects the task from them
    assert around[end.format("_from")] == [0, 0, 0]
    assert around[others.format("_from")] == [1, 1, 0]
    assert through["effect_interchange_from_input"] == around["effect_interchange_from_input"] == [1, 1, 1]
    assert "effect_add_from_input" not in through  # what is added does depend on the state


@pytest.mark.parametrize(
    ("spans", "layers", "sentence"),
    [
        ([[3]], None, r"spans=\[3\]: the model has layers 0 to 2; choose from these"),
        (["layer", [1, 9]], None, r"spans=\[1, 9\]: the model has layers 0 to 2"),
        (["all"], None, "a span is layer, from or a list of layers such as"),
        ([[]], None, "a span is layer, from or a list of layers such as"),
        ([[2, 0]], [1, 2], r"spans=\[2, 0\]: layers=\[1, 2\] lacks 0, where this span begins; add it"),
    ],
)
def test_spans_that_no_edit_reaches_are_refused(spans: Any, layers: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        effects(True, ["interchange"], ["instruction_last_1"], layers=layers, spans=spans)


def test_a_span_is_a_set_of_layers() -> None:
    one, other = (effects(True, ["interchange"], ["input"], spans=[span]) for span in ([2, 0, 2], [0, 2]))
    assert one == other
    assert one["effect_interchange_layers_0_2_input"] == 1


def test_sites_without_a_possible_edit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"edits=\['add'\]: none of them is possible at input with spans=\['from'\]"):
        effects(True, ["add"], ["input"], spans=("from",))


def test_the_separator_and_all_tokens_before_it_are_the_instruction() -> None:
    rows = data().probe["val"]
    pairs = task_pairs(rows, 1000, torch.Generator().manual_seed(0))
    parts = [
        site_states(site, rows, pairs, torch.Generator().manual_seed(0))
        for site in ("instruction_without_end", "instruction_last_1", "instruction")
    ]
    before, end, whole = (
        [*zip(of.pair[of.b >= 0].tolist(), of.source[of.b >= 0].tolist(), strict=True)] for of in parts
    )
    assert sorted(before + end) == whole
    assert not {*before} & {*end}


def test_of_an_instruction_of_one_token_nothing_precedes_its_end() -> None:
    tasks = tuple(
        Task(k, ("letters",), (tuple(letter * n for n in range(1, 21)),), {"q": y})
        for k, (letter, y) in enumerate(zip("abcd", "uvwz", strict=True))
    )
    family = TaskFamily(tasks, "instruction", 0.5, 0, words=False)
    template = "{instruction}{x}<sep>{y}"
    of_data = SequenceDataModule(family, None, template, "shared_prefix", "right", 8, "sequence", 200, 0, 0)
    assert int(of_data.probe["val"].prefixes[:-1].min()) == 1
    measure = interventions(of_data, ["interchange"], ["instruction_without_end", "instruction"], spans=("from",))
    observed = SimpleNamespace(network=small("gpt2", len(of_data.tokenizer)), executor=in_turn)
    found = {metric.key: values for metric, values in measure.measure(observed).items()}
    assert 0 < found["kept_interchange_from_instruction_without_end"][0] <= 1


def test_the_share_of_pairs_with_a_partner_of_equal_length_is_measured() -> None:
    measure = interventions(data(), ["interchange"], ["instruction_last_1", "input"])
    lengths, pairs = measure._rows.prefixes[measure._rows.row_of[measure._rows.firsts.long()].long()], measure.pairs
    sources = {
        (int(pairs.group_task[b]), int(lengths[e]))
        for e, b in zip(pairs.states.examples, pairs.states.groups, strict=True)
    }
    wanted = [(int(pairs.group_task[b]), int(lengths[e])) for e, b in zip(pairs.base, pairs.states.b, strict=True)]
    share = sum(pair in sources for pair in wanted) / len(wanted)
    assert 0 < share < 1
    measured = {metric.key: value for metric, value in measure._equal_length.items()}
    assert measured == {"equal_length": pytest.approx(share)}
    assert "equal_length" in {metric.key for metric in measure.metrics}
    assert "equal_length" not in effects(True, ["add"], ["input"])


def test_numbers_do_not_depend_on_how_many_pairs_are_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    of_sites = partial(effects, False, ["add", "interchange", "mean"], ["instruction_last_2", "instruction", "input"])
    together = of_sites()
    monkeypatch.setattr("taskcluster.measures.interventions.causal_effects.OF_SIMILAR_LENGTH", 3)
    apart = of_sites()
    assert apart.keys() == together.keys()
    for key, values in together.items():
        assert apart[key] == pytest.approx(values, nan_ok=True), key


def test_the_last_tokens_of_an_instruction_are_a_site() -> None:
    around = effects(False, ["interchange"], ["instruction_last_2", "instruction_last_4", "instruction"])
    assert around["effect_interchange_instruction"] == [1, 1, 0]
    for k in (2, 4):  # of letters of two tasks, the network finds both and says y0
        assert max(around[f"effect_interchange_instruction_last_{k}"]) < 1


def test_a_state_is_put_at_another_position() -> None:
    found = effects(True, ["interchange", "add"], ["instruction_end_to_input"])
    # The separator knows the task after block 1; before it, its state at x is only no x.
    assert found == found | {f"effect_{edit}_instruction_end_to_input": [0, 1, 1] for edit in ("interchange", "add")}


def test_every_alpha_has_its_own_numbers() -> None:
    found = effects(True, ["add", "replace"], ["input"], alphas=(1.0, -1.0, 0.25))
    alphas = {"effect_add_input_alpha_minus_1": [0, 0, 0], "kept_add_input_alpha_0_25": [1, 1, 1]}
    assert found == found | {"effect_add_input": [0, 0, 1]} | alphas
    assert "effect_random_input_alpha_0_25" in found
    assert "effect_replace_input_alpha_0_25" not in found


@pytest.mark.parametrize(("layers", "edited"), [([2], [2]), (1, [1]), (2, [1, 2]), (9, [1, 2])])
def test_only_chosen_layers_are_edited(layers: list[int] | int, edited: list[int]) -> None:
    found = effects(True, ["add"], ["input"], layers=layers)["effect_add_input"]
    assert [layer for layer, value in enumerate(found) if value == value] == edited
    assert all(found[layer] == float(layer == 2) for layer in edited)


@pytest.mark.parametrize("site", SITES)
def test_edited_states_are_compared_with_those_of_their_own_cell(site: str) -> None:
    rows = data().probe["val"]
    pairs = task_pairs(rows, 1000, torch.Generator().manual_seed(0))
    items = site_states(site, rows, pairs, torch.Generator().manual_seed(0))
    known, both = items.b >= 0, (items.a >= 0) & (items.b >= 0)
    assert known.any()
    assert (items.cells[items.a] == items.cells[items.b])[both].all()
    assert (items.a != items.b)[known].all()
    assert (items.groups[items.source] == items.b)[known].all()
    assert len(items.groups.unique()) == len(items.cells)


def test_centroids_and_tests_come_from_different_instructions() -> None:
    rows = data().probe["val"]
    pairs = task_pairs(rows, 1000, torch.Generator().manual_seed(0))
    states, (task, _, instruction, x, _) = pairs.states, rows.numbers.T
    assert not {*instruction[states.examples].tolist()} & {*instruction[pairs.base].tolist()}
    source = states.examples[states.source]
    assert (task[source] == pairs.group_task[states.b]).all()
    assert (x[source] == x[pairs.base]).all()
    assert (task[pairs.base] == pairs.group_task[states.a]).all()
    assert (pairs.token_a != pairs.token_b).all()
    assert ((states.third != states.b) & (states.third != states.a)).all()


def test_layers_that_do_not_exist_and_tasks_that_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="layers=3: the model has layers 0 to 2"):
        effects(True, ["add"], layers=[1, 3])
    with pytest.raises(ValueError, match="no two tasks of the probe set share an x but differ"):
        interventions(data(y="same"), ["add"], POSITIONS)


@pytest.mark.parametrize(("n_groups", "k"), [(30, 30), (20, 35), (35, 20)])
def test_many_groups_and_clusters_are_matched_as_well_as_few(
    n_groups: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    centroids, states = torch.randn(k, 4, generator=random), torch.randn(200, 4, generator=random)
    groups = torch.randint(n_groups - 5, (200,), generator=random)  # some groups have no state
    few = match_clusters(centroids, states, groups, n_groups)
    monkeypatch.setattr(edits, "CELLS", 100)
    many = match_clusters(centroids, states, groups, n_groups)
    nearest = torch.cdist(states, centroids).argmin(1)
    agreeing = []
    for rows, columns in (few, many):
        assert len(rows.unique()) == len(columns.unique()) == min(n_groups, k)
        agreeing.append(int(((groups[:, None] == rows) & (nearest[:, None] == columns)).sum()))
    assert agreeing[0] == agreeing[1] > 20
