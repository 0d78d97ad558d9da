"""Chart specifications hold the numbers they were given, and render."""

import vl_convert
from test_claims import journal

from taskcluster import plots

ROWS = journal()


def test_every_layer_of_both_splits_is_drawn_at_every_step() -> None:
    chart = plots.ari_against_step(ROWS, "ari", "title").to_dict()
    values = chart["data"]["values"]
    assert len(values) == 2 * 4 * len(ROWS)
    drawn = {(v["split"], v["step"], v["layer"]): v["ari"] for v in values}
    assert drawn["validation", 100, 2] == ROWS[2]["ari/val/layer_2"]
    assert drawn["train", 200, 3] == ROWS[-1]["ari/train/layer_3"]


def test_the_final_chart_shows_the_last_row() -> None:
    values = plots.final_ari_by_layer(ROWS[-1], {"ari": "here"}).to_dict()["data"]["values"]
    assert [v["ari"] for v in values if v["split"] == "validation"] == [
        ROWS[-1][f"ari/val/layer_{k}"] for k in range(4)
    ]


def test_panels_stand_by_checkpoint_and_layer() -> None:
    points = [{"x": 0.0, "y": 1.0, "task": 3, "step": step, "layer": layer} for step in (0, 9) for layer in (0, 6)]
    svg = vl_convert.vegalite_to_svg(plots.tsne_grid(points, n_tasks=5).to_json())
    for label in ("step", "layer", ">9<", ">6<"):
        assert label in svg
