"""The commands and snippets of the pages, and a copy of the tree to run them in."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Container, Iterator
from pathlib import Path
from shlex import quote
from subprocess import DEVNULL, STDOUT
from typing import NamedTuple

import taskcluster

ROOT = Path(taskcluster.__file__).parents[1]
DOCS = ROOT / "docs"

ELSEWHERE = {  # commands that need more than this machine, by what they hold: why
    r"^make (?!reproduce)": "runs the tests or the benchmarks, or fetches a model",
    r"^pip install": "needs the package index",
    r"=gpt2 (task|trainer|optimizer)|EleutherAI|^hf upload": "needs the hub",
    r"=\.models/smollm2": "needs the 93 MB of `make smollm2`",
    r"^wandb |tracking\.upload| --wandb": "needs an account of W&B",
    r"docs/tables\.py": "needs the whole sweeps",
    r"trainer=gpu|accelerator=gpu": "needs a GPU",
    r"num_nodes=2|submitit_slurm|launcher=ray": "needs a cluster: tests/slurm, tests/operations/processes",
    r"^ssh |^tensorboard |--allow-host": "is a server, or a way to one",
}

STEPS = 24  # of runs, but those whose steps 240 and 600 a page names
LONG = r"reproduce|experiment=seeds( |$)|name=longer|ckpt_path"

SMALLER = {  # defaults of the copy, so that a run takes seconds; folders have the same names, journals the same steps
    "conf/trainer/cpu.yaml": {"max_steps: 600": "max_steps: ${oc.decode:${oc.env:STEPS,600}}"},
    "conf/task/regex.yaml": {"n_tasks: 50": "n_tasks: 12", "task: 152": "task: 20", "spread: 48": "spread: 4"},
    "conf/task/facts.yaml": {
        "n_inputs: 40": "n_inputs: 12", "n_instructions: null": "n_instructions: 12", "n_sets: 40": "n_sets: 12"
    },
    "conf/task/pairs.yaml": {"n_sets: 40": "n_sets: 12"},
    "conf/data/sequences.yaml": {"batch_size: 160": "batch_size: 16", "probe_size: 1000": "probe_size: 120"},
    "conf/model/gpt2.yaml": {"n_embd: 128": "n_embd: 16"},
    "docs/examples/model/model/small_qwen.yaml": {"n_embd: 128": "n_embd: 16"},
    "conf/measures/chance.yaml": {"n_shuffles: 999": "n_shuffles: 19"},
    "conf/measures/kmeans_noise.yaml": {"n_seeds: 5": "n_seeds: 2"},
    "conf/measures/interventions.yaml": {"n_pairs: 500": "n_pairs: 20", "steps: 1 ": "steps: null "},
    "conf/measures/interventions_at_answer.yaml": {"n_pairs: 240": "n_pairs: 20"},
    "conf/measures/vectors.yaml": {"n_prompts: 40": "n_prompts: 8", "n_heads: 10": "n_heads: 2"},
    "conf/experiment/facts.yaml": {
        "max_steps: 240": "max_steps: 24", "n_pairs: 240": "n_pairs: 20", "seed: 0,1,2": "seed: 0",
    },
    "conf/experiment/causal.yaml": {"0,1,2,3,4 #": "0,1 #"},
    "conf/experiment/seeds.yaml": {"0,1,2,3,4 #": "0,1 #"},
    "conf/experiment/seeds_layers.yaml": {"0,1,2,3,4": "0,1"},
    "conf/experiment/regexes.yaml": {
        "max_steps: 2000": "max_steps: 24", "task: 456": "task: 60", "spread: 144": "spread: 6",
        "0,1,2,3,4": "0,1", '"0,1,2"': '"0"',
    },
    "conf/experiment/n_tasks.yaml": {"max_steps: 1200": "max_steps: 24", "10,25,50,100": "10,25", "0,1,2": "0"},
    "conf/experiment/n_mappings.yaml": {"max_steps: 600": "max_steps: 24", "0,1,2": "0"},
    "conf/experiment/n_instructions.yaml": {"max_steps: 600": "max_steps: 24", "0,1,2": "0"},
}  # fmt: skip


class Block(NamedTuple):
    language: str
    text: str


def pages() -> list[Path]:
    """In the order in which they are read."""
    listed = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(DOCS / name for name in listed)]


def blocks(page: Path) -> list[Block]:
    """Of code, as they are shown; an example that the site puts in is none."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(*block) for block in found if "--8<--" not in block[1]]


def commands(text: str) -> list[str]:
    """Those of a block for the shell, without their comments."""
    return [line.partition(" #")[0].rstrip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def elsewhere(command: str) -> str:
    """Why a command is not run here, "" for one that is."""
    return next((reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, command)), "")


def script(page: Path, done: Container[str] = ()) -> str:
    """All of a page that is run, as one script of the shell: its Python after the commands, as a reader's session.

    done: commands of earlier pages, which are not repeated.
    """
    python = [block.text for block in blocks(page) if block.language == "python"]
    steps = (step for line in here(page) if line not in done for step in _step(line))
    return "\n".join([*steps, *(["python - <<'END'", *python, "END"] if python else [])]) + "\n"


def here(page: Path) -> list[str]:
    """The commands of a page that are run."""
    lines = [line for block in blocks(page) if block.language == "sh" for line in commands(block.text)]
    return [line for line in lines if not elsewhere(line)]


def _step(line: str) -> Iterator[str]:
    if "taskcluster" not in line and not line.startswith(("make", "python")):  # a setting, for the page alone
        yield line
        return
    yield "unset STEPS" if re.search(LONG, line) else f"export STEPS={STEPS}"
    yield f"echo; echo {quote(f'$ {line}')}"
    yield _served(line) if line.startswith("taskcluster-dashboard") else line


def _served(line: str) -> str:
    """A page that is open until its user ends it, by Ctrl-C; on any free port."""
    served = f"timeout --signal=INT 40 {line} --port 0 > served & wait $! || true"
    return f"{served}\ncat served; grep -q http:// served"


def clone(folder: Path) -> None:
    """The tree as git has it, with the defaults of SMALLER, and a `.venv` that imports it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, folder / name)
    for name, changes in SMALLER.items():
        text = (folder / name).read_text()
        for old, new in changes.items():
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        (folder / name).write_text(text)
    if (models := ROOT / ".models").is_dir():  # as `make smollm2` would have fetched them
        (folder / models.name).symlink_to(models)
    environment(folder)


def environment(folder: Path) -> None:
    """As `make` would have installed it, but from what is installed here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    here, bin = Path(sysconfig.get_path("purelib")), folder / ".venv" / "bin"
    there = folder / ".venv" / here.relative_to(sys.prefix)
    (there / "tree.pth").write_text(f"{folder}\n{here}\n")
    for script in Path(sys.executable).parent.glob("taskcluster-*"):
        _, _, rest = script.read_text().partition("\n")
        (bin / script.name).write_text(f"#!{bin / 'python'}\n{rest}")
        (bin / script.name).chmod(0o755)
    (folder / ".venv" / "installed").touch()


def run(page: Path, folder: Path, done: Container[str] = ()) -> tuple[int, str]:
    """The exit code of a page's script in a real shell, and what it printed."""
    path, log = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", folder / f"{page.stem}.log"
    chosen = {"PATH": path, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WANDB", "TASKCLUSTER"))}
    shell = ["bash", "-eu", "-o", "pipefail", "-c", script(page, done)]
    with log.open("w") as printed:
        ran = subprocess.run(shell, cwd=folder, env=kept | chosen, stdin=DEVNULL, stdout=printed, stderr=STDOUT)
    return ran.returncode, log.read_text()
