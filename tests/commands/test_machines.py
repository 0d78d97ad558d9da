"""All commands on machines without a user, a home, a locale, a terminal or a time zone."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars
import pytest
from conftest import SMALL

pytestmark = pytest.mark.slow

# As another user, who may read this checkout and its interpreter wherever they are, but write nowhere else.
ANOTHER = [
    "setpriv", "--reuid=12345", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
UNNAMED = [f"--unset={name}" for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")]

MACHINES: dict[str, list[str]] = {
    "a user without a name and a home": [*ANOTHER, "env", *UNNAMED],
    "a home and a temporary folder that are read-only": [*ANOTHER, "env", "HOME=/proc", "TMPDIR=/proc"],
    "an ASCII locale": ["env", "LC_ALL=C"],
    "no terminal, home nor time zone": [
        "env", "--unset=TERM", "HOME=/not/there", "COLUMNS=1", "TZ=Odd/Zone",
    ],
}  # fmt: skip

PAIRS = {"été": "Sommer", "naïf": "naïv", "日本": "Япония", "cœur": "Herz", "élève": "Schüler", "garçon": "Junge"}
OTHERS = {"été": "summer", "naïf": "naïve", "日本": "Japan🗾", "cœur": "heart", "élève": "pupil", "garçon": "boy"}


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("machine", MACHINES)
def test_all_commands_work(shared_folder: Path, machine: str) -> None:
    """On tasks whose texts and names are not ASCII, in a folder whose name has a space and is not ASCII either."""
    prefix = MACHINES[machine]
    if prefix[0] == "setpriv" and subprocess.run([*ANOTHER, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("needs the right to become another user")
    folder = shared_folder / "größe x"
    (folder / "tâches").mkdir(parents=True)
    for name, pairs in {"français-größe": PAIRS, "français-english": OTHERS}.items():
        text = json.dumps([{"input": x, "output": y} for x, y in pairs.items()], ensure_ascii=False)
        (folder / "tâches" / f"{name}.json").write_text(text, encoding="utf-8")
    folder.chmod(0o777)
    small = [word for word in SMALL if not word.startswith("task.")]
    task = ["task=pairs", "task.path=tâches", "task.n_pairs=6", "task.describe=instruction"]
    run = "läufe/seed=0"

    def command(name: str, *words: str) -> str:
        ended = subprocess.run(
            [*prefix, sys.executable, "-m", f"taskcluster.{name}", *words],
            cwd=folder, capture_output=True, timeout=300, umask=0o077, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr.decode(errors="replace")
        assert b"Traceback" not in ended.stderr
        return ended.stdout.decode(errors="replace")

    printed = command("train", *small, *task, "data.layout=sequences", f"hydra.run.dir={run}")
    assert "could not be made" not in printed
    command("report", "läufe")
    command("analyze", run, "measures=[clustering]")
    command("export", run, "modell ü")
    assert "tâches" in (folder / "modell ü" / "README.md").read_text(encoding="utf-8")
    assert polars.read_parquet(folder / "läufe/report/table.parquet")["run"].unique().to_list() == ["seed=0"]
