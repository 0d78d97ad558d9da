"""Mean and spread over runs whose values are known."""

from pathlib import Path

from taskcluster.aggregate import finished_runs, markdown
from taskcluster.runs import RunFolder


def finished(path: Path, ari: float, passed: bool) -> RunFolder:
    run = RunFolder(path)
    claim = {"name": "ends high", "value": ari, "passed": passed}
    final = {"val/accuracy": 0.5, "ari/val/layer_0": 0.0, "ari/val/layer_1": ari, "nmi/val/layer_0": 1.0}
    run.path.mkdir(exist_ok=True)
    run.write_results({"claims": [claim], "final": final})
    run.write_status("finished")
    return run


def test_the_table_has_mean_spread_range_and_verdicts(tmp_path: Path) -> None:
    for seed, ari in enumerate((0.7, 0.8, 0.9)):
        finished(tmp_path / f"seed={seed}", ari, passed=ari > 0.75)
    (tmp_path / "seed=3").mkdir()
    RunFolder(tmp_path / "seed=3").write_status("running")
    table = markdown(finished_runs(tmp_path)).splitlines()
    assert table[0] == "| 3 runs | mean | s.d. | lowest | highest | passed |"
    assert table[2:] == [
        "| ends high | 0.800 | 0.100 | 0.700 | 0.900 | 2 of 3 |",
        "| validation accuracy | 0.500 | 0.000 | 0.500 | 0.500 |  |",
        "| ARI at the separator, layer 0 | 0.000 | 0.000 | 0.000 | 0.000 |  |",
        "| ARI at the separator, layer 1 | 0.800 | 0.100 | 0.700 | 0.900 |  |",
    ]


def test_one_run_has_no_spread(tmp_path: Path) -> None:
    assert "| ends high | 0.700 | - | 0.700 |" in markdown([finished(tmp_path, 0.7, passed=False)])
