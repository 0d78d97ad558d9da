"""Responses of the live page's server, and which hosts it accepts."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from planted import begin, leave_tsne, measure
from served import Server
from starlette.testclient import TestClient

from taskcluster.dashboard import main, parse
from taskcluster.operations.live.server import HEADERS, PAGES, Dashboard, application
from taskcluster.pages.vega import library


def client_of(root: Path, *names: str) -> TestClient:
    return TestClient(application(Dashboard(root), names), base_url="http://127.0.0.1:8642")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr("taskcluster.operations.live.server.FRESH", 0)
    return client_of(tmp_path)


@pytest.mark.parametrize("path", ["/", "/dashboard.js", "/dashboard.css", "/view", "/nothing", "/runs/x/tsne"])
def test_every_answer_has_headers_against_other_pages_and_scripts(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert all(headers[name] == value for name, value in HEADERS.items())
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "xhub.example.org"])
def test_requests_for_other_names_are_refused_with_the_remedy(tmp_path: Path, host: str) -> None:
    answer = client_of(tmp_path, "hub.example.org").get("/view", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.text.endswith(f"start taskcluster-dashboard with --allow-host {host} if this is its address")


@pytest.mark.parametrize("host", ["", "<b>", "127.0.0.1:x", "[::1", "a b"])
def test_host_that_is_no_name_is_refused_and_not_repeated(client: TestClient, host: str) -> None:
    answer = client.get("/view", headers={"Host": host})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("any", "127.0.0.1"),
        ("any", "localhost:9000"),
        ("any", "[::1]:8642"),
        ("hub.example.org", "HUB.example.org:8000"),
        ("*.example.org", "b.a.example.org:80"),
        ("HUB:8000", "hub"),
    ],
)
def test_own_addresses_and_allowed_names_are_answered(tmp_path: Path, allowed: str, host: str) -> None:
    names = parse(["--allow-host", "another.example", "--allow-host", allowed]).allow_host
    assert client_of(tmp_path, *names).get("/view", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/user/me/proxy/absolute/8642", "/a b/ü"])
def test_all_addresses_of_the_page_are_relative(client: TestClient, prefix: str) -> None:
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", client.get(f"{prefix}/").text)
    assert len(addresses) > 8
    for address in [*addresses, "charts", "view"]:
        if not address.startswith("data:"):
            assert not address.startswith("/")
            assert client.get(f"{prefix}/{address}").status_code == 200
    for script in PAGES.glob("*.js"):
        assert not re.search(r"""(fetch|answer|from|import|replaceState)\W[^;\n]*["'`]/""", script.read_text())


def test_nothing_can_be_changed_and_no_other_file_read(client: TestClient) -> None:
    assert client.post("/view").status_code == 405
    for path in ("/../pyproject.toml", "/%2e%2e/dashboard.py", "/runs/..%2f..%2fetc/tsne", "/charts.py"):
        assert client.get(path).status_code == 404


def test_only_curves_of_conditions_that_changed_are_sent(client: TestClient, tmp_path: Path) -> None:
    runs = [begin(tmp_path / "s" / f"n={n}" / f"seed={seed}", seed, n_layer=n) for n in (2, 3) for seed in range(3)]
    for run in runs:
        measure(run, 0)
    first = client.get("/view").json()
    assert len(first["runs"]) == 6
    assert [len(condition["runs"]) for condition in first["conditions"]] == [3, 3]
    assert [column["name"] for column in first["columns"]] == [
        "accuracy",
        "ARI, last layer",
        "ARI within x, last layer",
    ]
    assert client.get("/view", params={"since": first["version"]}).json() == {"version": first["version"]}
    measure(runs[1], 10)
    news = client.get("/view", params={"since": first["version"]}).json()
    (curves,) = news["curves"].values()
    assert curves["steps"] == [0, 10]
    assert [n[0] if isinstance(n, list) else n for n in curves["n"]] == [3, 1]
    assert all(key.split("/")[0] in ("ari", "ari_within_x", "train", "val") for key in curves["keys"])
    assert client.get("/view", params={"since": "x"}).status_code == 400


def test_another_server_sends_everything(tmp_path: Path) -> None:
    measure(begin(tmp_path / "seed=0"), 0)
    version = client_of(tmp_path).get("/view").json()["version"]
    assert client_of(tmp_path).get("/view", params={"since": version}).json()["curves"]


def test_only_the_tsne_of_a_run_is_sent(client: TestClient, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    runs = [begin(tmp_path / "s" / f"seed={seed}", seed) for seed in range(3)]
    leave_tsne(runs[0].figures / "tsne.json")
    leave_tsne(outside / "tsne.json")
    (runs[1].figures / "tsne.json").symlink_to(outside / "tsne.json")
    runs[2].figures.rmdir()
    runs[2].figures.symlink_to(outside)
    sent = client.get("/view").json()["runs"]
    answers = [client.get(f"/runs/{run['id']}/tsne") for run in sent]
    assert [run["has_tsne"] for run in sent] == [True, False, False]
    assert [answer.status_code for answer in answers] == [200, 404, 404]
    assert [point["step"] for point in answers[0].json()["points"]] == [0, 10]


def test_no_script_makes_markup_of_text() -> None:
    for script in PAGES.glob("*.js"):
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in script.read_text(), script.name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "does not exist"),
        ([__file__], "is a file"),
        ([".", "--port", "x"], "invalid int"),
        ([".", "--host", "256.1.1.1"], "--host=256.1.1.1"),
        ([".", "--allow-host", "https://hub.example.org/me"], "is not a host name"),
    ],
    ids=str,
)
def test_mistakes_on_the_command_line_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["taskcluster-dashboard", *arguments])
    monkeypatch.setattr("taskcluster.operations.processes.streams.guard", lambda: None)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert re.fullmatch(rf"taskcluster-dashboard: .*{reason}.*\n", capsys.readouterr().err)


def test_vega_is_bundled_once_where_it_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "vegaEmbed" in library.__wrapped__()
    (kept,) = (tmp_path / "taskcluster").iterdir()
    kept.write_text("kept")
    assert library.__wrapped__() == "kept"


def test_the_server_answers_before_heavy_libraries_are_imported() -> None:
    heavy = [
        "torch",
        "transformers",
        "pandas",
        "pytorch_lightning",
        "altair",
        "vl_convert",
        "sklearn",
        "hydra",
        "wandb",
    ]
    code = f"import sys, taskcluster.dashboard; print({{*{heavy}}} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_the_server_without_a_traceback(tmp_path: Path, number: int, code: int) -> None:
    server = Server(tmp_path, "--host", "0.0.0.0")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/") as page:
        assert page.status == 200
    ended, errors = server.end(number)
    assert ended == code
    assert re.fullmatch(r"taskcluster-dashboard: 0.0.0.0 is not a loopback address: anyone who can reach .*\n", errors)
