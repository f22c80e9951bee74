"""Statistics against plain numpy over all valid points of the store; exact where they say so."""

import json
from types import SimpleNamespace

import ase.data
import netCDF4
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from dcmnet.analysis import analyze, load_statistics
from dcmnet.analysis.accumulators import ErrorSums, SpreadSums
from dcmnet.analysis.export import parse_formats
from dcmnet.analysis.grouping import NOWHERE, SHELLS, by_size, formulas, shell_labels, shell_of
from dcmnet.analysis.point_errors import correlation, row_quantiles
from dcmnet.analysis.statistics import LEVELS
from store_schema.problems import ConfigError, StoreError
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL
from tests.experiments import copy
from tests.stores import random_columns, write_store


@pytest.fixture(scope="module")
def analysed(trained, sample_store, tmp_path_factory):
    """Everything analysed, and every valid point in one table, from the store alone."""
    folder = tmp_path_factory.mktemp("statistics")
    experiment = copy(trained[2], folder / "trial")
    store = copy(sample_store, folder / "sample.zarr")
    formats = ("parquet", "pkl", "netcdf")
    analysis = analyze(experiment, store=store, split="all", formats=formats, figures=False)
    with xr.open_datatree(store, engine="zarr") as tree:
        both = tree.to_dataset().merge(tree["results/trial"].to_dataset()).load()
    points = pd.concat([points_of(both.isel(molecule=row)) for row in range(len(both.molecule))])
    return SimpleNamespace(
        store=store, experiment=experiment, both=both, points=points, analysis=analysis
    )


def points_of(molecule):
    n, g = int(molecule.n_atoms), int(molecule.n_grid)
    numbers = molecule.atomic_numbers.values[:n]
    grid = molecule.vdw_surface.values[:g].astype(float)
    distance = np.linalg.norm(grid[:, None] - molecule.positions.values[:n].astype(float), axis=-1)
    scaled = distance / ase.data.vdw_radii[numbers]
    potentials = BOHR_IN_ANGSTROM / distance
    esp = {
        "reference": molecule.esp.values[:g].astype(float),
        "model": molecule.esp_predicted.values[:g].astype(float),
        "monopoles": potentials @ molecule.monopoles.values[:n].astype(float),
        "fitted": potentials @ molecule.monopoles_fitted.values[:n].astype(float),
    }
    return pd.DataFrame(
        {
            **{name: values * HARTREE_IN_KCAL_PER_MOL for name, values in esp.items()},
            "nearest_element": np.array(ase.data.chemical_symbols)[numbers[scaled.argmin(axis=1)]],
            "shell": np.array(shell_labels())[shell_of(scaled.min(axis=1))],
            "total_charge": {-1: "-1", 0: "0", 1: "+1"}[int(molecule.total_charge)],
            "molecule": str(molecule.molecule_id.values),
        }
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("by", ["all", "nearest_element", "shell", "total_charge"])
def test_point_errors_are_those_of_all_valid_points(analysed, by, level):
    statistics = load_statistics(analysed.store, "trial")
    assert statistics == analysed.analysis.statistics
    points = analysed.points.dropna(subset=["reference", level])
    groups = [("all", points)] if by == "all" else list(points.groupby(by))
    table = statistics.point_table(by, level)
    assert set(table.index) == {label for label, _ in groups}
    for label, group in groups:
        found = table.loc[label]
        error = group[level] - group["reference"]
        # A point at the very border of a shell may fall to either side of it.
        assert found["count"] == pytest.approx(len(group), abs=2 if by == "shell" else 0)
        assert found["mae"] == pytest.approx(error.abs().mean(), rel=1e-3)
        assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3)
        assert found["mean"] == pytest.approx(error.mean(), abs=1e-3 * error.abs().mean())
        assert found["max"] == pytest.approx(error.abs().max(), rel=1e-3)
        for percentile in (50, 90, 95, 99):
            exact = np.percentile(error.abs(), percentile)
            assert found[f"p{percentile}"] == pytest.approx(exact, rel=0.03)
        correlation = np.corrcoef(group[level], group["reference"])[0, 1]
        assert found["correlation"] == pytest.approx(correlation, abs=1e-4)


def test_each_molecule_has_its_exact_numbers(analysed):
    both = analysed.both
    for row, (_, points) in enumerate(analysed.points.groupby("molecule", sort=False)):
        error = (points["model"] - points["reference"]).to_numpy()
        molecule = both.isel(molecule=row)
        for name, value in {
            "esp_mean": error.mean(),
            "esp_p50": np.median(np.abs(error)),
            "esp_p95": np.percentile(np.abs(error), 95),
            "esp_max": np.abs(error).max(),
            "esp_correlation": np.corrcoef(points["model"], points["reference"])[0, 1],
        }.items():
            assert float(molecule[name]) == pytest.approx(value, rel=1e-3, abs=1e-3)
        displaced = np.linalg.norm(molecule["charge_positions"] - molecule["positions"], axis=-1)[
            : int(molecule.n_atoms)
        ]
        assert float(molecule["displacement_mean"]) == pytest.approx(displaced.mean(), rel=1e-3)
        assert float(molecule["displacement_max"]) == pytest.approx(displaced.max(), rel=1e-3)


def test_no_charges_on_the_atoms_do_better_than_the_fitted_ones(analysed):
    """The optimum under the exact total charge: by another route, and by its gradient."""
    for row in range(0, len(analysed.both.molecule), 7):
        molecule = analysed.both.isel(molecule=row)
        n, g = int(molecule.n_atoms), int(molecule.n_grid)
        distance = np.linalg.norm(
            molecule.vdw_surface.values[:g, None].astype(float)
            - molecule.positions.values[:n].astype(float),
            axis=-1,
        )
        design = BOHR_IN_ANGSTROM / distance
        esp, total = molecule.esp.values[:g].astype(float), float(molecule.total_charge)
        fitted = molecule.monopoles_fitted.values[:n].astype(float)
        assert fitted.sum() == pytest.approx(total, abs=1e-5)
        best = scipy.optimize.minimize(
            lambda q, A=design, v=esp: 1e3 * ((A @ q - v) ** 2).mean(),
            np.full(n, total / n),
            jac=lambda q, A=design, v=esp: 2e3 * A.T @ (A @ q - v) / len(v),
            constraints={"type": "eq", "fun": lambda q, Q=total: q.sum() - Q},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        least = np.sqrt(best.fun / 1e3) * HARTREE_IN_KCAL_PER_MOL
        assert float(molecule["esp_rmse_fitted"]) == pytest.approx(least, rel=1e-3)
        assert float(molecule["esp_rmse_fitted"]) <= 1.0001 * np.nan_to_num(
            float(molecule["esp_rmse_monopoles"]), nan=np.inf
        )


def test_spreads_of_charges_and_displacements(analysed):
    numbers = analysed.both["atomic_numbers"].values
    charges = analysed.both["charges"].values
    statistics = analysed.analysis.statistics
    for symbol in ("C", "H", "O"):
        own = charges[numbers == ase.data.atomic_numbers[symbol]].astype(float).ravel()
        found = statistics.charges[symbol]
        assert found.count == own.size == sum(found.counts)
        assert found.mean == pytest.approx(own.mean(), abs=1e-6)
        assert found.std == pytest.approx(own.std(), rel=1e-4)
        edges = found.start + found.width * np.arange(len(found.counts) + 1)
        counted, _ = np.histogram(own, edges)
        assert np.abs(counted - found.counts).max() <= 2  # at the border of a bin
        assert statistics.displacements[symbol].count == own.size
    assert statistics.charges["all"].count == np.isfinite(charges).sum()


def test_monopole_errors_by_element(analysed):
    error = (analysed.both["monopoles_predicted"] - analysed.both["monopoles"]).values
    numbers = analysed.both["atomic_numbers"].values
    for symbol, found in analysed.analysis.statistics.monopoles.items():
        chosen = numbers > 0
        if symbol != "all":
            chosen = numbers == ase.data.atomic_numbers[symbol]
        own = error[chosen & np.isfinite(error)].astype(float)
        assert found.count == own.size
        assert found.mae == pytest.approx(np.abs(own).mean(), rel=1e-4)


def test_molecules_by_element_and_size(analysed):
    groups = analysed.analysis.statistics.molecules
    numbers, rmse = analysed.both["atomic_numbers"].values, analysed.both["esp_rmse"].values
    for symbol, columns in groups["element"].items():
        own = rmse[(numbers == ase.data.atomic_numbers[symbol]).any(axis=1)]
        assert columns["esp_rmse"].count == own.size
        assert columns["esp_rmse"].mean == pytest.approx(own.mean(), rel=1e-5)
    assert sum(c["esp_rmse"].count for c in groups["n_atoms"].values()) == rmse.size
    worst = analysed.analysis.statistics.worst[0]
    assert worst.molecule == int(rmse.argmax())
    assert worst.molecule_id == str(analysed.both["molecule_id"].values[worst.molecule])


def test_exports_say_the_same(analysed):
    folder = analysed.experiment / "analysis"
    table = pd.read_csv(folder / "predictions.csv", index_col="molecule")
    for other in (
        pd.read_parquet(folder / "predictions.parquet"),
        pd.read_pickle(folder / "predictions.pkl"),
    ):
        pd.testing.assert_frame_equal(table, other, check_dtype=False)
    with netCDF4.Dataset(folder / "predictions.nc") as file:
        assert list(file["molecule_id"][:]) == table["molecule_id"].tolist()
        assert file["esp_rmse"].units == "kcal/mol/e"
        charges = np.ma.filled(file["charges"][:], np.nan)
        np.testing.assert_array_equal(charges, analysed.both["charges"])
        assert json.loads(file.config)["name"] == "trial"
    assert {path.name for path in folder.glob(".*")} == set()


def test_formats_are_read_and_refused():
    assert parse_formats("Parquet, csv") == ("csv", "parquet")
    for text in ("xls", "", "csv,xls"):
        with pytest.raises(ConfigError, match="parquet"):
            parse_formats(text)


def test_statistics_that_are_not_there_are_refused(analysed, sample_store):
    with pytest.raises(StoreError, match="no such group"):
        load_statistics(analysed.store, "nothing")
    with pytest.raises(StoreError, match="dcmnet analyze"):
        load_statistics(sample_store, "trial")


def test_a_store_without_esp_has_the_other_numbers(analysed, rng, tmp_path):
    columns = random_columns(rng, [3, 5, 4], [5, 5, 5], missing=0.0)
    del columns["esp"], columns["vdw_surface"]
    columns["n_grid"][:] = 0
    store = write_store(tmp_path / "a.zarr", columns)
    without = analyze(analysed.experiment, store=store, split="all", name="no_esp", figures=False)
    statistics = without.statistics
    assert statistics.n_points == 0
    assert statistics.molecules["all"]["all"]["esp_rmse"].count == 0
    assert statistics.molecules["all"]["all"]["dipole_error"].count == 3
    assert load_statistics(store, "no_esp") == statistics


def add_all(sums, group, predicted, reference):
    """Adds values of one level, as if they were of one molecule."""
    known = np.ones((1, 1), bool)
    sums.add(np.array([0]), group[None], predicted[None, None], reference[None], known)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(-50, 50), st.floats(-50, 50)),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 60),
)
def test_sums_in_parts_are_sums_of_all(rows, cut):
    group, predicted, reference = (np.array(column) for column in zip(*rows, strict=True))
    parts = ErrorSums(3)
    for part in (slice(cut), slice(cut, None)):
        add_all(parts, group[part], predicted[part], reference[part])
    for chosen in ([0], [1, 2], [0, 1, 2]):
        error = np.abs(predicted - reference)[np.isin(group, chosen)]
        found = parts.errors(chosen)
        if not error.size:
            assert found is None
            continue
        assert found.count == error.size
        assert found.max == pytest.approx(error.max(), rel=1e-6)
        assert found.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6, abs=1e-9)
        # The histogram's percentile lies beside an error that is there.
        order = np.sort(error)
        place = int(np.ceil(0.9 * error.size)) - 1
        assert found.p90 == pytest.approx(order[place], rel=0.016, abs=2e-6)


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=50))
def test_spreads_count_every_value(values):
    sums = SpreadSums(1, -5.0, 5.0, 0.05)
    sums.add(np.zeros(len(values), int), np.array(values))
    found = sums.spread([0])
    assert sum(found.counts) == found.count == len(values)
    assert (found.min, found.max) == pytest.approx((min(values), max(values)), rel=1e-6)


@given(st.integers(0, 2**31), st.integers(0, 40))
def test_sums_of_molecules_are_those_of_their_points(seed, width):
    """Whatever the places are, without points and without a level's prediction."""
    rng = np.random.default_rng(seed)
    esp = rng.normal(size=(3, 4, width)).astype(np.float32)
    place = rng.integers(0, 5, (4, width)).astype(np.int16)
    place[rng.random(place.shape) < 0.3] = NOWHERE
    points = place != NOWHERE
    known = rng.random((2, 4)) < 0.7
    totals, first = ErrorSums(40, 2), rng.integers(0, 35, 4)
    sums = totals.add(first, place, esp[1:], esp[0], known)
    for level in range(2):
        every = totals.errors(range(40), level)
        assert (every.count if every else 0) == (points & known[level, :, None]).sum()
        if every:
            assert every.mae * every.count == pytest.approx(sums[2, level].sum(), rel=1e-5)
    for level, row in np.ndindex(2, 4):
        if not known[level, row]:
            assert not sums[:, level, row].any()
            continue
        reference, predicted = esp[[0, 1 + level], row][:, points[row]].astype(float)
        error = predicted - reference
        columns = [np.ones_like(error), error, abs(error), error**2]
        columns += [reference, predicted, reference**2, predicted**2]
        np.testing.assert_allclose(sums[:, level, row], np.sum(columns, axis=1), atol=1e-5)
        if points[row].sum() > 2:
            found = correlation(sums[:, level, row])
            assert found == pytest.approx(np.corrcoef(predicted, reference)[0, 1], abs=1e-4)


def test_an_error_that_is_not_a_number_stays_within_its_group():
    """Compiled loops write wherever they are told; NaN has no bin of its own."""
    sums = ErrorSums(3)
    predicted = np.float32([np.nan, np.inf, -np.inf, 1.0])
    add_all(sums, np.zeros(4, int), predicted, np.ones(4, np.float32))
    add_all(sums, np.array([1]), np.float32([3.0]), np.float32([1.0]))
    assert sums.errors([0]).count == 4
    assert np.isnan(sums.errors([0]).rmse)
    assert sums.errors([1]).p50 == pytest.approx(2.0, rel=0.016)
    assert sums.errors([2]) is None


def test_a_molecule_of_one_point_has_no_correlation():
    esp = np.array([[[2.0, 0.0], [0.0, 0.0]], [[1.0, 5.0], [1.0, 2.0]]], np.float32)
    place = np.array([[3, NOWHERE], [NOWHERE, NOWHERE]], np.int16)
    known = np.array([[True, True]])
    sums = ErrorSums(4).add(np.zeros(2, int), place, esp[1:], esp[0], known)[:, 0]
    assert sums[:4, 0].tolist() == [1.0, -1.0, 1.0, 1.0]
    assert np.isnan(correlation(sums)).all()
    for quantile in row_quantiles(np.abs(esp[1] - esp[0]), place != NOWHERE, (0.5, 1.0)):
        assert quantile[0] == 1.0
        assert np.isnan(quantile[1])


def test_groups_are_called_as_people_call_them():
    numbers = np.array([[6, 1, 1, 1, 1], [8, 1, 1, 0, 0], [17, 11, 0, 0, 0], [6, 8, 8, 0, 0]])
    assert formulas(numbers) == ["CH4", "H2O", "ClNa", "CO2"]
    assert len(shell_labels()) == len(SHELLS)
    places = shell_of(np.array([0.5, 1.4, 99.0]))
    assert [shell_labels()[place] for place in places] == ["<1.1", "1.3-1.5", ">3.1"]
    sizes = by_size(np.arange(3, 60))
    assert len(sizes.categories) <= 10
    assert (sizes[0], sizes[-1]) == ("3-8", "57-62")
