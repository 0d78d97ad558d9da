"""Memory and time of observing large models, beside the plain loop with `output_hidden_states=True`.

The real model of `make smollm2`, and two of Llama's shape with random weights in bfloat16, 1.4 and 6.9 billion of them.
Each case is a process of its own: peak memory above what the process has once the model is loaded, and seconds, of the
processor on a CPU. Both keep the states of every layer at the last token of 32 prompts of 100 tokens.

    python benchmarks/large_models.py .models/smollm2                # about ten minutes on two cores, 16 GiB
    python benchmarks/large_models.py .models/smollm2 --device cuda
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import MIB, in_bytes
from side_by_side import record, row
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

SHAPES = {  # hidden_size, intermediate_size, num_hidden_layers, num_attention_heads
    "1.4 billion": (2048, 5632, 24, 16),
    "7 billion": (4096, 11008, 32, 32),
}
REAL = "135 million"
N_PROMPTS, N_TOKENS, BATCH = 32, 100, 16


def loaded(name: str, folder: Path, device: str) -> tuple[Any, Any]:
    """A model in bfloat16 (the real one in float32), and the real one's tokenizer."""
    gguf = next(folder.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
    if name == REAL:
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32)
        return model.eval().to(device), tokenizer
    width, inner, n_layer, n_head = SHAPES[name]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device=device)
    drawn = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16) * 0.02
    for weight in model.parameters():  # one block of random numbers again and again, as drawing each takes minutes
        flat = weight.data.view(-1)
        for first in range(0, len(flat), len(drawn)):
            part = flat[first : first + len(drawn)]
            part.copy_(drawn[: len(part)])
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    return model.eval(), tokenizer


def prompts(tokenizer: Any, n: int) -> list[str]:
    words = [tokenizer.decode([token]) for token in range(1000, 1000 + n)]
    return [word + " and" * (N_TOKENS - 1) for word in words]


def ours(model: Any, tokenizer: Any, n: int) -> None:
    import taskcluster as tc

    tc.observe(model, tokenizer, prompts(tokenizer, n))


@torch.no_grad()
def plain(model: Any, tokenizer: Any, n: int) -> None:
    """As the documentation of transformers suggests, in batches."""
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.pad_token or tokenizer.eos_token, "left"
    kept, texts = [], prompts(tokenizer, n)
    for first in range(0, n, BATCH):
        inputs = tokenizer(texts[first : first + BATCH], return_tensors="pt", padding=True).to(model.device)
        output = model(**inputs, output_hidden_states=True)
        kept.append(torch.stack([layer[:, -1].float().cpu() for layer in output.hidden_states]))
    torch.cat(kept, dim=1)


WAYS: dict[str, Callable[[Any, Any, int], None]] = {"ours": ours, "plain": plain}


def measure(name: str, way: str, folder: Path, device: str, n: int) -> None:
    """Print bytes above the weights, and seconds, as JSON."""
    import taskcluster.library.observing  # noqa: F401  # imports are not what is measured

    model, tokenizer = loaded(name, folder, device)
    weights = sum(weight.nbytes for weight in model.parameters())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far, of loading, is forgotten
        before = in_bytes("VmRSS")
    clock = time.monotonic if device == "cuda" else time.process_time  # of the processor, which others may use too
    began = clock()
    WAYS[way](model, tokenizer, n)
    seconds = clock() - began
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else in_bytes("VmHWM")
    print(json.dumps({"peak": peak - before, "seconds": seconds, "weights": weights}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="*", default=[REAL, *SHAPES])
    parser.add_argument("--prompts", type=int, default=N_PROMPTS)
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "WAY"), help="one case, in this process")
    given = parser.parse_args()
    if given.one:
        measure(*given.one, given.folder, given.device, given.prompts)
        return
    rows = []
    for size in given.sizes:
        found = {}
        for way in WAYS:
            command = [sys.executable, __file__, str(given.folder), "--device", given.device]
            command += ["--prompts", str(given.prompts), "--one", size, way]
            found[way] = json.loads(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            )
            print(size, way, found[way], flush=True)
        us, them = found["ours"], found["plain"]
        rows.append(
            row(
                f"observing {size}: memory above the weights", us["peak"] / MIB, them["peak"] / MIB, "plain loop", "MiB"
            )
        )
        rows.append(row(f"observing {size}", us["seconds"], them["seconds"], "plain loop", "s", prompts=given.prompts))
    record(rows)


if __name__ == "__main__":
    main()
