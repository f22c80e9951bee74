"""Comparisons: paired by molecule, of results that belong to the checkpoints compared."""

import json

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from dcmnet.analysis import (
    analyze,
    analyze_training_history,
    batch_analysis_summary,
    compare,
    compare_checkpoints,
)
from dcmnet.analysis.comparison import paired_difference
from dcmnet.analysis.figures.comparison import comparison_figure, save_comparison
from dcmnet.analysis.tables import print_comparison
from store_schema.problems import CheckpointError, ConfigError, StoreError
from tests.experiments import copy, metrics
from tests.stores import random_columns, write_store


@pytest.fixture(scope="module")
def compared(trained, sample_store, tmp_path_factory):
    """Two checkpoints of an experiment on a copy of the sample."""
    folder = tmp_path_factory.mktemp("compared")
    experiment = copy(trained[2], folder / "trial")
    store = copy(sample_store, folder / "sample.zarr")
    first = analyze(experiment, store=store, split="all", figures=False)
    comparison = compare([experiment, f"{experiment}@epoch_2"], store=store)
    return experiment, store, first, comparison


def results(store):
    with xr.open_datatree(store, engine="zarr") as tree:
        found = tree["results"].children
        return {name: group.to_dataset().load() for name, group in found.items()}


def test_molecules_are_paired(compared):
    _, store, _, comparison = compared
    found = results(store)
    one, two = found["trial"], found["trial-epoch_2"]
    rows = np.flatnonzero(two["split"].values == "test")
    assert list(comparison.molecules.index) == rows.tolist()
    assert list(comparison.summary.index) == ["trial", "trial@epoch_2"]
    assert comparison.left_out == 0
    difference = (two["esp_rmse"] - one["esp_rmse"]).values[rows].astype(float)
    row = comparison.differences.loc[("trial@epoch_2", "esp_rmse")]
    assert row["difference"] == pytest.approx(difference.mean(), rel=1e-5)
    assert row["better"] == pytest.approx((difference < 0).mean())
    assert row["low"] < row["difference"] < row["high"]
    assert comparison.summary.loc["trial", "esp_rmse_median"] == pytest.approx(
        np.median(one["esp_rmse"].values[rows]), rel=1e-5
    )
    # Only molecules with monopoles speak for monopoles.
    known = comparison.differences.loc[("trial@epoch_2", "monopole_mae"), "molecules"]
    assert 0 < known < len(rows)


def test_it_is_repeatable_and_replaces_nothing(compared):
    experiment, store, _, comparison = compared
    before = results(store)
    again = compare([experiment, f"{experiment}@epoch_2"], store=store)
    assert again.differences.equals(comparison.differences)
    after = results(store)
    assert before.keys() == after.keys()
    for name, group in before.items():
        xr.testing.assert_identical(group, after[name])


def test_checkpoints_are_compared_beside_the_results_there_are(compared, tmp_path):
    store = copy(compared[1], tmp_path / "sample.zarr")
    experiment = copy(compared[0], tmp_path / "trial", store)
    before = results(store)["trial"]
    table = compare_checkpoints(experiment, ["best", "epoch_2"], split="valid")
    assert list(table.index) == ["best", "epoch_2"]
    assert list(table["epoch"]) == [3, 2]
    found = results(store)
    xr.testing.assert_identical(found["trial"], before)
    valid = found["trial-valid"]["split"].values == "valid"
    assert table.loc["best", "molecules"] == valid.sum()
    assert table.loc["best", "esp_rmse_mean"] == pytest.approx(
        float(found["trial-valid"]["esp_rmse"].values[valid].mean()), rel=1e-5
    )


def test_the_page_fits_and_the_figure_is_written(compared, tmp_path, capsys):
    comparison = compared[3]
    print_comparison(comparison, Console(width=80))
    page = capsys.readouterr().out
    assert "…" not in page
    assert "95 % interval" in page
    for ax in comparison_figure(comparison).axes:
        assert ax.get_xlabel()
    figure, table = save_comparison(comparison, tmp_path / "a.png")
    assert figure.stat().st_size > 10_000
    assert table.read_text().startswith("molecule,molecule_id,formula,split,trial,")
    with pytest.raises(ConfigError, match=r"a\.png"):
        save_comparison(comparison, tmp_path / "a.xyz")


def test_what_cannot_be_compared_is_refused(compared, rng, tmp_path):
    experiment, store, *_ = compared
    with pytest.raises(ConfigError, match="two or more"):
        compare([experiment])
    with pytest.raises(ConfigError, match="two or more"):
        compare([experiment, experiment])
    with pytest.raises(CheckpointError, match="epoch_77"):
        compare([experiment, f"{experiment}@epoch_77"], store=store)
    elsewhere = copy(experiment, tmp_path / "elsewhere")
    config = json.loads((elsewhere / "config.json").read_text())
    config["data"]["store"] = "other.zarr"
    (elsewhere / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="--store"):
        compare([experiment, elsewhere])
    no_esp = random_columns(rng, [3, 4], [5, 5])
    no_esp["esp"][:] = np.nan
    lone = write_store(tmp_path / "a.zarr", no_esp)
    with pytest.raises(StoreError, match="nothing to compare"):
        compare([experiment, f"{experiment}@epoch_2"], store=lone, split="all")


def test_a_confidence_interval_is_one():
    """Of many normal samples, about 95 % have the true mean inside theirs."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        found = paired_difference(rng.normal(0.3, 1.0, 100))
        inside += found["low"] <= 0.3 <= found["high"]
    assert 51 <= inside <= 60
    assert paired_difference(np.array([2.0]))["difference"] == 2.0
    assert np.isnan(paired_difference(np.array([2.0]))["low"])


def test_history_and_summary_of_experiments(compared):
    experiment = compared[0]
    history = analyze_training_history(experiment)
    lines = metrics(experiment)
    assert list(history.index) == [line["epoch"] for line in lines]
    np.testing.assert_allclose(history["train.loss"], [line["train"]["loss"] for line in lines])
    summary = batch_analysis_summary(experiment.parent)
    assert summary.loc["trial", "epochs"] == len(lines)
    assert summary.loc["trial", "n_dcm"] == 2
    assert summary.loc["trial", "best_esp_rmse"] == min(line["valid"]["esp_rmse"] for line in lines)
    with pytest.raises(CheckpointError, match="history"):
        analyze_training_history(experiment.parent)
