"""Results in the store against plain float64 sums over its charges, and the exports beside it."""

import json
from types import SimpleNamespace

import ase.units
import jax
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dcmnet import load_model
from dcmnet.analysis import analyze
from dcmnet.analysis.figures.save import esp_correlation, grid_points, training_curves
from dcmnet.analysis.predict import predict_batches
from dcmnet.analysis.summary import distribution
from dcmnet.experiment.directory import Experiment
from dcmnet.model.trained import TrainedModel
from pipeline.loader import make_loader
from pipeline.store.splits import split_store
from store_schema.problems import CheckpointError, ConfigError, StoreError, TrainingError
from store_schema.results import ResultsSchema
from store_schema.units import HARTREE_IN_KCAL_PER_MOL
from tests.experiments import copy, metrics
from tests.stores import random_columns, write_store

ERRORS = ("esp_rmse", "esp_mae", "esp_rmse_monopoles")


@pytest.fixture(scope="module")
def analysed(trained, sample_store, tmp_path_factory):
    """The test split analysed, in copies of the shared experiment and store."""
    folder = tmp_path_factory.mktemp("analysed")
    experiment = copy(trained[2], folder / "trial")
    store = copy(sample_store, folder / "sample.zarr")
    analysis = analyze(experiment, store=store, split="test")
    with xr.open_datatree(store, engine="zarr") as tree:
        molecules, results = tree.to_dataset().load(), tree["results/trial"].to_dataset().load()
    rows = np.flatnonzero(split_store(store).mask("test"))
    return SimpleNamespace(
        experiment=experiment,
        store=store,
        analysis=analysis,
        molecules=molecules,
        results=results,
        rows=rows,
    )


def esp_of(charges, positions, grid):
    """Returns the ESP of point charges in hartree/e; charges in e, lengths in angstrom."""
    distance = np.linalg.norm(grid[:, None] - positions, axis=-1) / ase.units.Bohr
    return (charges / distance).sum(axis=1)


def of_molecule(dataset, row):
    """Returns the variables of one molecule in float64, padding cut off."""
    molecule = dataset.isel(molecule=row)
    return {
        name: values.values.astype(np.float64)
        for name, values in molecule.isel(
            atom=slice(int(molecule.n_atoms)), grid_point=slice(int(molecule.n_grid))
        ).data_vars.items()
        if values.dtype.kind == "f"
    }


def test_results_are_what_their_charges_give(analysed):
    """Every number of the group follows from its charges, by plain sums in float64."""
    both = analysed.molecules.merge(analysed.results)
    for row in analysed.rows:
        m = of_molecule(both, row)
        q, x = m["charges"].ravel(), m["charge_positions"].reshape(-1, 3)
        esp = esp_of(q, x, m["vdw_surface"])
        error = (esp - m["esp"]) * HARTREE_IN_KCAL_PER_MOL
        scale = np.abs(esp).max()
        np.testing.assert_allclose(m["esp_predicted"], esp, atol=1e-4 * scale, rtol=0)
        np.testing.assert_allclose(m["esp_rmse"], np.sqrt(np.mean(error**2)), rtol=1e-3)
        np.testing.assert_allclose(m["esp_mae"], np.mean(np.abs(error)), rtol=1e-3)
        np.testing.assert_allclose(m["monopoles_predicted"], m["charges"].sum(axis=1), atol=1e-6)
        np.testing.assert_allclose(m["dipole_predicted"], q @ x, atol=1e-5)
        assert q.sum() == pytest.approx(m["total_charge"], abs=2e-6)


def test_reference_monopoles_are_measured_the_same_way(analysed):
    measured = 0
    for row in analysed.rows:
        m = of_molecule(analysed.molecules, row)
        found = float(analysed.results["esp_rmse_monopoles"][row])
        if np.isnan(m["monopoles"]).any():
            assert np.isnan(found)
            continue
        measured += 1
        esp = esp_of(m["monopoles"], m["positions"], m["vdw_surface"])
        rmse = np.sqrt(np.mean((esp - m["esp"]) ** 2)) * HARTREE_IN_KCAL_PER_MOL
        assert found == pytest.approx(rmse, rel=1e-3)
    assert 0 < measured < len(analysed.rows)  # the sample has both


def test_padding_and_other_splits_are_nan(analysed):
    molecules, results = analysed.molecules, analysed.results
    chosen = np.isin(np.arange(molecules.sizes["molecule"]), analysed.rows)
    assert 0 < chosen.sum() < chosen.size
    atom = np.arange(molecules.sizes["atom"]) < molecules["n_atoms"].values[:, None]
    point = np.arange(molecules.sizes["grid_point"]) < molecules["n_grid"].values[:, None]
    expected = {
        "charges": atom[:, :, None],
        "charge_positions": atom[:, :, None, None],
        "monopoles_predicted": atom,
        "esp_predicted": point,
        "dipole_predicted": np.ones((len(atom), 1), bool),
        "esp_rmse": np.ones(len(atom), bool),
        "esp_mae": np.ones(len(atom), bool),
    }
    for name, mask in expected.items():
        found = np.isfinite(results[name].values)
        present = np.broadcast_to(mask, found.shape).copy()
        present[~chosen] = False
        np.testing.assert_array_equal(found, present, err_msg=name)


def test_the_split_is_a_coordinate_and_the_group_tells_its_origin(analysed):
    results = analysed.results
    assert "split" in results.coords
    labels = results["split"].values.astype(object)
    assert set(labels[analysed.rows]) == {"test"}
    assert set(np.delete(labels, analysed.rows)) == {""}
    mean = results["esp_rmse"].groupby("split").mean()
    assert float(mean.sel(split="test")) == pytest.approx(
        analysed.analysis.statistics.molecules["all"]["all"]["esp_rmse"].mean, rel=1e-6
    )
    schema = ResultsSchema.model_validate(
        {name: results.attrs[name] for name in ResultsSchema.model_fields}
    )
    config = Experiment(analysed.experiment).config()
    assert schema.config == config.model_dump(mode="json")
    assert schema.epoch == load_model(analysed.experiment).epoch
    assert (schema.checkpoint, schema.split, schema.n_molecules) == (
        "best",
        "test",
        len(analysed.rows),
    )
    assert schema.versions["jax"]
    assert {name: results[name].attrs["units"] for name in ("charges", "esp_rmse")} == {
        "charges": "e",
        "esp_rmse": "kcal/mol/e",
    }


def test_the_store_has_what_the_model_predicts_for_a_single_molecule(analysed):
    """The same molecule by itself: no padding, no neighbours in the batch."""
    row = analysed.rows[0]
    m = of_molecule(analysed.molecules.merge(analysed.results), row)
    numbers = analysed.molecules["atomic_numbers"].values[row][: len(m["positions"])]
    charges, positions = load_model(analysed.experiment).predict(
        numbers, m["positions"], float(m["total_charge"])
    )
    np.testing.assert_allclose(charges, m["charges"], atol=1e-5)
    np.testing.assert_allclose(positions, m["charge_positions"], atol=1e-5)


def test_a_second_analysis_needs_overwrite_and_gives_the_same(analysed):
    with pytest.raises(StoreError, match="overwrite"):
        analyze(analysed.experiment, store=analysed.store)
    again = analyze(analysed.experiment, store=analysed.store, overwrite=True)
    assert again.statistics == analysed.analysis.statistics
    with xr.open_datatree(analysed.store, engine="zarr") as tree:
        xr.testing.assert_identical(tree["results/trial"].to_dataset().load(), analysed.results)


def test_figures_are_of_the_results_that_are_there(analysed, tmp_path):
    """Those of replaced results would show what is there no more."""
    experiment = copy(analysed.experiment, tmp_path / "trial")
    store = copy(analysed.store, tmp_path / "sample.zarr")
    folder = experiment / "analysis"
    (folder / "mine.png").write_bytes(b"of the user")
    drawn = {path.name for path in analysed.analysis.files if path.suffix == ".png"}
    assert drawn < {path.name for path in folder.glob("*.png")}
    again = analyze(experiment, store=store, split="all", overwrite=True, figures=False)
    assert {path.name for path in folder.glob("*.png")} == {"mine.png"}
    assert not [path for path in again.files if path.suffix == ".png"]


def test_a_checkpoint_and_a_name_make_groups_of_their_own(analysed):
    """All splits, from another checkpoint, beside the group that is there."""
    everything = analyze(
        analysed.experiment,
        store=analysed.store,
        split="all",
        checkpoint="epoch_2",
        figures=False,
    )
    assert everything.results == "results/trial-epoch_2"
    assert everything.statistics.n_molecules == analysed.molecules.sizes["molecule"]
    with xr.open_datatree(analysed.store, engine="zarr") as tree:
        group = tree[everything.results].to_dataset()
        assert set(group["split"].values.tolist()) == {"train", "valid", "test"}
        assert np.isfinite(group["esp_rmse"]).all()
        assert "trial" in tree["results"].children
    folder = analysed.experiment / "analysis" / "trial-epoch_2"
    assert json.loads((folder / "epoch_2_analysis.json").read_text())["split"] == "all"
    assert {path.parent for path in everything.files} == {folder}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"checkpoint": "epoch_99"}, CheckpointError),
        ({"checkpoint": "nonsense"}, CheckpointError),
        ({"split": "nonsense"}, ConfigError),
        ({"name": "../escape"}, StoreError),
        ({"name": ""}, StoreError),
    ],
)
def test_what_does_not_exist_is_refused(analysed, arguments, error):
    with pytest.raises(error):
        analyze(analysed.experiment, store=analysed.store, **arguments)


def test_a_network_that_diverged_is_refused(analysed):
    """A NaN among the parameters makes NaN of everything; it is no result."""
    model = load_model(analysed.experiment)
    batches = make_loader(analysed.store, batch_size=8, split="test", shuffle=False)
    with jax.debug_nans(False):
        lost = TrainedModel(model.config, jax.tree.map(lambda p: p * np.nan, model.params))
        with pytest.raises(TrainingError, match="charges or positions are NaN or infinity"):
            list(predict_batches(lost, batches))


def test_an_empty_split_is_refused(analysed, rng, tmp_path):
    store = write_store(tmp_path / "a.zarr", random_columns(rng, [3], [5]), split=["train"])
    with pytest.raises(TrainingError, match="--split all"):
        analyze(analysed.experiment, store=store)


def test_the_summary_says_what_the_store_says(analysed):
    summary = json.loads((analysed.experiment / "analysis" / "best_analysis.json").read_text())
    results = analysed.results.isel(molecule=analysed.rows)
    for name in ERRORS:
        values = results[name].values.astype(float)
        values = values[np.isfinite(values)]
        found = summary["molecules"]["all"]["all"][name]
        assert found["count"] == values.size
        assert found["mean"] == pytest.approx(values.mean())
        assert found["median"] == pytest.approx(np.median(values))
        assert found["p95"] == pytest.approx(np.quantile(values, 0.95))
        assert found["max"] == pytest.approx(values.max())
    charges = analysed.molecules["total_charge"].values[analysed.rows]
    by_charge = summary["molecules"]["total_charge"]
    assert {key: part["esp_rmse"]["count"] for key, part in by_charge.items()} == {
        {-1: "-1", 0: "0", 1: "+1"}[charge]: int((charges == charge).sum())
        for charge in np.unique(charges)
    }
    assert [entry["esp_rmse"] for entry in summary["worst"]] == pytest.approx(
        sorted(results["esp_rmse"].values.tolist(), reverse=True)[:10]
    )
    assert summary["units"]["esp_rmse"] == "kcal/mol/e"
    assert summary["epoch"] == analysed.analysis.epoch


def test_predictions_have_a_row_for_each_analysed_molecule(analysed):
    table = pd.read_csv(analysed.experiment / "analysis" / "predictions.csv", index_col="molecule")
    assert list(table.index) == list(analysed.rows)
    molecules, results = (
        dataset.isel(molecule=analysed.rows) for dataset in (analysed.molecules, analysed.results)
    )
    assert list(table["molecule_id"]) == molecules["molecule_id"].values.tolist()
    np.testing.assert_allclose(table["esp_rmse"], results["esp_rmse"], rtol=1e-6)
    error = np.abs(results["monopoles_predicted"] - molecules["monopoles"]).values
    np.testing.assert_allclose(
        table["monopole_mae"],
        [np.nanmean(row) if np.isfinite(row).any() else np.nan for row in error],
        rtol=1e-5,
    )
    # 1 D is 0.2081943 e·Å (CODATA).
    difference = (results["dipole_predicted"] - molecules["dipole"]).values.astype(float)
    np.testing.assert_allclose(
        table["dipole_error"], np.linalg.norm(difference, axis=1) / 0.2081943, rtol=1e-5
    )


def test_the_history_is_the_metrics_file(analysed):
    table = pd.read_csv(analysed.experiment / "analysis" / "training_history.csv")
    lines = metrics(analysed.experiment)
    assert list(table["epoch"]) == [line["epoch"] for line in lines]
    for part in ("train", "valid"):
        np.testing.assert_allclose(
            table[f"{part}.esp_rmse"], [line[part]["esp_rmse"] for line in lines]
        )


@pytest.mark.parametrize(
    "name", ["training_curves", "esp_correlation", "esp_errors", "multipole_ladder"]
)
def test_figures_show_something(analysed, name):
    path = analysed.experiment / "analysis" / f"{name}.png"
    assert path in analysed.analysis.files
    pixels = matplotlib.image.imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 300
    drawn = np.abs(pixels - pixels[0, 0]).max(axis=-1) > 0.1
    assert 0.01 < drawn.mean() < 0.7
    # Something is drawn all over the figure, not in a corner of it.
    for half in (*np.array_split(drawn, 2, axis=0), *np.array_split(drawn, 2, axis=1)):
        assert half.any()


def test_the_correlation_is_drawn_from_valid_points_only(analysed):
    with xr.open_datatree(analysed.store, engine="zarr") as tree:
        reference, predicted = grid_points(tree, "trial")
    valid = analysed.molecules["n_grid"].values[analysed.rows].sum()
    assert reference.shape == predicted.shape == (valid,)
    (text,) = [t.get_text() for t in esp_correlation(reference, predicted).axes[1].texts]
    rmse = np.sqrt(np.mean((predicted - reference) ** 2)) * HARTREE_IN_KCAL_PER_MOL
    assert f"{valid:,} points" in text
    assert f"RMSE {rmse:.2f}" in text


def test_curves_have_a_point_for_each_epoch(analysed):
    history = Experiment(analysed.experiment).history()
    for ax in training_curves(history).axes:
        for line in ax.get_lines()[:2]:
            assert list(line.get_xdata()) == [1, 2, 3]
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_numbers_of_nothing_are_a_count_of_zero():
    assert distribution([np.nan, np.nan]).model_dump(exclude_none=True) == {"count": 0}
    found = distribution([1.0, np.nan, 3.0])
    assert (found.count, found.mean, found.median, found.max) == (2, 2.0, 2.0, 3.0)
    assert found.p95 == pytest.approx(2.9)
