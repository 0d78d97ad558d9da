"""On one GPU: training, measuring, clustering and the causal map beside what a user would write, and who waits for it.

in:  a machine with an NVIDIA GPU; with `--device cpu` the same at a small size, to try the script itself
out: rows of results.json (of a CPU, printed alone). Training: sequences a second by Lightning in bf16-mixed, beside
     user_script.py's model and batches; and compiled (trainer.compile), with the seconds that the first updates take
     more, and how often torch did without CUDA graphs. A measurement: the default measures of a step, beside the
     user's. KMeans: all layers at the separator. The causal map: of one step, beside one hook on the whole model an
     edited pass.
     Waits: what `torch.cuda.set_sync_debug_mode` warns of. From the command to the verdict: beside the goal, also
     compiled, which the second time finds code in torch's cache. Seeds: 20 at once, beside twice one

    python benchmarks/gpu.py [--device cpu]
"""

import subprocess
import sys
import tempfile
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import user_script
from side_by_side import Row, alternate, record, row, seconds_of, show
from sklearn import cluster
from torch import Tensor, nn
from torch._dynamo.utils import counters
from updates import SEQUENCES, STEPS, UNTIMED, Stopwatch, ours, wait

from taskcluster import Clusterer, KMeans, RunFolder
from taskcluster.config import RunConfig
from taskcluster.measures.interventions.causal_effects import Interventions
from taskcluster.measures.interventions.sites import chunks
from taskcluster.measures.measure import Measurement
from taskcluster.measures.observation import observe
from taskcluster.models.architecture import blocks
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.experiment import measuring
from taskcluster.training.progress import quieten

REPEATS = 3
GOAL = 30  # seconds from the command to the verdict, 768 wide, on an H100
SITES_OF_MAP = ("instruction", "instruction_end", "instruction_end_to_input", "input")


class Sizes(NamedTuple):
    """overrides: of everything; narrow and wide: of the two models, by what they are called."""

    accelerator: str
    overrides: tuple[str, ...]
    narrow: tuple[str, tuple[str, ...]]
    wide: tuple[str, tuple[str, ...]]
    compiled: tuple[str, ...]  # values of trainer.compile, the one for whole runs last
    seeds: int  # at once


GPU = Sizes(
    "gpu",
    ("trainer=gpu",),
    ("128 wide", ()),
    ("768 wide", ("model=gpt2_768", "optimizer.lr=3e-4")),
    ("default", "reduce-overhead"),
    20,
)
SMALL = (
    "task.n_tasks=6", "task.instructions_per_task=20", "task.instructions_spread=4", "task.n_inputs=4",
    "task.n_outputs=4", "task.n_mappings=2", "data.probe_size=60", "model.n_layer=2",
    "model.n_head=2", "callbacks.measurement.every_n_steps=4", "clusterer.n_init=2",
)  # fmt: skip
CPU = Sizes("cpu", SMALL, ("16 wide", ("model.n_embd=16",)), ("32 wide", ("model.n_embd=32",)), ("aot_eager",), 3)


def training(sizes: Sizes, name: str, overrides: tuple[str, ...], folder: Path, mode: str | None = None) -> Row:
    measure, *_ = ours(*sizes.overrides, *overrides, *([f"trainer.compile={mode}"] if mode else []))
    config = of_user(sizes, *overrides)
    model, loader, _ = user_script.parts(0, config)

    def peer() -> float:
        watch = Stopwatch()
        user_script.trainer_of(config, sizes.accelerator, folder, watch).fit(model, loader)
        return STEPS * config["data"]["batch_size"] / watch.seconds

    counters["inductor"].clear()
    first = seconds_of(measure)
    speed = alternate({"ours": measure, "peer": peer}, REPEATS)
    facts = {"compiling": first - seconds_of(measure), "without_graphs": counters["inductor"]["cudagraph_skips"]}
    title = f"training, {name}" + (f", {mode}" if mode else "")
    return row(title, speed["ours"], speed["peer"], "user_script.py", "sequences/s", **(facts if mode else {}))


def of_user(sizes: Sizes, *overrides: str) -> dict[str, Any]:
    """The user's configuration, of as many updates and as large ones as ours."""
    size = (f"data.batch_size={SEQUENCES}", f"trainer.max_steps={UNTIMED + STEPS}")
    found: dict[str, Any] = user_script.configured(0, "same", *size, *sizes.overrides, *overrides)
    return found


class Narrow:
    """The narrow model after some updates, on the device, and all that is measured of it."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self.overrides, self.sizes, self.folder = (*sizes.overrides, *sizes.narrow[1]), sizes, folder
        self.device = torch.device("cuda" if sizes.accelerator == "gpu" else "cpu")
        train, model, self.data = ours(*self.overrides)
        train()
        self.network = model.to(self.device).network.eval()

    def measurement(self, *overrides: str) -> Measurement:
        return measuring(RunConfig.of(composed(*self.overrides, *overrides)), self.data, self.network)

    def measured(self) -> Row:
        """A measurement: the default measures of a step, beside the user's."""
        model, _, probes = user_script.parts(0, of_user(self.sizes, *self.sizes.narrow[1]))
        model, measurement = model.to(self.device), self.measurement()
        of_user_script = user_script.Measure(probes, {0}, self.folder / "metrics.jsonl", 0)

        def mine() -> None:
            measurement(self.network, STEPS, last=False)
            wait()

        def peer() -> None:
            of_user_script.measure(SimpleNamespace(global_step=0), model)

        mine()
        return row("a measurement", least(mine), seconds_of(peer), "user_script.py", "s")

    def kmeans(self) -> Row:
        """All layers at the separator, beside scikit-learn on the CPU."""
        states = observe(self.network, self.data, "val").states["instruction_end"]
        clusterer: Clusterer = RunConfig.of(composed(*self.overrides)).clusterer.build(KMeans)
        k = len(self.data.family.tasks)

        def mine() -> None:
            clusterer.fit_many(list(states), [k] * len(states))
            wait()

        def peer() -> None:
            for of_layer in states.cpu().numpy():
                cluster.KMeans(k, n_init=10, random_state=0).fit(of_layer)

        mine()
        shape = " x ".join(map(str, states.shape))
        return row(f"KMeans {shape}", least(mine), seconds_of(peer), "sklearn.cluster.KMeans(n_init=10)", "s")

    def map(self) -> Row:
        """Of one step, at four sites, beside as many passes of the whole model with a hook that edits a state."""
        measure = self.measurement("measures=[interventions]").measures["interventions"]
        assert isinstance(measure, Interventions)
        seen, rows = observe(self.network, self.data, "val", []), self.data.probe["val"]
        edits = sum(metric.key.startswith("kept_") for metric in measure.metrics)
        passes = (edits + len(SITES_OF_MAP)) * (self.network.config.num_hidden_layers + 1)
        prompts = [rows.prompts(chosen, 0)[:2] for chosen in chunks(self.network, rows, measure.pairs.base)]

        def mine() -> None:
            measure.measure(seen)
            wait()

        def edit(module: nn.Module, args: Any, output: Any) -> Any:
            whole: Tensor = (output if isinstance(output, Tensor) else output[0]).clone()
            whole[:, -1] = whole[:, -1].flip(0)
            return whole if isinstance(output, Tensor) else (whole, *output[1:])

        @torch.no_grad()
        def one_pass() -> None:
            hook = blocks(self.network)[0].register_forward_hook(edit)
            for tokens, mask in prompts:
                tokens, mask = tokens.to(self.device), mask.to(self.device)
                positions = (mask.cumsum(1) - 1).clamp(min=0)
                self.network(input_ids=tokens, attention_mask=mask, position_ids=positions).logits[:, -1].argmax(1)
            hook.remove()
            wait()

        mine()
        one_pass()
        peer = "hooks on the whole model, one pass times ours"
        return row("causal map of a step", seconds_of(mine), passes * least(one_pass), peer, "s", passes=passes)

    def waits(self) -> list[Row]:
        """In ten updates by Lightning and in a measurement: how often the host waits for the GPU."""
        _, model, data = ours(*self.overrides)
        config = of_user(self.sizes, *self.sizes.narrow[1])
        user_model, loader, probes = user_script.parts(0, config)
        counts = []
        for fitted in ((model, data), (user_model, loader)):
            counter = Counting()
            user_script.trainer_of(config, "gpu", self.folder, counter).fit(*fitted)
            counts.append(counter.waits)
        measurement, user_model = self.measurement(), user_model.to(self.device)
        of_user_script = user_script.Measure(probes, {0}, self.folder / "metrics.jsonl", 0)
        with warned() as ours_waits:
            measurement(self.network.to(self.device), STEPS, last=False)
        with warned() as user_waits:
            of_user_script.measure(SimpleNamespace(global_step=0), user_model)
        return [
            row("waits in ten updates", max(1, counts[0]), counts[1], "user_script.py", "waits"),
            row("waits in a measurement", max(1, len(ours_waits)), len(user_waits), "user_script.py", "waits"),
        ]


class Counting(pl.Callback):
    """Waits in the ten updates after the first."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            self._context = warned()
            self._warnings = self._context.__enter__()
        if trainer.global_step == 11:
            self._context.__exit__(None, None, None)
            self.waits = len(self._warnings)


@contextmanager
def warned() -> Iterator[list[warnings.WarningMessage]]:
    """A context that collects what torch warns of where it waits for a GPU."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found[:] = [warning for warning in found if "called a synchronizing" in str(warning.message)]


def least(work: Callable[[], object]) -> float:
    return min(seconds_of(work) for _ in range(REPEATS))


def verdict(sizes: Sizes, folder: Path, *compiled: str) -> Row:
    """Of a whole run of the wide model, from the command to its end."""
    name, overrides = sizes.wide
    place = folder / "-".join(["run", *compiled])
    seconds = whole(sizes, *overrides, *compiled, f"hydra.run.dir={place}")
    last = RunFolder(place).rows()[-1]
    facts = {"training_and_measuring": last["elapsed"], "accuracy": last["val/accuracy"]}
    return row(", ".join([f"command to verdict, {name}", *compiled]), seconds, GOAL, "the goal", "s", **facts)


def seeds(sizes: Sizes, folder: Path) -> Row:
    """Several seeds of the narrow model at once, in processes that share the device, beside twice one seed."""
    name, overrides = sizes.narrow
    one = whole(sizes, *overrides, f"hydra.run.dir={folder / 'one'}")
    at_once = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={sizes.seeds}")
    words = ("-m", f"seed=range({sizes.seeds})", f"hydra.sweep.dir={folder / 'seeds'}", *at_once)
    return row(f"{sizes.seeds} seeds at once, {name}", whole(sizes, *overrides, *words), 2 * one, "twice one seed", "s")


def whole(sizes: Sizes, *words: str) -> float:
    """Seconds of a command in a process of its own."""
    command = [sys.executable, "-m", "taskcluster.train", *sizes.overrides, *words, "logger=none"]
    steps = () if sizes.accelerator == "gpu" else ("trainer.max_steps=6",)
    return seconds_of(partial(subprocess.run, [*command, *steps], check=True, stdout=subprocess.DEVNULL))


def main(device: str) -> int:
    if device == "cuda" and not torch.cuda.is_available():
        said = "this machine has no GPU that torch can use; add --device cpu to try the script itself at a small size"
        print(said, file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    quieten()
    sizes = GPU if device == "cuda" else CPU
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [training(sizes, *of, folder) for of in (sizes.narrow, sizes.wide)]
        narrow = Narrow(sizes, folder)
        rows += [narrow.measured(), narrow.kmeans(), narrow.map()]
        rows += narrow.waits() if device == "cuda" else []
        rows += [verdict(sizes, folder), seeds(sizes, folder)]
        for of in (sizes.narrow, sizes.wide):
            rows += [training(sizes, *of, folder, mode) for mode in sizes.compiled]
        rows.append(verdict(sizes, folder, f"trainer.compile={sizes.compiled[-1]}"))
    if device == "cpu":
        show(rows)
        return 0
    record([one | {"benchmark": f"GPU: {one['benchmark']}"} for one in rows])
    print(torch.cuda.get_device_name())
    return 0


if __name__ == "__main__":
    parser = ArgumentParser(description="On one GPU, beside what a user would write.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    sys.exit(main(parser.parse_args().device))
