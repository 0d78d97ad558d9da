"""The script a user would write: Lightning, GPT2LMHeadModel, a shuffling DataLoader, output_hidden_states, KMeans.

The same tasks, number of updates and of sequences in each, schedule and measurements as the default run of a seed,
computed the straightforward way. RECIPE "same" takes the default run's optimizer and initial weights too, "usual" those
that a user begins with. A line of metrics.jsonl for every measured step.

    python benchmarks/user_script.py SEED FOLDER RECIPE [ACCELERATOR [OVERRIDE ...]]

ACCELERATOR: cpu or gpu; a GPU computes in bf16, as ours does there. OVERRIDE: of the default configuration.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, get_cosine_schedule_with_warmup

from taskcluster.config import RunConfig
from taskcluster.operations.command_line.cli import composed
from taskcluster.tasks.family import TaskFamily

N_INIT = 10


def encode(examples, ids):
    """Token ids of `instruction SEP x y` for every example."""
    return [torch.tensor([*(ids[s] for s in e.instruction), ids["SEP"], ids[e.x], ids[e.y]]) for e in examples]


def collate(sequences):
    tokens = pad_sequence(sequences, batch_first=True)
    mask = pad_sequence([torch.ones_like(s) for s in sequences], batch_first=True)
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}


def probe_of(examples, size, rng):
    """One example each of up to `size` instructions, evenly over tasks."""
    by_task = defaultdict(dict)
    for example in rng.permutation(np.array(examples, dtype=object)):
        by_task[example[0]].setdefault(example[1], example)
    per_task = size // len(by_task)
    return [e for of_task in by_task.values() for e in list(of_task.values())[:per_task]]


def ari_of(states, truth, n_clusters, seed):
    return adjusted_rand_score(truth, KMeans(n_clusters, n_init=N_INIT, random_state=seed).fit(states).labels_)


class Measure(pl.Callback):
    def __init__(self, probes, steps, file, seed):
        self.probes, self.steps, self.file, self.seed = probes, steps, file, seed

    def on_train_start(self, trainer, module):
        self.measure(trainer, module)

    def on_train_batch_end(self, trainer, module, *_):
        self.measure(trainer, module)

    @torch.no_grad()
    def measure(self, trainer, module):
        if trainer.global_step not in self.steps:
            return
        self.steps.remove(trainer.global_step)
        module.eval()
        row = {"step": trainer.global_step}
        for split, (sequences, tasks) in self.probes.items():
            ends, inputs, right, losses = [], [], 0, []
            for batch in DataLoader(sequences, 256, collate_fn=collate):
                batch = {name: values.to(module.device) for name, values in batch.items()}
                output = module.model(**batch, output_hidden_states=True)
                lines, last = torch.arange(len(batch["input_ids"])), batch["attention_mask"].sum(1) - 1
                hidden = torch.stack(output.hidden_states)
                ends.append(hidden[:, lines, last - 2])
                inputs.append(hidden[:, lines, last - 1])
                right += int((output.logits[lines, last - 1].argmax(1) == batch["input_ids"][lines, last]).sum())
                losses.append(float(output.loss))
            row[f"{split}/accuracy"], row[f"{split}/loss"] = right / len(sequences), float(np.mean(losses))
            x = np.array([int(s[-2]) for s in sequences])
            for layer, (end, at_x) in enumerate(zip(torch.cat(ends, 1), torch.cat(inputs, 1), strict=True)):
                end, at_x = end.cpu().numpy(), at_x.cpu().numpy()
                row[f"ari/{split}/layer_{layer}"] = ari_of(end, tasks, len(set(tasks)), self.seed)
                within = [
                    ari_of(at_x[x == value], tasks[x == value], len(set(tasks[x == value])), self.seed)
                    for value in np.unique(x)
                ]
                row[f"ari_within_x/{split}/layer_{layer}"] = float(np.mean(within))
        with self.file.open("a") as journal:
            journal.write(json.dumps(row) + "\n")
        module.train()


class Model(pl.LightningModule):
    def __init__(self, vocabulary, config):
        super().__init__()
        sizes = {key: config["model"][key] for key in ("n_layer", "n_head", "n_embd", "initializer_range")}
        without = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        special = {"bos_token_id": None, "eos_token_id": None}
        self.model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **sizes, **without, **special))
        self.config = config

    def training_step(self, batch, _):
        loss = self.model(**batch).loss
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        chosen, steps = self.config["optimizer"], self.config["trainer"]["max_steps"]
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=chosen["lr"], betas=chosen["betas"], weight_decay=chosen["weight_decay"]
        )
        schedule = get_cosine_schedule_with_warmup(optimizer, round(self.config["scheduler"]["warmup"] * steps), steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


USUAL = {"optimizer": {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01}, "model": {"initializer_range": 0.02}}


def configured(seed, recipe, *overrides):
    config = composed(f"seed={seed}", *overrides)
    if recipe == "usual":
        for group, values in USUAL.items():
            config[group].update(values)
    return config


def parts(seed, config):
    """The model, its training batches, and what is measured: {split: (sequences, tasks)}."""
    pl.seed_everything(seed)
    split = RunConfig.of(config).task.build(TaskFamily).split()
    names = {name for examples in split.values() for e in examples for name in (*e.instruction, e.x, e.y)}
    ids = {name: token for token, name in enumerate(["PAD", "SEP", *sorted(names)])}
    rng = np.random.default_rng(seed)
    probes = {}
    for name, examples in split.items():
        chosen = probe_of(examples, config["data"]["probe_size"], rng)
        tasks = np.array([e[0] for e in chosen])
        probes[name] = (encode([type(examples[0])(*e) for e in chosen], ids), tasks)
    loader = DataLoader(encode(split["train"], ids), config["data"]["batch_size"], shuffle=True, collate_fn=collate)
    return Model(len(ids), config), loader, probes


def trainer_of(config, accelerator, folder, callback):
    return pl.Trainer(
        max_steps=config["trainer"]["max_steps"], accelerator=accelerator,
        precision="bf16-mixed" if accelerator == "gpu" else "32-true",
        gradient_clip_val=config["trainer"]["gradient_clip_val"],
        callbacks=[callback], logger=False, enable_checkpointing=False, default_root_dir=folder,
    )  # fmt: skip


def main(seed, folder, recipe, accelerator="cpu", *overrides):
    config = configured(seed, recipe, *overrides)
    model, loader, probes = parts(seed, config)
    steps, every = config["trainer"]["max_steps"], config["callbacks"]["measurement"]["every_n_steps"]
    due = {0, every // 2, *range(every, steps, every), steps}
    measure = Measure(probes, due, folder / "metrics.jsonl", seed)
    trainer_of(config, accelerator, folder, measure).fit(model, loader)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
