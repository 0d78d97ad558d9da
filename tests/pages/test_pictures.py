"""Pages in a real Chromium: at three widths, light and dark, nothing overflows and no text is cut or collides.

PICTURES=FOLDER pytest tests/pages/test_pictures.py also writes the pictures, for people to look at.
"""

import os
from pathlib import Path
from typing import Any

import planted
import pytest
from planted import EFFECTS, config, plant

from taskcluster.pages import multirun_report
from taskcluster.training import figures

pytestmark = pytest.mark.slow

WIDTHS = (420, 1000, 1400)
RUNS = [(1, 6, True), (1, 30, False), (2, 30, True), (3, 3, True), (5, 6, False), (20, 6, True)]

DRAWN = (
    """() => [...document.querySelectorAll("figure > div")].every((plot) => !plot.clientWidth || plot.dataset.drawn)"""
)
OPEN = """() => document.querySelectorAll("body > details").forEach((details) => (details.open = true))"""
WRONG = """() => {
  const wrong = [];
  const sideways = document.documentElement.scrollWidth - innerWidth;
  if (sideways > 0) wrong.push(`the page is ${sideways} pixels too wide`);
  for (const svg of document.querySelectorAll(".chart-wrapper > svg")) {
    const figure = svg.closest("figure").id, edge = svg.getBoundingClientRect(), boxes = [];
    const scale = edge.width / svg.viewBox.baseVal.width;
    if (scale < 0.9) wrong.push(`${figure}: is drawn at ${scale.toFixed(2)} of its size`);
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect(), words = text.textContent;
      if (!box.width || Number(getComputedStyle(text).opacity) === 0) continue;
      if (words.includes("\\u2026")) wrong.push(`${figure}: "${words}" is cut`);
      const out = Math.max(edge.left - box.left, box.right - edge.right, edge.top - box.top, box.bottom - edge.bottom);
      if (out > 2) wrong.push(`${figure}: "${words}" is ${out.toFixed()} pixels out of the chart`);
      if (/rotate\\((-60|300)/.test(text.getAttribute("transform"))) continue; // its box is larger than its letters
      for (const [other, said] of boxes) {
        const wide = Math.min(box.right, other.right) - Math.max(box.left, other.left);
        const high = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
        if (wide > 2 && high > 4) wrong.push(`${figure}: "${words}" collides with "${said}"`);
      }
      boxes.push([box, words]);
    }
  }
  return wrong;
}"""


def shown_wrong(browser: Any, page: Path, name: str) -> list[str]:
    """What is wrong with a page at any width, light or dark, with everything unfolded."""
    wrong: list[str] = []
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            opened.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
            opened.goto(page.as_uri())
            opened.evaluate(OPEN)
            opened.wait_for_function(DRAWN)
            wrong.extend(f"{scheme}, {width}: {said}" for said in opened.evaluate(WRONG))
            if folder := os.environ.get("PICTURES"):
                opened.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
            opened.close()
    return wrong


def made(root: Path, n_runs: int, n_layer: int, steps: bool, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report of runs that differ in the weight decay, of many steps or of one; of one run, its page."""
    planted_rows = planted.rows
    effects = {e.at("val", layer): 0.5 * layer / n_layer for e in EFFECTS for layer in range(n_layer + 1)}
    monkeypatch.setattr(planted, "DECLARED", (*planted.DECLARED, *EFFECTS))
    monkeypatch.setattr(
        planted, "rows", lambda *given: [row | effects for row in planted_rows(*given)[0 if steps else -1 :]]
    )
    monkeypatch.setattr(multirun_report, "FORMATS", ())
    for k in range(n_runs):
        settings = config(0, n_layer=n_layer, optimizer={"weight_decay": k / 10})
        settings["task"] = {"_target_": "taskcluster.tasks.pairs.pairs_family", "path": "/data/pairs", "n_tasks": 12}
        run = plant(root / f"optimizer.weight_decay={k / 10}/seed=0", 0.9 - k / 50, settings, kmeans=(0.0, 0.01))
    if n_runs > 1:
        return multirun_report.write(root)
    run.figures.mkdir(exist_ok=True)
    figures.draw(run)
    return run.figures / "index.html"


@pytest.mark.parametrize(("n_runs", "n_layer", "steps"), RUNS)
def test_nothing_overflows_and_no_text_is_cut_or_collides(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_runs: int, n_layer: int, steps: bool
) -> None:
    page = made(tmp_path / "decay", n_runs, n_layer, steps, monkeypatch)
    assert shown_wrong(browser, page, f"{n_runs}_runs_{n_layer}_layers_{'steps' if steps else 'one_step'}") == []
