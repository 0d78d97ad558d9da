"""Batches as a function of (seed, step), labels, and the probe set."""

from collections import Counter

import torch
from conftest import family

from taskcluster.datamodule import IGNORED, SequenceDataModule, TrainingBatches, labels_of
from taskcluster.tasks import TaskFamily
from taskcluster.tokenizer import Sequences


def datamodule(tasks: TaskFamily, probe_size: int = 300, probe_seed: int = 0) -> SequenceDataModule:
    return SequenceDataModule(tasks, 128, loss_on="sequence", probe_size=probe_size, seed=0, probe_seed=probe_seed)


def batches(seed: int, batch_size: int = 7, **share: int) -> TrainingBatches:
    sequences = datamodule(family(n_tasks=8, instructions_per_task=10, instructions_spread=0)).sequences["train"]
    return TrainingBatches(sequences, batch_size, "sequence", seed, **share)


def test_a_step_has_the_same_batch_in_whatever_order_steps_are_asked_for() -> None:
    forwards, backwards = batches(seed=3), batches(seed=3)
    expected = [forwards[step] for step in range(120)]
    for step in reversed(range(120)):
        assert torch.equal(backwards[step]["input_ids"], expected[step]["input_ids"])
    assert any(not torch.equal(batches(seed=4)[0]["input_ids"], e["input_ids"]) for e in expected[:1])


def test_every_sequence_comes_once_an_epoch_and_epochs_differ() -> None:
    served = batches(seed=0)
    n = 8 * 8 * 5  # 320 sequences, which batches of 7 do not divide
    rows = torch.cat([served.rows(step) for step in range(2 * n // 7 + 1)])
    assert rows[:n].sort().values.tolist() == list(range(n))
    assert rows[n : 2 * n].sort().values.tolist() == list(range(n))
    assert not torch.equal(rows[:n], rows[n : 2 * n])


def test_processes_share_the_batch_that_one_process_would_take() -> None:
    whole = batches(seed=0, batch_size=8)
    shares = [batches(seed=0, batch_size=8, rank=rank, world_size=2)[5]["input_ids"] for rank in (0, 1)]
    rows = {tuple(row[row > 0].tolist()) for share in shares for row in share}
    assert rows == {tuple(row[row > 0].tolist()) for row in whole[5]["input_ids"]}
    assert [len(share) for share in shares] == [4, 4]


def test_labels_are_every_token_but_padding_or_the_answer_alone() -> None:
    sequences = Sequences(
        torch.tensor([[5, 1, 6, 7, 0], [5, 5, 1, 6, 8]]),
        separators=torch.tensor([1, 2]),
        task_ids=torch.tensor([0, 1]),
        x_ids=torch.tensor([6, 6]),
        y_ids=torch.tensor([7, 8]),
    )
    assert labels_of(sequences, "sequence").tolist() == [[5, 1, 6, 7, IGNORED], [5, 5, 1, 6, 8]]
    i = IGNORED
    assert labels_of(sequences, "y").tolist() == [[i, i, i, 7, i], [i, i, i, i, 8]]


def test_the_probe_set_is_fixed_and_spread_evenly(default_family: TaskFamily) -> None:
    data, again = datamodule(default_family), datamodule(default_family)
    for split, positions in data.probe.items():
        for position, sequences in positions.items():
            assert len(sequences) == 300
            assert torch.equal(sequences.tokens, again.probe[split][position].tokens)
            assert set(Counter(sequences.task_ids.tolist()).values()) <= (
                {6} if position == "instruction_end" else {5, 6, 7, 8, 9, 10}
            )
        at_input = positions["input"]
        strata = Counter(zip(at_input.task_ids.tolist(), at_input.x_ids.tolist(), strict=True))
        assert len(strata) == 250
        assert set(strata.values()) == {1, 2}
    other = datamodule(default_family, probe_seed=1)
    assert not torch.equal(other.probe["val"]["input"].x_ids, data.probe["val"]["input"].x_ids)


def test_instructions_are_unique_at_the_separator_and_unseen_in_validation(default_family: TaskFamily) -> None:
    data = datamodule(default_family, probe_size=10_000)

    def instructions(sequences: Sequences) -> list[tuple[int, ...]]:
        pairs = zip(sequences.tokens.tolist(), sequences.separators.tolist(), strict=True)
        return [tuple(row[:end]) for row, end in pairs]

    probed = instructions(data.probe["val"]["instruction_end"])
    assert len(probed) == len(set(probed)) == len({e.instruction for e in default_family.split()["val"]})
    assert not set(probed) & set(instructions(data.sequences["train"]))
    assert len(data.probe["val"]["input"]) == len(default_family.split()["val"])
