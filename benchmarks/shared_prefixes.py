"""Processor seconds of observing few-shot prompts that share demonstrations: these computed once, or with every prompt.

    python benchmarks/shared_prefixes.py .models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

in:  a GGUF file
out: of the probe set of docs/pretrained.md ("Few-shot prompts"), on one thread: seconds, and how far states differ
"""

import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch

from taskcluster.config import RunConfig
from taskcluster.measures import observation
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import prepare

RELATIONS = "capital,continent,currency,language,demonym,domain,plural,past_tense,ing_form,upper_case"
TASK = ("task=facts", "task.describe=demonstrations", f"task.relations=[{RELATIONS},first_letter,last_letter]")


def main(file: Path) -> None:
    torch.set_num_threads(1)
    model = ("model=pretrained", f"model.path={file.parent}", f"model.gguf_file={file.name}")
    data, network = prepare(RunConfig.of(composed("experiment=probe_demonstrations", *TASK, *model)))
    for split, rows in data.probe.items():
        print(f"{split}: {rows.n_examples} prompts with {len(rows)} prefixes")
        states = []
        for shares in (True, False):
            with patch.object(observation, "takes_mask", lambda network, shares=shares: shares):
                begun = time.process_time()
                states.append(observation.observe(network, data, split, ["answer"]).states["answer"])
            print(f"  prefixes {'once' if shares else 'with every prompt'}: {time.process_time() - begun:.1f} s")
        once, every = states
        lengths = torch.linalg.vector_norm(every, dim=2)
        print(f"  states differ by {float((torch.linalg.vector_norm(once - every, dim=2) / lengths).max()):.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
