"""Load a run from its folder: data, network with the weights of a step, measures.

in:  a run folder with a checkpoint of the step, or of a run that made no updates, whose configuration names the model
out: LoadedRun, whose `measure` reproduces the numbers of the journal
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from transformers import PreTrainedModel

from taskcluster.config import RunConfig
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import ROLES, Position
from taskcluster.library.prompt_observation import PromptObservation
from taskcluster.measures.clusterers.clusterer import Clusterer
from taskcluster.measures.measure import Keep, Measurement, not_kept
from taskcluster.measures.observation import Observation, observe
from taskcluster.runs.checkpoints import put_weights
from taskcluster.runs.folder import RunFolder
from taskcluster.training.experiment import measuring, prepare
from taskcluster.training.series import put_checkpoint, series
from taskcluster.validation import UserError


@dataclass
class LoadedRun:
    """A run at a step.

    Attributes:
        run: its folder.
        config: its configuration, checked and typed.
        data: its datamodule, with the tasks, `data.family`, and the probe set, `data.probe`.
        network: a Hugging Face causal LM with the weights of `step`.
        measurement: all of its measures.
        step: number of optimizer updates.
    """

    run: RunFolder
    config: RunConfig
    data: SequenceDataModule
    network: PreTrainedModel
    measurement: Measurement
    step: int

    def go_to(self, step: int) -> None:
        """Load the weights of another step into the same network. Raises UserError if it has no checkpoint, or one
        that does not fit."""
        self.run.steps([step])
        if not self.run.as_built:
            put_weights(dict(self.run.saved())[step], self.network)
        elif step != self.step:
            pretrained = series(self.config)
            if step not in pretrained:
                path = self.config.model.arguments.get("path")
                raise UserError(f"model.path={path!r} has lost step {step}; restore it")
            put_checkpoint(pretrained[step], self.data, self.network)
        self.step = step

    def observe(
        self,
        split: str = "val",
        positions: Sequence[Position] | Position = ("instruction_end", "input"),
        final_norm: bool | None = None,
    ) -> PromptObservation:
        """What the network computes for a split of the probe set, to be clustered, patched and saved.

        Args:
            split: "train" or "val".
            positions: out of "instruction_end", "input", "answer" and, of few-shot prompts, "demonstrations".
            final_norm: whether the last layer is read after the final norm; by default as data.probe_final_norm.

        Raises:
            UserError: a split or a position that the run does not have.
        """
        if split not in self.data.probe:
            raise UserError(f"split={split!r}: choose from {', '.join(self.data.probe)}")
        asked = dict.fromkeys([positions] if isinstance(positions, str) else positions)
        there = [name for name in ROLES if len(self.data.probe[split].at(name))]
        if not asked or asked.keys() - {*there}:
            raise UserError(f"positions={positions!r}: choose from {', '.join(there)}")
        seen = observe(self.network, self.data, split, [*asked], final_norm=final_norm)
        return PromptObservation(
            **{field.name: getattr(seen, field.name) for field in fields(Observation)},
            activations={"resid_post": {at: states.cpu() for at, states in seen.states.items()}},
            clusterer=self.config.clusterer.build(Clusterer),  # type: ignore[type-abstract]
        )

    def measure(self, keep: Keep = not_kept) -> dict[str, float]:
        """The metrics of the step by their keys: on the machine that trained, the same bits as in the journal. keep:
        see `Measurement`."""
        last = max(series(self.config), default=self.config.trainer.max_steps)
        return self.measurement(self.network, self.step, last=self.step == last, keep=keep)


def load_run(folder: str | Path, step: int | None = None, changes: Mapping[str, object] | None = None) -> LoadedRun:
    """Load a run from its folder. The network is on the CPU.

    Code of your own that the run uses, such as a measure's, must be importable.

    Args:
        folder: the run folder.
        step: a step with a checkpoint; by default the last one.
        changes: {dotted key: value} of the configuration, such as {"data.probe_size": 2000}, to look at the run under
            other settings.

    Raises:
        UserError: the folder holds no run, the step has no checkpoint, this version cannot build the configuration, or
            the journal has a step twice.
    """
    run = RunFolder(Path(folder).absolute())
    run.rows()  # refuses a journal that two processes wrote, as nothing says whose checkpoints these are
    config = RunConfig.of(run.config_with(changes or {}))
    steps = run.steps([] if step is None else [step])
    data, network = prepare(config)
    first = min(series(config), default=0) if run.as_built else -1  # the step of the network as it is built
    loaded = LoadedRun(run, config, data, network.eval(), measuring(config, data, network), step=first)
    loaded.go_to(steps[-1] if step is None else step)
    return loaded
