"""The live page: what the server answers to whom, and what a real Chromium makes of it."""

import csv
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from planted import LAYERS, begin, line, measure
from starlette.testclient import TestClient

from taskcluster.dashboard import _arguments
from taskcluster.measures.edits import effect_metrics as of_intervention
from taskcluster.metrics import OWN
from taskcluster.pages.vega import Vega, library
from taskcluster.watch.server import LIBRARY, PAGES, Dashboard, application, names

CHROMIUM = Path("/usr/bin/chromium")
MARKUP = "<img src=x onerror=owned=1>"
LOST = "ERR_CONNECTION_REFUSED"  # which Chromium says of a server that has ended
LONG = 20.0  # seconds that nothing here needs


@pytest.fixture(scope="module")
def vega() -> Iterator[Vega]:
    made = Vega()
    yield made
    made.close()


@pytest.fixture
def client(tmp_path: Path, vega: Vega, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr("taskcluster.watch.server.FRESH", 0)
    app = application(Dashboard(tmp_path, vega), names("127.0.0.1", "127.0.0.1"))
    return TestClient(app, base_url="http://127.0.0.1:8642")


def leave_tsne(path: Path) -> None:
    points = [{"step": step, "layer": 0, "task": 1, "x": 0.5, "y": step} for step in (0, 10)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"n_tasks": 2, "points": points}))


def test_every_answer_keeps_others_out(client: TestClient) -> None:
    for path in ("/", "/dashboard.js", "/dashboard.css", "/charts", "/changes", "/nothing", "/runs/x/tsne"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "169.254.1.1"])
def test_other_names_get_nothing(client: TestClient, host: str) -> None:
    answer = client.get("/changes", headers={"Host": host})
    remedy = f": start taskcluster-dashboard with --allow-host {host} if this is its address" if host else ""
    assert (answer.status_code, answer.text) == (400, f"Invalid host header{remedy}")


@pytest.mark.parametrize("host", ["me@127.0.0.1", "127.0.0.1/", "<b>", "127.0.0.1:x", "[::1", "a b", "127.0.0.1\\"])
def test_what_is_no_name_gets_nothing_and_is_not_repeated(client: TestClient, host: str) -> None:
    answer = client.get("/changes", headers={"Host": host})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")
    twice = client.get("/changes", headers=[("Host", "127.0.0.1"), ("Host", "evil.example")])
    assert twice.status_code == 400


@pytest.mark.parametrize(
    ("given", "answered", "refused"),
    [
        ("hub.example.org", ["hub.example.org", "HUB.example.org:8000"], ["example.org", "x.hub.example.org"]),
        (
            "*.example.org",
            ["a.example.org", "b.a.example.org:80"],
            ["example.org", "aexample.org", "a.example.org.evil"],
        ),
        ("HUB:8000", ["hub", "hub:1"], ["hub2"]),
        ("2001:DB8::1", ["[2001:db8::1]:8642"], ["[2001:db8::2]"]),
        ("[2001:db8::1]", ["[2001:db8::1]"], ["2001"]),
        ("bücher.example", ["xn--bcher-kva.example"], ["bcher.example"]),
    ],
)
def test_hosts_can_be_allowed(tmp_path: Path, vega: Vega, given: str, answered: list[str], refused: list[str]) -> None:
    arguments = _arguments(["--allow-host", "another.example", "--allow-host", given])
    hosts = [*names("127.0.0.1", "127.0.0.1"), *arguments.allow_host]
    client = TestClient(application(Dashboard(tmp_path, vega), hosts), base_url="http://127.0.0.1")
    status = {host: client.get("/changes", headers={"Host": host}).status_code for host in [*answered, *refused]}
    assert status == dict.fromkeys(answered, 200) | dict.fromkeys(refused, 400)


@pytest.mark.parametrize("given", ["*", "https://hub.example.org/user/me", "a b", "", "*.", "a.*.b", "x/y", "[::1"])
def test_what_is_no_host_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _arguments(["--allow-host", given])
    assert ended.value.code == 2
    assert f"{given!r} is not the name of a host, such as hub.example.org or *.example.org" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["", "/user/me/proxy/absolute/8642", "/runs", "/a b/ü"])
def test_answers_are_there_below_any_prefix(client: TestClient, prefix: str) -> None:
    """Of proxies some take their path off, some do not."""
    page = client.get(f"{prefix}/").text
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(addresses) > 8
    for address in [*addresses, "charts", "changes"]:
        if not address.startswith("data:"):
            assert not address.startswith("/")
            assert client.get(f"{prefix}/{address}").status_code == 200
    assert client.get(f"{prefix}/nothing").status_code == 404


def test_no_script_asks_for_an_absolute_address() -> None:
    for script in PAGES.glob("*.js"):
        assert not re.search(r"""(fetch|answer|from|import|open|replaceState)\W[^;\n]*["'`]/""", script.read_text()), (
            script.name
        )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "[::1]:8642"])
def test_own_names(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading(client: TestClient, method: str) -> None:
    assert client.request(method, "/changes").status_code == 405
    assert client.head("/changes").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/%2e%2e/dashboard.py", "/runs/..%2f..%2fetc/tsne", "/runs/x/tsne", "/static/../x.js"],
)
def test_nothing_else_is_there(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("since", ["-1", "x", "1" * 40, "٣"])
def test_versions_are_numbers(client: TestClient, since: str) -> None:
    assert client.get("/changes", params={"since": since}).status_code == 400


def test_only_what_changed_is_sent(client: TestClient, tmp_path: Path) -> None:
    runs = [begin(tmp_path / "s" / f"seed={seed}", seed) for seed in range(3)]
    for run in runs:
        measure(run, 0)
    first = client.get("/changes").json()
    assert [len(first[key]) for key in ("runs", "changed_runs", "curves")] == [3, 3, 1]
    known = {"since": first["version"], "epoch": first["epoch"]}
    assert client.get("/changes", params=known).json().keys() == {"epoch", "root", "version"}
    measure(runs[1], 10)
    news = client.get("/changes", params=known).json()
    assert [run["name"] for run in news["changed_runs"]] == ["s/seed=1"]
    assert [(curves["replaced"], curves["steps"]) for curves in news["curves"]] == [(False, [10])]
    assert all(key.split("/")[0] in ("ari", "ari_within_x", "train", "val") for key in first["curves"][0]["curves"])
    everything = client.get("/changes", params=known | {"epoch": "another server"}).json()
    assert everything["curves"][0]["steps"] == [0, 10]


def test_tsne_of_a_run_and_of_nothing_else(client: TestClient, tmp_path: Path) -> None:
    outside, root = tmp_path.parent / f"{tmp_path.name}-outside", tmp_path
    runs = [begin(root / "s" / f"seed={seed}", seed) for seed in range(4)]
    leave_tsne(runs[0].figures / "tsne.json")
    leave_tsne(outside / "tsne.json")
    (runs[1].figures / "tsne.json").symlink_to(outside / "tsne.json")
    runs[2].figures.rmdir()
    runs[2].figures.symlink_to(outside)
    (runs[3].figures / "tsne.json").write_text('{"n_tasks": 2, "points": [{"step": "x"}]}')
    told = client.get("/changes").json()["changed_runs"]
    answers = [client.get(f"/runs/{run['id']}/tsne") for run in told]
    assert [run["has_tsne"] for run in told] == [True, False, False, True]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 404]
    assert [point["step"] for point in answers[0].json()["points"]] == [0, 10]


def test_nothing_is_written_and_nothing_needs_to_be(client: TestClient, tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    measure(run, 0)
    leave_tsne(run.figures / "tsne.json")
    paths = [tmp_path, *tmp_path.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [(path, path.stat().st_mtime_ns) for path in paths]
    id = client.get("/changes").json()["runs"][0]
    assert client.get(f"/runs/{id}/tsne").status_code == 200
    assert [(path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")]] == before
    for path in paths:
        path.chmod(0o755)


def test_pages_never_make_markup_of_text() -> None:
    for script in PAGES.glob("*.js"):
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in script.read_text(), script.name


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "taskcluster.dashboard", *arguments]
    return subprocess.run(call, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, reason in (
            ([str(tmp_path / "nowhere")], "does not exist"),
            ([str(tmp_path / "file")], "is a file"),
            ([str(tmp_path), "--port", port], "is in use"),
            ([str(tmp_path), "--port", "x"], "is not a port"),
            ([str(tmp_path), "--port", "70000"], "is not a port"),
            ([str(tmp_path), "--host", "256.1.1.1"], "cannot be listened on"),
            ([str(tmp_path), "--nonsense"], "--nonsense"),
        ):
            ended = command(*arguments)
            assert (ended.returncode, ended.stdout) == (2, "")
            assert ended.stderr.startswith("taskcluster-dashboard: ")
            assert ended.stderr.count("\n") == 1
            assert reason in ended.stderr


def test_vega_is_bundled_once_where_it_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = library.__wrapped__()
    assert "vegaEmbed" in script
    (kept,) = (tmp_path / "taskcluster").iterdir()
    assert kept.read_text() == script
    kept.write_text("kept")
    assert library.__wrapped__() == "kept"
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # no folder
    assert library.__wrapped__() == script


def test_heavy_libraries_stay_away() -> None:
    heavy = {
        "torch",
        "transformers",
        "pandas",
        "pytorch_lightning",
        "altair",
        "vl_convert",
        "sklearn",
        "hydra",
        "wandb",
    }
    code = f"import sys, taskcluster.dashboard; print({heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


class Server:
    """`taskcluster-dashboard ROOT` on a free port."""

    def __init__(self, root: Path, *arguments: str) -> None:
        call = [sys.executable, "-m", "taskcluster.dashboard", str(root), "--port", "0", *arguments]
        self.process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split(" ")[0]

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=LONG)
        return self.process.returncode, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_at_once(tmp_path: Path, number: int, code: int) -> None:
    server = Server(tmp_path)
    with socket.create_connection(("127.0.0.1", int(server.url.split(":")[2].strip("/")))) as open_page:
        open_page.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert open_page.recv(1000)
        begun = time.monotonic()
        assert server.end(number) == (code, "")
    assert time.monotonic() - begun < 3


def test_ctrl_c_ends_it_where_a_shell_had_it_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = Server(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.end(signal.SIGINT) == (130, "")


def test_ctrl_c_ends_it_before_its_event_loop_runs(tmp_path: Path) -> None:
    early = """
import os, signal, uvicorn.server
from taskcluster import dashboard
run = uvicorn.server.asyncio_run
def killed(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return run(*arguments, **options)
uvicorn.server.asyncio_run = killed
dashboard.main()
"""
    call = [sys.executable, "-c", early, str(tmp_path), "--port", "0"]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=LONG)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_other_addresses_come_with_a_warning(tmp_path: Path) -> None:
    server = Server(tmp_path, "--host", "0.0.0.0")
    port = server.url.split(":")[2].strip("/")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.status == 200
    _, errors = server.end(signal.SIGTERM)
    assert "anyone who can reach port" in errors


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "runs").mkdir()
    server = Server(tmp_path / "runs")
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A page of which everything that went wrong, and all that was asked of others, is noted."""
    opened = browser.new_page(viewport={"width": 1300, "height": 1000})
    wrong: list[str] = []
    opened.on(
        "console", lambda said: wrong.append(said.text) if said.type == "error" and LOST not in said.text else None
    )
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith((server.url, "blob:", "data:")) else wrong.append(r.url))
    opened.set_default_timeout(LONG * 1000)
    yield opened
    opened.close()
    assert wrong == []


def until(page: Any, condition: str) -> Any:
    """Wait for it; playwright's own way evaluates text inside the page, which the page's policy forbids."""
    end = time.monotonic() + LONG
    while not (found := page.evaluate(condition)):
        assert time.monotonic() < end, condition
        time.sleep(0.02)
    return found


def drawn(page: Any) -> None:
    until(page, "document.body.dataset.drawn === 'true' && document.querySelectorAll('canvas').length > 0")


def downloaded(page: Any, kind: str, nth: int = 0) -> Path:
    with page.expect_download() as download:
        page.locator("article").nth(nth).get_by_role("button", name=kind).click()
    return Path(download.value.path())


def curves(page: Any, nth: int = 0) -> list[dict[str, str]]:
    return list(csv.DictReader(downloaded(page, "CSV", nth).read_text().splitlines()))


AHEAD = [path.name for path in PAGES.iterdir()] + [LIBRARY]  # what Chromium asks for before it runs a script


class Proxy(http.server.ThreadingHTTPServer):
    """Passes on what is asked for below PREFIX, under a name of its own, with or without the prefix."""

    PREFIX = "/user/me/proxy/8642"

    def __init__(self, server: Server, host: str, keeps_prefix: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.to = server.url.split("/")[2]
        self.host, self.keeps_prefix, self.asked = host, keeps_prefix, set[str]()
        self.url = f"http://127.0.0.1:{self.server_port}{self.PREFIX}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Passing(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.add(self.path.partition("?")[0])
        below = self.path.removeprefix(self.server.PREFIX)
        path = self.path if self.server.keeps_prefix else below if below.startswith("/") else f"/{below}"
        with closing(http.client.HTTPConnection(self.server.to)) as upstream:
            upstream.request("GET", path, headers={"Host": self.server.host})
            answer = upstream.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("date", "server", "transfer-encoding"):
                self.send_header(name, value)
        with suppress(ConnectionError):  # the page went to the address with a slash meanwhile
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("keeps_prefix", "slash"), [(False, ""), (False, "/"), (True, "/")])
def test_the_page_works_behind_a_proxy(browser: Any, tmp_path: Path, keeps_prefix: bool, slash: str) -> None:
    for seed in range(2):
        run = begin(tmp_path / "s" / f"seed={seed}", seed)
        measure(run, 0)
        measure(run, 10, 0.4 + seed / 10)
        leave_tsne(run.figures / "tsne.json")
    server = Server(tmp_path, "--allow-host", "hub.example.org")
    proxy = Proxy(server, "hub.example.org:443", keeps_prefix)
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{proxy.url}{slash}?token=1#filter=s")
    drawn(page)
    assert page.url == f"{proxy.url}/?token=1#filter=s"
    page.get_by_label("filter conditions").fill("")
    page.get_by_role("button", name="t-SNE").first.click()
    until(page, "document.querySelector('#tsne output').textContent === 'step 10 (2 of 2)'")
    drawn(page)
    assert page.url.startswith(f"{proxy.url}/?token=1#tsne=")
    measure(run, 20)
    until(page, "document.querySelector('#runs tbody').textContent.includes('20 /')")
    if screenshots := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{screenshots}/proxy.png")
    page.close()
    assert wrong == []
    outside = {path for path in proxy.asked if not path.startswith(proxy.PREFIX)}
    assert not outside if slash else outside <= {f"/user/me/proxy/{name}" for name in AHEAD}
    proxy.host = "evil.example"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{proxy.url}/")
    with refused.value as answer:
        assert "--allow-host evil.example" in answer.read().decode()
    proxy.shutdown()
    proxy.server_close()
    server.end(signal.SIGTERM)


@pytest.mark.slow
def test_a_run_appears_grows_and_is_killed_without_reload(page: Any, server: Server, tmp_path: Path) -> None:
    from conftest import SMALL
    from faults import Command

    page.goto(server.url)
    page.get_by_text("No runs yet").wait_for()
    page.evaluate("window.same = true")
    run = Command(tmp_path, *SMALL, "trainer.max_steps=100000", "hydra.run.dir=runs/live/seed=0")
    page.locator("tr.running").wait_for()
    drawn(page)
    before = len(curves(page))
    measured = "(document.querySelector('.sparkline polyline')?.getAttribute('points') ?? '').split(' ').length"
    until(page, f"{measured} >= {page.evaluate(measured) + 2}")
    drawn(page)
    assert len(curves(page)) > before
    page.evaluate("location.hash = 'steps=0,8'")
    run.kill()
    page.locator("tr.killed").wait_for(timeout=4000)
    assert page.evaluate("window.same")
    assert page.get_by_label("to step").input_value() == "8"
    assert {int(point["step"]) for point in curves(page)} <= set(range(9))


@pytest.mark.slow
def test_what_is_being_typed_stays_until_it_is_entered(page: Any, server: Server, tmp_path: Path) -> None:
    run = begin(tmp_path / "runs" / "any" / "seed=0")
    measure(run, 0)
    page.goto(server.url)
    drawn(page)
    page.get_by_label("to step").fill("8")
    before = page.locator("#metrics input").count()
    (added, *_) = of_intervention("add", "input")
    run.start(run.config(), None, (*OWN, added))
    run.append(line(10) | {added.at("val", layer): 0.5 for layer in range(LAYERS)}, elapsed=1.0, measuring=0.5)
    until(page, f"document.querySelectorAll('#metrics input').length > {before}")
    page.evaluate("location.hash = 'theme=dark'")
    until(page, "document.documentElement.dataset.theme === 'dark'")
    assert page.get_by_label("to step").input_value() == "8"
    page.get_by_label("to step").press("Enter")
    until(page, "location.hash === '#steps=0%2C8&theme=dark'")


@pytest.mark.slow
def test_a_view_and_its_link(page: Any, server: Server, tmp_path: Path) -> None:
    for n_layer in (2, 3):
        for seed in range(2):
            run = begin(tmp_path / "runs" / "s" / f"n={n_layer}" / f"seed={seed}", seed, n_layer=n_layer)
            for step in range(0, 50, 10):
                measure(run, step, 0.5 + 0.1 * seed)
            leave_tsne(run.figures / "tsne.json")
    page.goto(server.url)
    drawn(page)
    assert {point["condition"] for point in curves(page)} == {"model.n_layer=2", "model.n_layer=3"}
    page.get_by_label("filter conditions").fill("n_layer=3")
    page.get_by_label("layer", exact=True).select_option("1")
    page.get_by_text("ARI within x", exact=True).click()
    page.get_by_role("button", name="t-SNE").first.click()
    page.get_by_label("checkpoint before").click()
    page.get_by_label("switch between").click()
    drawn(page)
    points = curves(page)
    assert {(p["condition"], p["metric"], p["layer"]) for p in points} == {("model.n_layer=3", "ari_within_x", "1")}
    assert all(float(p["mean"]) == pytest.approx(0.275) for p in points)
    assert page.locator("#runs tbody tr").count() == 2
    assert downloaded(page, "PNG").read_bytes().startswith(b"\x89PNG")
    assert downloaded(page, "SVG").read_text().startswith("<svg")

    link = page.url
    page.goto("about:blank")
    page.goto(link)
    drawn(page)
    assert curves(page) == points
    assert page.locator("html").get_attribute("data-theme") == "dark"
    until(page, "document.querySelector('#tsne output').textContent === 'step 0 (1 of 2)'")


@pytest.mark.slow
def test_maps_grow_beside_the_curves_of_the_conditions_that_have_them(
    page: Any, server: Server, tmp_path: Path
) -> None:
    added, *exchanged = (
        of_intervention(edit, position)[0]
        for edit, position in (("add", "input"), ("interchange", "input"), ("interchange", "instruction_end"))
    )

    def intervened(step: int, seed: int) -> dict[str, float]:
        effect = step / 100 + 0.05 * seed
        return line(step) | {m.at("val", layer): effect for m in (added, *exchanged) for layer in range(LAYERS)}

    runs = [begin(tmp_path / "runs" / "s" / "n=2" / f"seed={seed}", seed) for seed in range(5)]
    measure(begin(tmp_path / "runs" / "s" / "n=3" / "seed=0", n_layer=3), 0)
    for seed, run in enumerate(runs):
        run.start(run.config(), None, (*OWN, added, *exchanged))
        for step in (0, 10):
            run.append(intervened(step, seed), elapsed=step / 10, measuring=0.5)
    page.goto(server.url)
    drawn(page)
    first = page.locator("#across article").count()
    assert page.locator("#each article").count() == 3 + 1
    shown = [curves(page, first + k) for k in (1, 2)]
    assert [{p["metric"] for p in points} for points in shown] == [
        {"effect_add_input", "ari_within_x"},
        {"effect_interchange_input", "effect_interchange_instruction_end", "ari", "ari_within_x"},
    ]
    effects = {(p["step"], p["n"]): float(p["mean"]) for p in shown[0] if p["metric"] == "effect_add_input"}
    assert effects == {("0", "5"): pytest.approx(0.1), ("10", "5"): pytest.approx(0.2)}
    assert {p["step"] for p in shown[1]} == {"10"}
    assert all(float(p["lower"]) >= 0 for p in shown[0] if p["metric"] == "effect_add_input")
    page.get_by_label("switch between").click()
    for seed, run in enumerate(runs):
        run.append(intervened(20, seed), elapsed=2.0, measuring=0.5)
    until(page, "document.querySelector('#runs tbody').textContent.split('20 /').length === 6")
    drawn(page)
    assert {p["step"] for p in curves(page, first + 1)} == {"0", "10", "20"}
    assert {p["step"] for p in curves(page, first + 2)} == {"20"}
    canvas = page.locator("#each article").nth(1).locator("canvas")
    canvas.hover(position={"x": 120, "y": 100})
    page.locator("#tooltip").get_by_text("in all cells").wait_for()
    ends = page.locator("#tooltip").inner_text().split("in all cells")[1].split("\n")[1].split(" to ")
    assert 0 <= float(ends[0]) < float(ends[1]) <= 1
    if screenshots := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{screenshots}/maps.png", full_page=True)


@pytest.mark.slow
def test_text_stays_text_and_a_new_server_is_noticed(page: Any, server: Server, tmp_path: Path) -> None:
    for kind in ("a", MARKUP):
        measure(begin(tmp_path / "runs" / MARKUP / f"k={kind}" / "seed=0", kind=kind), 0)
    page.goto(server.url)
    drawn(page)
    assert page.locator("img").count() == 0
    assert MARKUP in page.locator("#runs").inner_text()
    page.locator("canvas").first.hover(position={"x": 70, "y": 150})
    assert page.evaluate("typeof owned") == "undefined"
    port = server.url.split(":")[2].strip("/")
    port = server.url.split(":")[2].strip("/")
    server.end(signal.SIGTERM)
    page.get_by_text("connection lost").wait_for()
    measure(begin(tmp_path / "runs" / "another" / "seed=0"), 0)
    again = Server(tmp_path / "runs", "--port", port)
    page.get_by_text("live", exact=True).wait_for()
    page.locator("#runs").get_by_text("another").first.wait_for()
    assert page.locator("#runs tbody tr").count() == 3
    again.end(signal.SIGTERM)


@pytest.mark.slow
def test_many_points_are_drawn_without_markers_and_grow(page: Any, server: Server, tmp_path: Path) -> None:
    runs = [begin(tmp_path / "runs" / f"k={k}" / "seed=0", kind=k) for k in range(30)]
    for run in runs:
        rows = [json.dumps(line(step) | {"elapsed": step / 10}) for step in range(60)]
        run.journal.write_text("\n".join(rows) + "\n")
    page.goto(server.url)
    drawn(page)
    assert len(curves(page)) == 30 * 60 * 2
    for step in (60, 61):  # the second one shows that the page went on asking after the first
        measure(runs[0], step)
        until(page, f"document.querySelector('#runs tbody').textContent.includes('{step} /')")
        drawn(page)
    assert len(curves(page)) == 30 * 60 * 2 + 4


@pytest.mark.slow
def test_a_chart_that_fails_does_not_end_the_rest(browser: Any, server: Server, tmp_path: Path) -> None:
    run = begin(tmp_path / "runs" / "seed=0")
    measure(run, 0)
    page = browser.new_page()
    page.goto(server.url)
    drawn(page)
    page.evaluate("() => { CanvasRenderingContext2D.prototype.clearRect = () => { throw new Error('no canvas'); } }")
    page.evaluate("() => { window.structuredClone = () => { throw new Error('no clone'); } }")
    begin(tmp_path / "runs" / "s" / "seed=0")
    page.locator("#runs").get_by_text("s", exact=True).first.wait_for()
    for step in (10, 20):
        measure(run, step)
        until(page, f"document.querySelector('#runs tbody').textContent.includes('{step} /')")
    page.close()


@pytest.mark.slow
def test_the_system_decides_on_dark(browser: Any, server: Server, tmp_path: Path) -> None:
    measure(begin(tmp_path / "runs" / "seed=0"), 0)
    page = browser.new_page(color_scheme="dark")
    page.goto(server.url)
    drawn(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    page.close()
