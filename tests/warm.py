"""Imported by the server that faults.py forks runs from, so that each run starts with its imports done.

Nothing here may start a thread, as a fork takes only one along.
"""

import gc

import faults  # noqa: F401
import transformers.models.gpt2.modeling_gpt2  # noqa: F401

import taskcluster.models.from_scratch
import taskcluster.operations.multiruns.multirun
import taskcluster.training.experiment
import taskcluster.training.figures
import taskcluster.training.recording  # noqa: F401
from taskcluster.operations.command_line.cli import composed

composed()  # Hydra has found its plugins by now, and its grammars are built
gc.freeze()
