"""Training: sequences a second of a default run's updates, both ways to batch, beside what a user would write.

out: rows of results.json. The limit is the measured peak of matrix products over the operations counted in a step.

    python benchmarks/training.py
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from products import products
from side_by_side import alternate, peak, record, row
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from updates import SEQUENCES, STEPS, ours, updates_of

from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.prompts import Prompts
from taskcluster.training.progress import quieten

REPEATS = 5


class HuggingFaceStopwatch(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            self._started = time.perf_counter()
        self.seconds = time.perf_counter() - self._started


def padded(data: SequenceDataModule) -> list[torch.Tensor]:
    """The training sequences [I ; x ; y], a tensor each."""
    prompts = Prompts(data.family, data.tokenizer, data.template)
    return [torch.tensor(prompt.tokens) for prompt in prompts.encode(data.family.split()["train"])]


def hugging_face_model(vocabulary: int) -> GPT2LMHeadModel:
    """As a user of transformers makes it: its defaults but for size and dropout."""
    config = GPT2Config(
        vocab_size=vocabulary, n_layer=6, n_head=4, n_embd=128, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def collate(sequences: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    tokens = pad_sequence([s["input_ids"] for s in sequences], batch_first=True)
    mask = pad_sequence([torch.ones_like(s["input_ids"]) for s in sequences], batch_first=True)
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}


def bare_loop(data: SequenceDataModule) -> Callable[[], float]:
    """A PyTorch loop over GPT2LMHeadModel and a shuffling DataLoader of padded rows."""
    model = hugging_face_model(len(data.tokenizer)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sequences = [{"input_ids": s} for s in padded(data)]
    loader = torch.utils.data.DataLoader(sequences, SEQUENCES, shuffle=True, collate_fn=collate)

    def measure() -> float:
        batches = iter(loader)
        started = time.perf_counter()
        for _ in range(STEPS):
            loss = model(**next(batches)).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return STEPS * SEQUENCES / (time.perf_counter() - started)

    return measure


def hugging_face_trainer(data: SequenceDataModule, folder: str) -> Callable[[], float]:
    model = hugging_face_model(len(data.tokenizer))
    sequences = [{"input_ids": s} for s in padded(data)]
    arguments = TrainingArguments(
        folder, max_steps=STEPS + 1, per_device_train_batch_size=SEQUENCES, save_strategy="no", report_to="none",
        disable_tqdm=True, logging_strategy="no", use_cpu=True,
    )  # fmt: skip

    def measure() -> float:
        watch = HuggingFaceStopwatch()
        Trainer(model, arguments, data_collator=collate, train_dataset=sequences, callbacks=[watch]).train()
        return STEPS * SEQUENCES / watch.seconds

    return measure


def main() -> None:
    warnings.simplefilter("ignore")
    quieten()
    shared, shared_model, data = ours()
    plain, plain_model, plain_data = ours("data.layout=sequences")
    with tempfile.TemporaryDirectory() as folder:
        candidates = {
            "shared": shared, "plain": plain, "bare": bare_loop(data), "trainer": hugging_face_trainer(data, folder),
        }  # fmt: skip
        speed = alternate(candidates, REPEATS)
    ceiling, rows = peak(), []
    for name, model, of in (("shared", shared_model, data), ("plain", plain_model, plain_data)):
        counted = products(updates_of(model, of))
        reached = counted.operations / STEPS * speed[name] / SEQUENCES / ceiling
        share = counted.share_of_time
        facts = {"limit_fraction": reached, "products_share_of_time": share, "products_of_peak": reached / share}
        title = "training, prefixes shared" if name == "shared" else "training, sequences one by one"
        for peer, peer_name in (("bare", "PyTorch loop over GPT2LMHeadModel"), ("trainer", "transformers.Trainer")):
            rows.append(row(title, speed[name], speed[peer], peer_name, "sequences/s", **facts))
    record(rows)
    print(f"measured peak {ceiling / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
