"""The electric field from a file to a trained network, against closed forms of point charges."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from dcmnet import run_training
from dcmnet.analysis import analyze
from dcmnet.config import TrainingConfig
from dcmnet.model.electrostatics import electric_field, esp
from dcmnet.model.observables import observe
from dcmnet.training.losses import molecule_losses
from pipeline import ingest, open_store
from pipeline.chemistry.fitted_multipoles import fit_multipoles
from pipeline.chemistry.multipoles import multipole_field, multipole_potential
from pipeline.inspection.validate import validate_store
from pipeline.loader import make_batch, make_loader
from pipeline.loader.augment import random_rotations, rotate
from pipeline.reference.run import reference
from store_schema.problems import AmbiguityError, ConfigError, TrainingError
from store_schema.units import BOHR_IN_ANGSTROM, FACTORS, HARTREE_IN_EV, parse_unit
from tests.experiments import SETTINGS

BOHR = BOHR_IN_ANGSTROM
N = 40


@pytest.fixture(scope="module")
def columns(sample_store):
    """Molecules of the sample with the field of the multipoles that explain their ESP."""
    molecules = open_store(sample_store).to_dataset().isel(molecule=slice(0, N)).load()
    names = {"Z": "atomic_numbers", "R": "positions", "esp": "esp", "n_grid": "n_grid"}
    names |= {"vdw_surface": "vdw_surface", "Q": "total_charge"}
    columns = {key: molecules[name].values.astype(np.float64) for key, name in names.items()}
    columns["electric_field"] = np.full(columns["vdw_surface"].shape, np.nan)
    rng = np.random.default_rng(0)
    for row in range(N):
        atoms, points = columns["Z"][row] > 0, slice(int(columns["n_grid"][row]))
        place, grid = columns["R"][row][atoms], columns["vdw_surface"][row, points]
        charges, dipoles, _ = fit_multipoles(place, grid, columns["esp"][row, points])
        field = field_of(grid, place, charges, dipoles)
        # What multipoles on the atoms do not have.
        columns["electric_field"][row, points] = field * rng.normal(1, 0.03, field.shape)
    return columns


def field_of(points, positions, charges, dipoles):
    """The field of charges and dipoles on atoms, of lengths in Å."""
    return multipole_field(points / BOHR, positions / BOHR, charges, dipoles / BOHR)


def stored(columns, folder, **options):
    np.savez(folder / "a.npz", **columns)
    ingest([folder / "a.npz"], folder / "a.zarr", **options)
    return folder / "a.zarr"


def test_the_field_of_multipoles_is_the_slope_of_their_potential(rng):
    positions, charges, dipoles = (
        rng.normal(size=(3, 3)),
        rng.normal(size=3),
        rng.normal(size=(3, 3)),
    )
    points = rng.normal(size=(5, 3)) + 6

    def potential(places):
        offset = (places[:, None] - positions) / BOHR
        inverse = 1 / np.linalg.norm(offset, axis=-1)
        along = np.einsum("pax,ax->pa", offset, dipoles / BOHR)
        return inverse @ charges + (along * inverse**3).sum(axis=1)

    found, step = field_of(points, positions, charges, dipoles), 1e-4
    for axis in range(3):
        move = step * np.eye(3)[axis]
        slope = (potential(points + move) - potential(points - move)) / (2 * step / BOHR)
        np.testing.assert_allclose(found[:, axis], -slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("electric_field", "hartree/e/bohr"),
        ("electric_field", "eV/e/angstrom"),
        ("efield", "kcal/mol/e/angstrom"),
        ("esp_gradient", "hartree/e/bohr"),
        ("electric_field", "-kcal/mol/e/bohr"),
    ],
)
def test_unit_and_sign_are_inferred(key, unit, columns, tmp_path):
    sign = -1 if unit.startswith("-") else 1
    factor = sign * FACTORS["field"][unit.removeprefix("-")]
    factor *= -1 if key == "esp_gradient" else 1
    given = {name: values for name, values in columns.items() if name != "electric_field"}
    given[key] = columns["electric_field"] / factor
    store = stored(given, tmp_path)
    found = open_store(store).to_dataset()["electric_field"].values
    expected = columns["electric_field"][:, : found.shape[1]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    assert not validate_store(store).problems


def test_without_an_esp_it_is_a_question(columns, tmp_path):
    given = {name: values for name, values in columns.items() if name != "esp"}
    with pytest.raises(AmbiguityError, match="electric_field"):
        stored(given, tmp_path)
    store = stored(
        given,
        tmp_path,
        declare={
            "electric_field": "electric_field",
            "unit.electric_field": "hartree/e/bohr",
        },
    )
    assert "electric_field" in open_store(store).to_dataset()


def test_a_field_of_other_molecules_is_a_question(columns, tmp_path):
    given = columns | {"electric_field": columns["electric_field"][::-1].copy()}
    with pytest.raises(AmbiguityError, match="electric_field"):
        stored(given, tmp_path)


def test_a_molecule_with_the_field_of_another_is_set_aside(columns, tmp_path):
    field = columns["electric_field"].copy()
    field[3] *= -1
    field[5, 7] = np.nan
    field[6] *= 2
    field[7] = 0
    store = stored(columns | {"electric_field": field}, tmp_path)
    quarantine = open_store(store)["quarantine"].to_dataset()
    reasons = sorted(map(str, quarantine["reason"].values))
    assert len(reasons) == 4
    assert "missing at some grid points" in reasons[0]
    assert all("not that of its ESP" in reason for reason in reasons[1:])


def test_units_are_understood_as_people_write_them():
    for text in ("V/Å", "V/angstrom", "eV/e/A"):
        assert parse_unit(text, "field") == "eV/e/angstrom"
    assert parse_unit("a.u.", "field") == "hartree/e/bohr"
    assert FACTORS["field"]["eV/e/angstrom"] == pytest.approx(BOHR / HARTREE_IN_EV)
    assert FACTORS["field"]["hartree/e/bohr"] == pytest.approx(1.0)


def test_points_inside_go_from_the_field_as_well(columns, tmp_path):
    store = stored(columns, tmp_path, drop_inside=True)
    molecules = open_store(store).to_dataset()
    assert np.array_equal(
        np.isnan(molecules["esp"].values), np.isnan(molecules["electric_field"].values).any(axis=-1)
    )


def test_the_network_has_the_slope_of_its_potential(rng):
    charges = jnp.asarray(rng.normal(size=(2, 6)), jnp.float32)
    positions = jnp.asarray(rng.normal(size=(2, 6, 3)), jnp.float32)
    grid = jnp.asarray(rng.normal(size=(2, 9, 3)) + 5, jnp.float32)
    found = np.asarray(electric_field(charges, positions, grid))
    offset = np.asarray(grid[:, :, None] - positions[:, None], np.float64) / BOHR
    inverse = np.linalg.norm(offset, axis=-1) ** -3
    expected = np.einsum("bk,bgk,bgkx->bgx", charges, inverse, offset)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)
    assert esp(charges, positions, grid).shape == found.shape[:2]


def test_batches_carry_it_and_turn_it(columns, tmp_path, rng):
    store = stored(columns, tmp_path)
    (batch, *_) = make_loader(store, batch_size=8, shuffle=False)
    assert batch.electric_field.shape == batch.vdw_surface.shape
    assert batch.has_electric_field.all()
    turns = random_rotations(8, rng)
    turned = rotate(batch, turns)
    expected = np.einsum("bij,bgj->bgi", turns, batch.electric_field)
    np.testing.assert_allclose(turned.electric_field, expected, atol=1e-6)
    (some, *_) = make_loader(store, batch_size=8, shuffle=False, grid_points=50)
    assert (some.grid_mask.sum(axis=1) == 50).all()
    everything = columns["vdw_surface"], columns["electric_field"]
    for row, molecule in enumerate(some.molecule_index):
        own = np.hstack([each[molecule] for each in everything]).astype(np.float32)
        pairs = {tuple(p) for p in own}
        taken = np.hstack([some.vdw_surface[row], some.electric_field[row]])
        assert {tuple(p) for p in taken[some.grid_mask[row]]} <= pairs
    (without, *_) = make_loader(store, batch_size=8, fields=["esp", "vdw_surface"])
    assert without.electric_field.shape == (8, 0, 3)
    assert not without.has_electric_field.any()
    alone = make_batch([{"atomic_numbers": [1], "positions": [[0.0, 0, 0]]}])
    assert alone.electric_field.shape == (1, 0, 3)


def test_it_is_trained_on_and_reported(columns, tmp_path):
    store = stored(columns, tmp_path)
    settings = SETTINGS | {"num_epochs": 15, "batch_size": 8, "esp_w": 0.0, "chg_w": 0.0}
    _, _, experiment = run_training("field", store, out=str(tmp_path), field_w=1e5, **settings)
    lines = (experiment / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert last["train"]["loss_field"] < first["train"]["loss_field"]
    assert last["valid"]["field_mae"] > 0
    found = analyze(experiment, store=store, split="all", ladder=0, figures=False)
    molecules, results = open_store(store).to_dataset(), open_store(store)["results/field"]
    charges = results["charges"].values.reshape(N, -1)
    places = results["charge_positions"].values.reshape(N, charges.shape[1], 3)
    for row in (0, N - 1):
        real = np.isfinite(charges[row])
        points = slice(int(molecules["n_grid"][row]))
        grid = molecules["vdw_surface"].values[row, points].astype(np.float64)
        field = field_of(
            grid,
            places[row][real].astype(np.float64),
            charges[row][real].astype(np.float64),
            np.zeros((real.sum(), 3)),
        )
        error = field - molecules["electric_field"].values[row, points]
        rmse = np.sqrt(np.mean(error**2)) * FACTORS["field_error"]["hartree/e/bohr"]
        assert float(results["field_rmse"][row]) == pytest.approx(rmse, rel=1e-3)
    assert found.statistics.molecules["all"]["all"]["field_rmse"].count == N


def test_a_store_without_one_is_not_trained_on_it(small_store, tmp_path):
    with pytest.raises(TrainingError, match="--field"):
        run_training("no", small_store, out=str(tmp_path), field_w=1.0, **SETTINGS)
    with pytest.raises(ConfigError):
        run_training("no", small_store, out=str(tmp_path), field_w=-1.0, **SETTINGS)


def test_reference_calculates_it(tmp_path):
    pytest.importorskip("tblite")
    (tmp_path / "w.xyz").write_text("3\ncharge=0\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n")
    reference([tmp_path / "w.xyz"], tmp_path / "w.npz", level="xtb", n_points=80, field=True)
    with np.load(tmp_path / "w.npz") as raw:
        found = dict(raw)
    atomic = [found[k][0] for k in ("mono", "atomic_dipoles", "atomic_quadrupoles")]
    grid, step = found["vdw_surface"][0], 1e-4
    for axis in range(3):
        move = step * np.eye(3)[axis]
        ahead, behind = (
            multipole_potential((grid + s * move) / BOHR, found["R"][0] / BOHR, *atomic)
            for s in (1, -1)
        )
        expected = -(ahead - behind) * BOHR / (2 * step)
        np.testing.assert_allclose(
            found["electric_field"][0, :, axis], expected, rtol=1e-3, atol=1e-6
        )
    ingest([tmp_path / "w.npz"], tmp_path / "w.zarr")
    assert "electric_field" in open_store(tmp_path / "w.zarr").to_dataset()


def test_the_loss_is_half_the_mean_square_of_each_molecules_own_components(columns, tmp_path, rng):
    batch = next(iter(make_loader(stored(columns, tmp_path), batch_size=8, shuffle=False)))
    config = TrainingConfig(esp_w=0.0, chg_w=0.0, field_w=7.0)
    molecules, atoms = batch.atomic_numbers.shape
    charges = jnp.asarray(rng.normal(size=(molecules, atoms, 2)), jnp.float32)
    charges *= batch.atom_mask[:, :, None]
    places = jnp.asarray(batch.positions[:, :, None] + rng.normal(scale=0.1, size=(1, 1, 2, 3)))
    found = molecule_losses(observe(charges, places.astype(jnp.float32), batch), batch, config)
    assert set(found) == {"field"}
    for row in range(molecules):
        own = batch.grid_mask[row]
        field = field_of(
            batch.vdw_surface[row, own].astype(np.float64),
            np.asarray(places[row], np.float64).reshape(-1, 3),
            np.asarray(charges[row], np.float64).ravel(),
            np.zeros((2 * atoms, 3)),
        )
        expected = 7.0 * 0.5 * np.mean((field - batch.electric_field[row, own]) ** 2)
        assert float(found["field"][row]) == pytest.approx(expected, rel=1e-3)
