"""Processor seconds of observing few-shot prompts that share demonstrations: data.layout=shared_prefix beside padded.

    python benchmarks/shared_prefixes.py .models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

in:  a GGUF file
out: of the probe set of docs/pretrained.md ("Few-shot prompts"), on one thread: seconds, and how far states differ
"""

import sys
import time
from pathlib import Path

import torch

from taskcluster.config import RunConfig
from taskcluster.measures.observation import observe
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import prepare

RELATIONS = "capital,continent,currency,language,demonym,domain,plural,past_tense,ing_form,upper_case"
TASK = ("task=facts", "task.describe=demonstrations", f"task.relations=[{RELATIONS},first_letter,last_letter]")


def main(file: Path) -> None:
    torch.set_num_threads(1)
    model = ("model=pretrained", f"model.path={file.parent}", f"model.gguf_file={file.name}")
    states = []
    for layout in ("shared_prefix", "padded"):
        words = ("experiment=probe_demonstrations", *TASK, *model, f"data.layout={layout}")
        data, network = prepare(RunConfig.of(composed(*words)))
        begun = time.process_time()
        states.append(observe(network, data, "val", ["answer"]).states["answer"])
        rows = data.probe["val"]
        print(
            f"{layout}: {rows.n_examples} prompts, {len(rows)} prefixes, {time.process_time() - begun:.1f} s",
            flush=True,
        )
    once, every = states
    norm = torch.linalg.vector_norm
    print(f"states differ by {float((norm(once - every, dim=2) / norm(every, dim=2)).max()):.1e} of their length")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
