"""The live page in a real Chromium."""

import csv
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted import EFFECTS, LAYERS, SIMILARITY, begin, leave_tsne, line, measure
from served import LONG, Server

from taskcluster.metrics import OWN

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=owned=1>"
LOST = "ERR_CONNECTION_REFUSED"  # which Chromium says of a server that has ended


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    server = Server(root, "--allow-host", "hub.example.org")
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A page without errors, which asks nobody else for anything."""
    opened = browser.new_page(viewport={"width": 1300, "height": 1000}, color_scheme="dark")
    wrong: list[str] = []
    errors = lambda said: said.type == "error" and LOST not in said.text  # noqa: E731
    opened.on("console", lambda said: wrong.append(said.text) if errors(said) else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    local = ("http://127.0.0.1:", "blob:", "data:")
    opened.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    opened.set_default_timeout(LONG * 1000)
    yield opened
    opened.close()
    assert wrong == []


def until(page: Any, condition: str) -> Any:
    """Wait for it; playwright's own way evaluates text inside the page, which the page's policy forbids."""
    end = time.monotonic() + LONG
    while not (value := page.evaluate(condition)):
        assert time.monotonic() < end, condition
        time.sleep(0.02)
    return value


def drawn(page: Any) -> None:
    until(page, "document.body.dataset.drawn === 'true' && document.querySelectorAll('canvas').length > 0")


def visit(page: Any, server: Server) -> None:
    page.goto(server.url)
    drawn(page)


def downloaded(page: Any, kind: str, nth: int = 0) -> bytes:
    with page.expect_download() as download:
        page.locator("article").nth(nth).get_by_role("button", name=kind).click()
    return Path(download.value.path()).read_bytes()


def curves(page: Any, nth: int = 0) -> list[dict[str, str]]:
    return list(csv.DictReader(downloaded(page, "CSV", nth).decode().splitlines()))


def listed(page: Any, step: int) -> None:
    until(page, f"document.querySelector('#runs tbody').textContent.includes('{step} /')")
    drawn(page)


def test_a_run_appears_grows_and_is_killed_without_reload(page: Any, server: Server, root: Path) -> None:
    page.goto(server.url)
    page.get_by_text("No runs yet").wait_for()
    page.evaluate("window.same = true")
    run = begin(root / "live" / "seed=0")
    with run.locked():
        measure(run, 0)
        page.locator("tr.running").wait_for()
        drawn(page)
        assert page.get_by_text("Each condition: every layer").count() == 0  # nothing over one step
        measure(run, 10)
        listed(page, 10)
        before = len(curves(page))
        measure(run, 20)
        listed(page, 20)
        assert len(curves(page)) == before * 3 // 2
        run.start(run.config(), None, (*OWN, EFFECTS[0]))  # another metric by layer
        run.append(line(0) | {EFFECTS[0].at("val", layer): 0.5 for layer in range(LAYERS)}, elapsed=1, measuring=1)
        until(page, "document.querySelectorAll('#metrics input').length === 3")
    page.locator("tr.killed").wait_for()
    assert page.evaluate("window.same")


def test_a_link_leads_to_the_same_view(page: Any, server: Server, root: Path) -> None:
    for n_layer in (2, 3):
        for seed in range(2):
            run = begin(root / "s" / f"n={n_layer}" / f"seed={seed}", seed, n_layer=n_layer)
            for step in range(0, 50, 10):
                measure(run, step, 0.5 + 0.1 * seed)
            leave_tsne(run.figures / "tsne.json")
    visit(page, server)
    assert {point["condition"] for point in curves(page)} == {"n_layer=2", "n_layer=3"}
    page.get_by_label("filter conditions").fill("n_layer=3")
    page.get_by_label("layer", exact=True).select_option("1")
    page.get_by_text("ARI within x", exact=True).click()
    page.get_by_role("button", name="t-SNE").first.click()
    page.get_by_label("checkpoint").fill("0")
    page.get_by_role("button", name="seed", exact=True).click(click_count=2)
    page.evaluate("location.hash += '&steps=0,20'")
    page.get_by_label("switch between").click()
    drawn(page)
    points = curves(page)
    assert {(p["condition"], p["metric"], p["layer"]) for p in points} == {("n_layer=3", "ari_within_x", "1")}
    assert {p["step"] for p in points} == {"0", "10", "20"}
    assert all(float(p["mean"]) == pytest.approx(0.275) for p in points)
    assert downloaded(page, "PNG").startswith(b"\x89PNG")
    assert downloaded(page, "SVG").startswith(b"<svg")

    link = page.url
    page.goto("about:blank")
    page.goto(link)
    drawn(page)
    assert curves(page) == points
    assert page.locator("html").get_attribute("data-theme") == "light"  # the system is dark
    assert page.locator("#runs .seed").all_inner_texts() == ["1", "0"]
    until(page, "document.querySelector('#tsne output').textContent === 'step 0 (1 of 2)'")


def test_conditions_with_interventions_have_maps_that_grow(page: Any, server: Server, root: Path) -> None:
    other = begin(root / "s" / "n=3" / "seed=0", n_layer=3)
    for step in (0, 10):
        measure(other, step)
    runs = [begin(root / "s" / "n=2" / f"seed={seed}", seed) for seed in range(5)]

    def intervene(step: int) -> None:
        for seed, run in enumerate(runs):
            effects = {m.at("val", layer): step / 100 + 0.05 * seed for m in EFFECTS for layer in range(LAYERS)}
            run.append(line(step) | effects, elapsed=step / 10, measuring=0.5)

    for run in runs:
        run.start(run.config(), None, (*OWN, *EFFECTS))
    intervene(0)
    intervene(10)
    visit(page, server)
    first = page.locator("#across article").count()
    assert page.locator("#each article").count() == 3 + 1
    by_layer_and_step, by_position = curves(page, first + 1), curves(page, first + 2)
    effects = {(p["step"], p["n"]): p["mean"] for p in by_layer_and_step if p["metric"] == "effect_add_input"}
    assert effects == {("0", "5"): "0.1", ("10", "5"): "0.2"}
    assert {p["metric"] for p in by_position if "effect" in p["metric"]} == {
        "effect_interchange_input", "effect_interchange_instruction_end"
    }  # fmt: skip
    assert {p["step"] for p in by_position} == {"10"}
    intervene(20)
    until(page, "document.querySelector('#runs tbody').textContent.split('20 /').length === 6")
    drawn(page)
    assert {p["step"] for p in curves(page, first + 1)} == {"0", "10", "20"}
    page.locator("#each article").nth(1).locator("canvas").hover(position={"x": 120, "y": 100})
    page.locator("#tooltip").get_by_text("95 % interval").wait_for()


def test_a_matrix_of_layers_is_a_map_of_the_latest_step(page: Any, server: Server, root: Path) -> None:
    run = begin(root / "s" / "seed=0")
    run.start(run.config(), None, (*OWN, SIMILARITY))
    measure(run, 0)
    visit(page, server)
    charts = page.locator("article").count()
    for step in (10, 20):  # it comes with the second, and changes with the third
        matrix = {f"cka/{split}": [[1.0, step / 100], [None, 1.0]] for split in ("train", "val")}
        run.append(line(step) | matrix, elapsed=step / 10, measuring=0.5)
        listed(page, step)
    assert page.locator("article").count() > charts
    tiles = next(rows for k in range(page.locator("article").count()) if "other_layer" in (rows := curves(page, k))[0])
    assert {(t["split"], t["layer"], t["other_layer"], t["step"], t["mean"]) for t in tiles if t["mean"]} == {
        (split, *where, "20", mean)
        for split in ("train", "val")
        for *where, mean in (("0", "0", "1"), ("0", "1", "0.2"), ("1", "1", "1"))
    }


@pytest.mark.parametrize("width", [1400, 1000, 420])
def test_a_run_of_one_step_is_shown_by_layer_and_nothing_scrolls_sideways(
    page: Any, server: Server, root: Path, width: int
) -> None:
    for decay in (0.0, 0.3):
        run = begin(root / "decay" / f"weight_decay={decay}" / "seed=0", max_steps=0, **{"a.very.long.key": decay})
        measure(run, 0)
    page.set_viewport_size({"width": width, "height": 900})
    visit(page, server)
    assert {row["step"] for row in curves(page)} == {"0"}
    assert {row["layer"] for row in curves(page)} == {str(layer) for layer in range(LAYERS)}
    assert page.locator("#controls").is_hidden()
    wide = "[document.documentElement, ...document.querySelectorAll('.table-box, .plot, .name')]"
    assert page.evaluate(f"{wide}.filter((one) => one.scrollWidth > one.clientWidth + 1).length") == 0


def test_names_stay_text_and_a_restarted_server_is_noticed(page: Any, server: Server, root: Path) -> None:
    for kind in ("a", MARKUP):
        measure(begin(root / MARKUP / f"k={kind}" / "seed=0", kind=kind), 0)
    visit(page, server)
    assert page.locator("img").count() == 0
    assert MARKUP in page.locator("#runs").inner_text()
    page.locator("canvas").first.hover(position={"x": 70, "y": 150})
    assert page.evaluate("typeof owned") == "undefined"
    server.end(signal.SIGTERM)
    page.get_by_text("connection lost").wait_for()
    measure(begin(root / "another" / "seed=0"), 0)
    again = Server(root, "--port", server.port)
    page.get_by_text("live", exact=True).wait_for()
    page.locator("#runs").get_by_text("another").first.wait_for()
    assert page.locator("#runs tbody tr").count() == 3
    again.end(signal.SIGTERM)
