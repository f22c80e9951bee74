"""The demonstration, end to end, as a newcomer starts it."""

import json
import os
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

from pipeline import read_schema


@pytest.fixture(scope="module")
def demo(tmp_path_factory, request):
    """Directory and output of a demonstration in a process of its own."""
    out = tmp_path_factory.mktemp("demo")
    cache = request.config.cache.mkdir("programs")  # what it compiled is there the next time
    done = subprocess.run(
        [sys.executable, "-m", "dcmnet.cli", "demo", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_it_tells_every_step_within_a_terminal(demo):
    _, text = demo
    for step in ("1 · ingest", "2 · predict", "3 · fine-tune", "4 · analyse", "5 · report"):
        assert step in text
    assert all(len(line) <= 80 for line in text.splitlines() if "/" not in line)


def test_the_store_holds_two_conventions_and_ions(demo):
    store = demo[0] / "sample.zarr"
    schema = read_schema(store)
    assert len({source.convention for source in schema.sources}) >= 2
    with xr.open_zarr(store) as molecules:
        assert {-1, 0, 1} <= set(molecules["total_charge"].values.tolist())
        points = molecules["esp"].notnull().sum("grid_point")
        np.testing.assert_array_equal(points, molecules["n_grid"])


def test_the_model_in_the_box_predicts_all_of_it(demo):
    out, text = demo
    predicted = text.split("2 · predict")[1].split("3 · fine-tune")[0]
    assert "ESP error to expect" in predicted
    with xr.open_dataset(out / "charges.nc") as charged, xr.open_zarr(out / "sample.zarr") as all_:
        sums = charged["charges"].sum(("atom", "dcm"))
        np.testing.assert_allclose(sums, all_["total_charge"], atol=1e-10)
        assert (charged["esp_uncertainty"] > 0).all()


def test_training_begins_where_the_box_ends_and_learns(demo):
    lines = (demo[0] / "experiments" / "demo" / "metrics.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert [record["epoch"] for record in history] == list(range(1, len(history) + 1))
    assert history[0]["valid"]["esp_rmse"] < 1.5
    assert history[-1]["train"]["loss"] < history[0]["train"]["loss"]


def test_distributed_charges_win_on_molecules_that_were_not_seen(demo):
    """Below MBIS monopoles, and below the best charges that atoms can have."""
    summary = json.loads((demo[0] / "experiments/demo/analysis/best_analysis.json").read_text())
    errors = {name: each["mean"] for name, each in summary["molecules"]["all"]["all"].items()}
    assert errors["esp_rmse"] < min(errors["esp_rmse_fitted"], errors["esp_rmse_monopoles"])


def test_its_table_sets_the_model_beside_the_monopoles(demo):
    out, text = demo
    summary = json.loads((out / "experiments/demo/analysis/best_analysis.json").read_text())
    errors = summary["molecules"]["all"]["all"]
    for name, label in (("esp_rmse", "ESP RMSE"), ("esp_rmse_monopoles", "monopoles")):
        (row,) = re.findall(rf"^ *{label} +kcal/mol/e +(.*)$", text.split("4 · analyse")[1], re.M)
        numbers = errors[name]
        count, *shown = row.split()
        assert int(count) == numbers["count"]
        expected = [numbers[key] for key in ("mean", "median", "p95", "max")]
        assert list(map(float, shown)) == pytest.approx(expected, rel=1e-3, abs=6e-4)
    with xr.open_datatree(out / "sample.zarr", engine="zarr") as tree:
        rmse = tree["results/demo"]["esp_rmse"]
        assert float(rmse.mean()) == pytest.approx(errors["esp_rmse"]["mean"], rel=1e-5)


def test_the_files_it_names_are_there(demo):
    out, text = demo
    named = [line.strip() for line in text.split("Files")[1].splitlines() if str(out) in line]
    files = [line for line in named if line.startswith(str(out))]
    assert {line.rsplit("/", 1)[1] for line in files} >= {
        "best_analysis.json",
        "predictions.csv",
        "training_history.csv",
        "training_curves.png",
        "esp_correlation.png",
        "esp_errors.png",
        "multipole_ladder.png",
    }
    page = out / "experiments" / "demo" / "analysis" / "report.html"
    assert f"for a browser: {page}" in text
    assert "reproduces the reference ESP" in page.read_text()
    for path in files:
        assert os.path.getsize(path) > 0
        if path.endswith(".png"):
            assert matplotlib.image.imread(path)[..., :3].std() > 0.05
