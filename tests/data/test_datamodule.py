"""Batches as a function of (seed, step), and the probe set."""

from collections import Counter
from typing import Any

import pytest
import torch
from conftest import bare_trainer, default, family

from taskcluster.data.batches import WIDTH, Packer
from taskcluster.data.datamodule import SequenceDataModule, TrainingBatches
from taskcluster.data.rows import Rows
from taskcluster.tasks.family import TaskFamily


def datamodule(tasks: TaskFamily, **changes: Any) -> SequenceDataModule:
    values = default()["data"] | {"probe_size": 300} | changes
    del values["_target_"]
    return SequenceDataModule(tasks, **values)


def batches(seed: int, n_rows: int = 7) -> TrainingBatches:
    rows = datamodule(family(n_tasks=8, instructions_per_task=10, instructions_spread=0)).train_rows
    return TrainingBatches(rows, n_rows, "sequence", seed, bare_trainer())


def instructions(rows: Rows) -> list[tuple[int, ...]]:
    spans = zip(rows.starts.tolist(), (rows.starts + rows.prefixes - 1).tolist(), strict=True)
    return [tuple(rows.tokens[start:end].tolist()) for start, end in spans][:-1]


def test_a_step_has_the_same_batch_in_any_order_of_steps() -> None:
    forwards, backwards = batches(seed=3), batches(seed=3)
    expected = [forwards[step] for step in range(120)]
    for step in reversed(range(120)):
        assert torch.equal(backwards[step].tokens, expected[step].tokens)
    assert not torch.equal(batches(seed=4)[0].origin, expected[0].origin)


@pytest.mark.parametrize(("layout", "n_lines"), [("shared_prefix", 14), ("sequences", 50), ("padded", 160)])
def test_batches_of_a_fixed_shape_differ_in_nothing_else(default_family: TaskFamily, layout: str, n_lines: int) -> None:
    """Rows of a fourth more than what 32 instructions, or 160 sequences, fill on average; see data/batches.py."""
    data = datamodule(default_family, layout=layout)
    drawn = data.train_rows, data.n_rows, "sequence", 0, bare_trainer(), data.padding
    plain, fixed = TrainingBatches(*drawn), TrainingBatches(*drawn, fixed_shape=True)
    width = data.train_rows.longest - 1 if layout == "padded" else WIDTH
    for step in (0, 1, 2, 236, 237):  # the fourth epoch begins in between
        one, other = plain[step], fixed[step]
        assert other.tokens.shape == (n_lines, width)
        logits = torch.rand(n_lines, width, len(data.tokenizer))
        assert other.loss(logits) == pytest.approx(float(one.loss(logits[: len(one.tokens), : one.tokens.shape[1]])))


def test_a_packed_batch_that_does_not_fit_has_a_multiple_of_the_lines() -> None:
    rows = datamodule(family(n_tasks=8)).train_rows
    pack = Packer(rows, "sequence", torch.device("cpu"), n_rows=4)
    few, many = pack(torch.arange(4)).tokens, pack(torch.arange(9)).tokens
    assert (few.shape, many.shape) == ((2, WIDTH), (6, WIDTH))


def test_every_row_comes_once_an_epoch_and_epochs_differ() -> None:
    served = batches(seed=0)
    n = 8 * 8  # 64 instructions, which batches of 7 do not divide
    rows = torch.cat([served.rows(step) for step in range(2 * n // 7 + 1)])
    assert rows[:n].sort().values.tolist() == list(range(n))
    assert rows[n : 2 * n].sort().values.tolist() == list(range(n))
    assert not torch.equal(rows[:n], rows[n : 2 * n])


TEN = family(n_tasks=10)


def test_a_batch_size_counts_sequences_in_every_layout() -> None:
    assert datamodule(TEN, batch_size=160).n_rows == 32
    for layout in ("sequences", "padded"):
        assert datamodule(TEN, batch_size=160, layout=layout).n_rows == 160
    pairs = datamodule(family(n_tasks=10, holdout="pair"), batch_size=160)  # one of five examples is held out
    assert pairs.n_rows == 40
    assert set(pairs.train_rows.counts[:-1].tolist()) == {4}
    assert datamodule(TEN, batch_size=1).n_rows == 1


def test_the_probe_set_is_fixed_and_spread_evenly() -> None:
    data, again = datamodule(TEN, probe_size=200), datamodule(TEN, probe_size=200)
    for split, rows in data.probe.items():
        assert torch.equal(rows.tokens, again.probe[split].tokens)
        assert len(rows) == rows.n_examples == 200
        assert set(Counter(rows.labels("instruction_end")["task"].tolist()).values()) == {20}
        labels = rows.labels("input")
        strata = Counter(zip(labels["task"].tolist(), labels["x"].tolist(), strict=True))
        assert (len(strata), {*strata.values()}) == (50, {4})
    other = datamodule(TEN, probe_size=200, probe_seed=1)
    assert instructions(other.probe["val"]) != instructions(data.probe["val"])


def test_few_instructions_are_probed_with_several_inputs() -> None:
    few = family(n_tasks=8, instructions_per_task=20, instructions_spread=0)
    for size, counts in ((1000, {5}), (64, {2}), (48, {1, 2}), (20, {1})):
        assert set(datamodule(few, probe_size=size).probe["val"].counts[:-1].tolist()) == counts


def test_instructions_are_unique_in_the_probe_and_held_out_in_validation() -> None:
    data = datamodule(TEN, probe_size=10_000)
    probed = instructions(data.probe["val"])
    assert len(probed) == len(set(probed)) == len({e.instruction for e in TEN.split()["val"]})
    assert not set(probed) & set(instructions(data.train_rows))
    assert data.probe["val"].n_examples == len(TEN.split()["val"])
