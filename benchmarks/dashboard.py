"""The live page with 200 runs of 100 measurements of 14 curves each, in Chromium: how soon it shows what.

out: printed seconds. start: from the command to the page's first byte. first view: from opening the page until the
table and the charts in sight are shown, with the server just started, and again later; whole: with those just out of
sight, which are drawn next. update: from the arrival of new points until they are drawn. latency: from a line of a
journal to its point on the screen.

    python benchmarks/dashboard.py [CONDITIONS SEEDS MEASUREMENTS]    # 2000 5 5: 10,000 runs
"""

import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import Page, sync_playwright

from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import append

SHAPES = [(40, 5, 100), (200, 1, 100)]  # conditions, seeds, measurements
LAYERS = 7
CHROMIUM = "/usr/bin/chromium"
UPDATES = 5

DRAWN = "document.body.dataset.drawn === 'true'"

# Notes when the browser has shown the table with every chart of which the top is within so many pixels of the screen.
WATCH = """
const near = (plot, pixels) => plot.getBoundingClientRect().top < innerHeight + pixels;
const drawn = (plot) => plot.querySelector('canvas');
const seen = (pixels) => document.querySelector('#runs tbody tr') &&
  [...document.querySelectorAll('.plot')].filter((plot) => near(plot, pixels)).every(drawn);
window.shownAt = {};
const look = () => {
  for (const pixels of [0, 150]) {
    if (!(pixels in shownAt) && seen(pixels)) shownAt[pixels] = performance.timeOrigin + performance.now();
  }
  requestAnimationFrame(look);
};
look();
"""


def line(step: int, height: float, noise: random.Random) -> dict[str, Any]:
    """Of metrics.jsonl: 116 keys, of which 32 are shown."""
    values: dict[str, Any] = {"step": step}
    for split in ("train", "val"):
        values |= {f"{split}/loss": 4 - height, f"{split}/accuracy": height}
        kinds = ("ari", "nmi", "inertia", "ari_at_input", "nmi_at_input", "inertia_at_input")
        for metric in (*kinds, "ari_within_x", "ari_within_x_to_y"):
            for layer in range(LAYERS):
                values[f"{metric}/{split}/layer_{layer}"] = height * layer / LAYERS + noise.uniform(0, 0.05)
    return values | {"time": "2026-01-01T00:00:00+00:00", "elapsed": step / 10, "measuring": 0.5}


def write(root: Path, n_conditions: int, n_seeds: int, n_measurements: int) -> list[RunFolder]:
    """Folders of runs that are finished."""
    noise = random.Random(0)
    runs = []
    for condition in range(n_conditions):
        for seed in range(n_seeds):
            run = RunFolder(root / "sweep" / f"optimizer.lr={condition + 1}e-4" / f"seed={seed}")
            run.path.mkdir(parents=True)
            config = {"seed": seed, "seeds": {"tasks": seed}, "optimizer": {"lr": (condition + 1) / 1e4}}
            config |= {"model": {"n_layer": LAYERS - 1}, "trainer": {"max_steps": 10 * n_measurements}}
            (run.path / "config.yaml").write_text(yaml.safe_dump(config))
            start = {"time": "2026-01-01T00:00:00+00:00", "step": 0, "max_steps": 10 * n_measurements}
            status = {"state": "finished", "id": f"{condition}-{seed}", "starts": [start], "wall_seconds": 100}
            (run.path / "status.json").write_text(json.dumps(status))
            heights = [1 - 0.95 ** (k * (condition + 1) / n_conditions) for k in range(n_measurements)]
            lines = [json.dumps(line(10 * k, height, noise)) for k, height in enumerate(heights)]
            run.journal.write_text("\n".join(lines) + "\n")
            runs.append(run)
    return runs


class Server:
    """`taskcluster-dashboard ROOT` on a port that is free; started: seconds from the command to the first byte."""

    def __init__(self, root: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self.begun = time.monotonic()
        command = [sys.executable, "-m", "taskcluster.dashboard", str(root), "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not self._answers():
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.01)
        self.started = time.monotonic() - self.begun

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url) as page:
                return page.status == 200
        except OSError:
            return False

    def end(self) -> float:
        """Seconds that it takes."""
        begun = time.monotonic()
        self.process.terminate()
        self.process.wait()
        return time.monotonic() - begun


def until(page: Page, condition: str) -> None:
    """Wait for it; playwright's own way evaluates text inside the page, which the page's policy forbids."""
    while not page.evaluate(f"document.body !== null && {condition}"):
        time.sleep(0.01)


def opened(page: Page, url: str) -> tuple[float, float]:
    """Seconds until the table and the charts in sight are shown, and until those near them are."""
    page.add_init_script(WATCH)
    begun = time.time()
    page.goto(url)
    until(page, "150 in shownAt")
    return page.evaluate("shownAt[0]") / 1000 - begun, page.evaluate("shownAt[150]") / 1000 - begun


def grown(page: Page, runs: list[RunFolder], step: int) -> tuple[float, float]:
    """Seconds from a line in each journal to the screen, and those of them in which the page drew."""
    page.evaluate("performance.clearMeasures()")
    noise = random.Random(step)
    begun = time.monotonic()
    for run in runs:
        append(run.journal, line(step, 0.9, noise))
    said = f"[...document.querySelectorAll('#runs tr')].filter(r => r.textContent.includes('{step} /')).length"
    until(page, f"{said} === {len(runs)} && {DRAWN}")
    latency = time.monotonic() - begun
    (*_, drawing) = page.evaluate("performance.getEntriesByName('update').map((entry) => entry.duration)")
    return latency, drawing / 1000


def main(shapes: list[tuple[int, ...]]) -> None:
    wrong: list[str] = []
    for n_conditions, n_seeds, n_measurements in shapes:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, ExitStack() as closing:
            runs = write(Path(folder), n_conditions, n_seeds, n_measurements)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.on("pageerror", lambda error: wrong.append(str(error)))
            server = Server(Path(folder))
            closing.callback(server.process.kill)
            cold, cold_whole = opened(page, server.url)
            warm = [
                opened(browser.new_context(viewport={"width": 1440, "height": 900}).new_page(), server.url)
                for _ in range(3)
            ]
            for other in browser.contexts[1:]:
                other.close()
            few = [grown(page, runs[:2], 10 * (n_measurements + k)) for k in range(UPDATES)]
            listed = runs[:200]  # the page lists the first thousand
            all_of_them = [grown(page, listed, 10 * (n_measurements + UPDATES + k)) for k in range(2)]
            ended = server.end()
            browser.close()
        assert not wrong, wrong
        print(f"{n_conditions} conditions x {n_seeds} seeds x {n_measurements} measurements x {2 * LAYERS} curves")
        print(f"  start to first byte            {server.started:5.2f} s   (ends in {ended:.2f} s)")
        view, whole = (statistics.median(values) for values in zip(*warm, strict=True))
        print(f"  first view, server just begun  {cold:5.2f} s   whole {cold_whole:5.2f} s")
        print(f"  first view, server running     {view:5.2f} s   whole {whole:5.2f} s")
        for name, found in (("2 runs grow", few), (f"{len(listed)} runs grow", all_of_them)):
            latency, drawing = (statistics.median(values) for values in zip(*found, strict=True))
            print(f"  {name:14} update drawn in {drawing:5.3f} s; from journal to screen {latency:5.2f} s", flush=True)


if __name__ == "__main__":
    given = tuple(int(argument) for argument in sys.argv[1:])
    main([given] if given else [*SHAPES])
