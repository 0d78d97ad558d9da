"""taskcluster-train: compose the configuration, build data, model, measures and trainer, train or resume, conclude."""

from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from taskcluster.config import RunConfig
from taskcluster.operations.command_line import cli
from taskcluster.operations.live.speaking import speaking
from taskcluster.operations.processes import environment, streams
from taskcluster.operations.processes.launch import launch, missing_processes, rank
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import is_finished, with_recorded_frame
from taskcluster.training.outcome import in_one_sentence
from taskcluster.training.series import series
from taskcluster.validation import UserError
from taskcluster.work import doing


def main() -> None:
    cli.run(job)


def job(cfg: DictConfig) -> None:
    """One run in the folder that Hydra chose, in as many processes as its trainer asks for."""
    environment.add_config_folders()
    hydra, config = HydraConfig.get(), cli.job_config(cfg)
    folder, in_multirun = Path(hydra.runtime.output_dir), hydra.mode is RunMode.MULTIRUN
    if not in_multirun and any(word.lstrip("+").startswith("hydra.sweep.") for word in hydra.overrides.hydra):
        raise UserError("hydra.sweep.dir and hydra.sweep.subdir are for multiruns; add -m, or use hydra.run.dir=")
    with in_one_sentence(folder):
        n = missing_processes(RunConfig.of(config).trainer)
        if n > 1:
            launch("taskcluster.train:train", n, config, folder, in_multirun)
        else:
            train(config, folder, in_multirun)


def train(composed: Mapping[str, object], folder: Path, in_multirun: bool) -> None:
    """Train a run from where its folder was left, unless it is finished, and conclude it. All processes of a run call
    this; the first one writes. Training code is imported here, so that --help is quick.

    Raises UserError before anything is written where the configuration or the folder cannot be used.
    """
    run, console, label = RunFolder(folder), streams.console(), RunFolder(folder).name if in_multirun else ""
    console.quiet = rank() > 0
    config = with_recorded_frame(run, RunConfig.of(composed))
    finished = is_finished(run, config, series(config))
    if not finished and rank() == 0:
        run.refuse_in_use()
    with speaking(console, label):
        with doing("loading libraries"), environment.large_imports():
            from taskcluster.operations.processes.group import untouched
            from taskcluster.training.experiment import Experiment, language_model, measuring, prepare, refuse_device
            from taskcluster.training.progress import quieten
            from taskcluster.training.recording import conclude_again, recorded

            quieten()
        if not finished:
            with untouched():
                refuse_device(config.trainer)
                with doing("preparing prompts and model"):
                    data, network = prepare(config)
                    config = config.with_frame(data.chat_frame._asdict()) if data.chat_frame else config
                    model = language_model(config, data, network)
                    measurement = measuring(config, data, network)
                experiment = Experiment(config, run, data, model, measurement, console, label)
                with recorded(experiment, console) as (start, conclude_run):
                    experiment.fit(start.checkpoint, start.measured)
                    conclude_run()
        elif rank() == 0:
            conclude_again(config, run, console)
    if not in_multirun and rank() == 0:
        from taskcluster.training.answer import show

        show(run, console)


if __name__ == "__main__":
    main()
