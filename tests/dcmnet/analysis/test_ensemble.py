"""Ensembles: the spread of their ESPs, what it is worth, and where it is stated."""

import json
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from dcmnet.analysis import analyze, load_statistics
from dcmnet.analysis.point_calibration import PointCalibrationSums
from dcmnet.cli import app
from dcmnet.experiment.ensemble import load_ensemble
from dcmnet.model.calibration import calibrated
from dcmnet.prediction.run import predict_file
from dcmnet.report import write_report
from dcmnet.train_runner import run_training
from pipeline import open_store
from store_schema.problems import CheckpointError, ConfigError
from store_schema.units import HARTREE_IN_KCAL_PER_MOL
from tests.experiments import SETTINGS, copy

WATER = "3\nwater charge=0\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"


@pytest.fixture(scope="module")
def members(small_experiment, tmp_path_factory):
    """Three experiments that differ in their seed, and their store."""
    folder = tmp_path_factory.mktemp("members")
    first = copy(small_experiment[0], folder / "trial")
    store = copy(small_experiment[1], folder / "b.zarr")
    settings = SETTINGS | {"batch_size": 4, "num_epochs": 2, "save_every_n_epochs": 1}
    others = [
        run_training(f"seed-{seed}", store, out=str(folder), seed=seed, **settings)[2]
        for seed in (1, 2)
    ]
    return [first, *others], store


@pytest.fixture(scope="module")
def analysed(members):
    sources, store = members
    return analyze(sources, store=store, split="valid")


def test_the_first_predicts_and_the_mean_of_all_is_stated(members, analysed):
    sources, store = members
    assert analysed.results == "results/trial-ensemble-of-3"
    for source in sources:
        analyze(source, store=store, split="valid", name=f"alone-{source.name}", figures=False)
    tree = open_store(store)
    molecules, results = tree.to_dataset(), tree[analysed.results].to_dataset()
    alone = [tree[f"results/alone-{source.name}"]["esp_predicted"].values for source in sources]
    np.testing.assert_allclose(results["esp_predicted"], alone[0], atol=1e-6)
    every = np.stack(alone).astype(np.float64) * HARTREE_IN_KCAL_PER_MOL
    error = every.mean(axis=0) - molecules["esp"].values * HARTREE_IN_KCAL_PER_MOL
    np.testing.assert_allclose(
        results["esp_rmse_averaged"], np.sqrt(np.nanmean(error**2, axis=1)), rtol=1e-4
    )
    spread = np.sqrt(np.nanmean(every.var(axis=0, ddof=1), axis=1))
    np.testing.assert_allclose(results["esp_uncertainty"], spread, rtol=1e-4)
    assert results.attrs["members"] == ["trial/best", "seed-1/best", "seed-2/best"]


def test_what_an_analysis_measured_is_what_predictions_state(members, analysed, tmp_path):
    sources, store = members
    measured = analysed.statistics.ensemble.calibration
    table = open_store(store)[analysed.results].to_dataset()
    ratio = table["esp_rmse"].values / table["esp_uncertainty"].values
    assert measured.factor == pytest.approx(np.nanmedian(ratio), rel=2e-3)
    assert load_ensemble(sources).calibration == measured
    assert load_ensemble(sources[:2]).calibration is None
    (tmp_path / "w.xyz").write_text(WATER)
    report = predict_file(sources, tmp_path / "w.xyz", tmp_path / "out.xyz")
    spread = predict_file(sources[:2], tmp_path / "w.xyz", tmp_path / "two.xyz").uncertainties
    assert len(report.uncertainties) == len(spread) == 1
    assert report.uncertainty_limit == measured.limit
    # Again with the factor: the same spread is measured.
    analysis = analyze(sources, store=store, split="valid", overwrite=True, figures=False)
    again = analysis.statistics.ensemble
    assert again.factor == measured.factor
    assert again.calibration.factor == pytest.approx(measured.factor, rel=2e-3)


def test_only_molecules_it_did_not_learn_from_say_what_a_spread_means(members, analysed):
    sources, store = members
    before = (sources[0] / "ensemble.json").read_text()
    found = analyze(sources, store=store, split="train", name="learned", ladder=0, figures=False)
    assert found.statistics.ensemble.calibration
    assert (sources[0] / "ensemble.json").read_text() == before
    record = json.loads(before)["records"][0]
    assert record["split"] == "valid"
    assert record["members"] == ["trial/best", "seed-1/best", "seed-2/best"]


def test_what_was_not_measured_is_said_to_be_bare(members, analysed, tmp_path):
    (tmp_path / "w.xyz").write_text(WATER)
    arguments = ["predict", *map(str, members[0][1:]), str(tmp_path / "w.xyz")]
    said = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "o.xyz")])
    assert "bare spread" in said.output


def test_one_model_alone_says_that_it_cannot_say(members, tmp_path):
    (tmp_path / "w.xyz").write_text(WATER)
    arguments = ["predict", str(members[0][0]), str(tmp_path / "w.xyz")]
    said = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "o.xyz")])
    assert said.exit_code == 0
    assert "No ESP error is estimated" in said.output


def test_doubtful_molecules_are_warned_of(members, analysed, tmp_path):
    sources, _ = members
    far = WATER.replace("0.76 -0.48", "7.6 -4.8")
    (tmp_path / "w.xyz").write_text(WATER + far)
    path = sources[0] / "ensemble.json"
    kept = path.read_text()
    written = json.loads(kept)
    written["records"][0]["calibration"]["limit"] = 1e-6
    path.write_text(json.dumps(written))
    try:
        arguments = ["predict", *map(str, sources), str(tmp_path / "w.xyz")]
        said = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "o.xyz")])
        assert "for 2 of 2" in said.output
        path.write_text('{"records": [1]}')
        with pytest.raises(CheckpointError, match=r"ensemble\.json"):
            load_ensemble(sources)
    finally:
        path.write_text(kept)


def test_members_of_different_kinds_are_refused(members, tmp_path):
    other = copy(members[0][1], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["model"]["cutoff"] += 1.0
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="is another network"):
        load_ensemble([members[0][0], other])
    with pytest.raises(ConfigError, match="dcm2 is an ensemble already"):
        load_ensemble(["dcm2", "dcm1"])


def test_members_that_differ_in_more_than_their_seed_are_warned_of(members, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_ensemble(members[0][1:])
    other = copy(members[0][1], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["training"] |= {"num_epochs": 77, "save_every_n_epochs": 5}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"differ in training\.num_epochs, not"):
        load_ensemble([members[0][2], other])


def test_the_report_shows_how_right_it_is(members, analysed, tmp_path):
    name = "trial-ensemble-of-3"
    page = write_report(members[0][0], out=tmp_path / "r.html", store=members[1], results=name)
    text = page.read_text()
    assert 'id="calibration"' in text
    assert "times the spread of its 3 networks" in text
    figures = {path.name for path in analysed.files}
    assert {"calibration.png", "multipole_ladder.png"} <= figures
    assert load_statistics(members[1], name).ensemble.n_members == 3


def test_a_network_that_agrees_with_itself_has_no_spread(members):
    with pytest.raises(ConfigError, match="two have the same parameters"):
        load_ensemble([members[0][0], members[0][1], members[0][0]])

    assert calibrated(np.array([1.0, 2.0]), np.zeros(2)) is None


def test_points_are_sorted_by_what_was_expected(rng):
    """Errors drawn from the expected deviations come out on the diagonal."""
    expected = 10 ** rng.uniform(-2, 1, (40, 5000))
    error = expected * rng.normal(size=expected.shape)
    sums = PointCalibrationSums()
    points = rng.random(expected.shape) < 0.9
    for rows in np.array_split(np.arange(40), 7):
        sums.add(expected[rows], error[rows], points[rows])
    found = sums.result()
    assert sum(found.count) == points.sum()
    np.testing.assert_allclose(found.actual, found.expected, rtol=0.1)
    assert np.all(np.diff(found.expected) > 0)


def test_a_calibration_is_right_about_its_own_molecules(rng):
    spreads = rng.uniform(0.1, 1.0, 500)
    errors = 3 * spreads
    found = calibrated(errors, spreads)
    assert found.factor == pytest.approx(3)
    assert found.correlation == pytest.approx(1)
    assert found.within_twice == 1
    assert found.limit == pytest.approx(3 * np.percentile(spreads, 95), abs=1e-3)
    mixed = calibrated(np.append(errors, np.nan), np.append(spreads, 1.0))
    assert mixed == found
    assert calibrated(np.array([1.0]), np.array([0.5])).correlation is None
