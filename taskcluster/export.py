"""taskcluster-export: write a run's model in the format of transformers and the Hugging Face Hub."""

import argparse
from pathlib import Path

from taskcluster.operations.command_line.arguments import Parser, refusing
from taskcluster.operations.live.speaking import speaking
from taskcluster.operations.processes import environment, streams
from taskcluster.runs.atomic_files import filling, refuse_taken
from taskcluster.runs.records import text
from taskcluster.validation import UserError
from taskcluster.work import doing

EXAMPLES = """
  taskcluster-export outputs/reproduce/seed=0 model             the model of the last step
  taskcluster-export outputs/reproduce/seed=0 early step=240    that of another step with a checkpoint
  hf upload NAME/MODEL model                                    puts it on the hub, with an account

DIR then holds the weights (safetensors), the tokenizer, and a README.md with the verdict and the numbers of the run.
AutoModelForCausalLM.from_pretrained(DIR) loads it, and taskcluster-train
model=pretrained model.path=DIR trainer.max_steps=0 measures it on the tasks, prompts and seeds of the run.
"""


def main() -> None:
    environment.prepare()
    parser = Parser(
        prog="taskcluster-export",
        usage="taskcluster-export RUN DIR [step=STEP]",
        description="Export a run's model in transformers' format, with its tokenizer and a model card.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "step",
        nargs="?",
        default="step=last",
        metavar="step=STEP",
        help="a step with a checkpoint (default: the last one)",
    )
    arguments = parser.parse_args()
    with refusing(parser.prog):
        key, _, step = arguments.step.partition("=")
        if key != "step" or not (step == "last" or step.isdecimal()):
            raise UserError(f"{arguments.step} is not step=STEP; write, for example, step=240")
        refuse_taken(arguments.folder)
        with filling(arguments.folder) as folder, speaking(streams.console()), doing("writing the model"):
            with environment.large_imports():
                # Imported late, so that --help and refusals are quick.
                from taskcluster.training.exporting import export

            exported = export(arguments.run, folder, None if step == "last" else int(step))
        print(f"The model of step {exported} is in {text(str(arguments.folder))}", flush=True)


if __name__ == "__main__":
    main()
