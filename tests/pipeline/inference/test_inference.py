"""What physics settles beyond units: conventions, files that begin otherwise, rough dipoles."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.inference.equilibration import equilibrated_charges
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError

CLASSIC, IONS, ROLES, SINGLES = sample_sources()
BOHR, DEBYE = 0.529177210903, 0.20819434


def columns_of(path):
    with np.load(path) as raw:
        return {key: raw[key].copy() for key in raw.files}


def stored(folder, columns, **options):
    np.savez(folder / "a.npz", **columns)
    report = ingest([folder / "a.npz"], folder / "a.zarr", **options)
    return report, open_store(folder / "a.zarr").to_dataset().load()


@pytest.fixture(scope="module")
def ions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ions")
    return columns_of(IONS), stored(folder, columns_of(IONS))[1]


def test_water_is_polar_and_charges_sum_to_the_net_charge():
    water = np.array([[0.0, 0, 0.117], [0, 0.757, -0.471], [0, -0.757, -0.471]])
    for charge in (-1.0, 0.0, 1.0):
        charges = equilibrated_charges(np.array([8, 1, 1]), water, charge)
        assert charges is not None
        assert abs(charges.sum() - charge) < 1e-9
    neutral = equilibrated_charges(np.array([8, 1, 1]), water, 0.0)
    assert neutral is not None
    assert 0.2 < float((neutral @ water)[2]) * -1 < 0.6  # 0.39 e·Å in experiment
    assert equilibrated_charges(np.array([92, 1]), water[:2], 0.0) is None


def physnet(unit):
    """The convention of PhysNet: N E F R Z D Q, and no ESP."""
    columns = {key: columns_of(CLASSIC)[key] for key in ("N", "R", "Z", "Dxyz")}
    vector = columns.pop("Dxyz") * BOHR
    return columns | {"D": vector * unit, "Q": np.zeros(len(vector))}


@pytest.mark.parametrize("unit", [1.0, 1 / BOHR, 1 / DEBYE])
def test_dipoles_without_an_esp_are_held_against_electronegativities(tmp_path, unit):
    expected = physnet(1.0)["D"]
    report, molecules = stored(tmp_path, physnet(unit))
    assert report.n_quarantined == 0
    np.testing.assert_allclose(molecules.dipole, expected, atol=1e-5)
    assert "electronegativity" in report.schema.sources[0].keys["D"].evidence[0]


def test_dipoles_of_one_species_are_a_question(tmp_path):
    columns = physnet(1.0)
    one = np.flatnonzero((columns["Z"] == columns["Z"][0]).all(axis=1))
    columns = {key: values[one] for key, values in columns.items() if key in "NRZD"}
    with pytest.raises(AmbiguityError, match=r"--declare unit\.D="):
        stored(tmp_path, columns)


@pytest.mark.parametrize("order", ["xx yy zz xy xz yz", "xx xy yy xz yz zz", "xx xy xz yy yz zz"])
def test_buckinghams_quadrupole_and_the_order_of_its_columns_are_recognised(ions, tmp_path, order):
    columns, truth = ions
    tensor = truth.quadrupole.to_numpy().astype(float)
    tensor -= np.trace(tensor, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    given = 1.5 * tensor / BOHR**2
    pairs = [("xyz".index(i), "xyz".index(j)) for i, j in order.split()]
    columns = columns | {"Q": np.stack([given[:, i, j] for i, j in pairs], axis=1)}
    report, molecules = stored(tmp_path, columns)
    np.testing.assert_allclose(molecules.quadrupole, tensor, atol=2e-4)
    (evidence,) = report.schema.sources[0].keys["Q"].evidence
    assert "Buckingham" in evidence
    assert order in evidence or order == "xx xy xz yy yz zz"


def test_dipoles_of_ions_about_the_centre_of_mass_are_moved_to_the_origin(ions, tmp_path):
    columns, truth = ions
    columns = dict(columns)
    shift = np.array([1.0, -2.0, 0.5])
    real = columns["atomic_numbers"] > 0
    columns["positions"] = np.where(real[..., None], columns["positions"] + shift, 0)
    columns["vdw_surface"] = columns["vdw_surface"] + shift.astype(np.float32)
    points = np.arange(columns["vdw_surface"].shape[1]) < columns["n_grid"][:, None]
    columns["vdw_surface"][~points] = 0
    # A dipole about a point that moves along does not change.
    masses = np.array([0, 1.008, *[0] * 4, 12.011, 14.007, 15.999, 18.998])
    weights = masses[columns["atomic_numbers"]]
    center = np.einsum("ma,max->mx", weights, columns["positions"] - shift * real[..., None])
    center /= weights.sum(axis=1)[:, None]
    charge = truth.total_charge.to_numpy()[:, None]
    columns["Dxyz"] = (truth.dipole.to_numpy() - charge * center) / DEBYE
    del columns["Q"]
    report, molecules = stored(tmp_path, columns)
    assert report.n_quarantined == 0
    expected = truth.dipole.to_numpy() + charge * shift
    np.testing.assert_allclose(molecules.dipole, expected, atol=2e-3)


def test_of_two_grids_the_one_that_explains_the_esp_is_taken(tmp_path):
    columns = columns_of(CLASSIC)
    turned = columns["vdw_surface"][..., [1, 2, 0]] * [1, 1, -1]
    turned[columns["vdw_surface"] == 10000] = 10000
    report, molecules = stored(tmp_path, {"esp_grid": turned, **columns})
    grid = np.nan_to_num(molecules.vdw_surface.to_numpy())
    n = molecules.n_grid.to_numpy()[0]
    np.testing.assert_allclose(grid[0, :n], columns["vdw_surface"][0, :n], atol=1e-4)
    assert any("esp_grid is not stored" in warning for warning in report.warnings)


def test_the_first_molecules_do_not_speak_for_all(tmp_path):
    columns = columns_of(CLASSIC)
    many = {key: np.concatenate([values] * 4) for key, values in columns.items() if key != "id"}
    many["E"] = np.full(len(many["Z"]), np.nan)
    free = {1: -0.5, 6: -37.84, 7: -54.59, 8: -75.07, 9: -99.73}
    total = sum(energy * (many["Z"] == z).sum(axis=1) for z, energy in free.items())
    many["E"][270:] = total[270:] * 27.211386
    report, molecules = stored(tmp_path, many)
    assert report.schema.sources[0].keys["E"].unit == "eV"
    assert int(np.isfinite(molecules.energy).sum()) == len(total) - 270


def in_bohr(columns):
    columns["R"][3] /= BOHR
    columns["vdw_surface"][3] /= BOHR


def esp_in_other_unit(columns):
    columns["esp"][3] *= 627.5
    columns["D"][3], columns["Dxyz"][3] = np.nan, np.nan


def dipole_in_other_unit(columns):
    columns["Dxyz"][3] *= 4.8


def too_many_points(columns):
    columns["n_grid"][3] = columns["esp"].shape[1] + 7


ODD = {
    in_bohr: "another unit",
    esp_in_other_unit: "another unit",
    dipole_in_other_unit: "from what its ESP gives",
    too_many_points: "has room for",
}


@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_a_molecule_unlike_its_file_is_set_aside(tmp_path, change):
    columns = {key: values[20:40] for key, values in columns_of(CLASSIC).items()}
    change(columns)
    report, _ = stored(tmp_path, columns)
    assert (report.n_molecules, report.n_quarantined) == (19, 1)
    (reason,) = report.reasons
    assert ODD[change] in reason


def test_a_number_of_points_that_counts_padding_is_told(tmp_path):
    columns = {key: values[:12] for key, values in columns_of(CLASSIC).items()}
    truth = columns["n_grid"].copy()
    columns["n_grid"][4:] = columns["esp"].shape[1]
    report, molecules = stored(tmp_path, columns)
    np.testing.assert_array_equal(molecules.n_grid, truth)
    assert any("in 8 molecules, padding is counted" in warning for warning in report.warnings)


def test_energies_from_another_zero_are_a_question(tmp_path):
    columns = columns_of(CLASSIC)
    rng = np.random.default_rng(0)
    columns["E"] = rng.normal(size=len(columns["Z"])) * 5  # kcal/mol above the lowest conformer
    with pytest.raises(AmbiguityError, match=r"unit\.E"):
        stored(tmp_path, columns)


def test_atoms_at_the_origin_need_no_unit(tmp_path):
    columns = {"Z": np.array([[10], [18]]), "R": np.zeros((2, 1, 3)), "total_charge": np.zeros(2)}
    report, molecules = stored(tmp_path, columns)
    assert report.n_molecules == 2
    assert not molecules.positions.to_numpy().any()


@pytest.mark.parametrize("traceless", [False, True])
def test_a_quadrupole_about_another_point_is_a_question(ions, tmp_path, traceless):
    """Trap: it has the right unit and nearly the right size, and is not what the store says."""
    columns, truth = ions
    shift = np.array([1.2, -1.0, 1.4])
    mixed = truth.dipole.to_numpy()[:, :, None] * shift
    charge = truth.total_charge.to_numpy()[:, None, None]
    tensor = truth.quadrupole.to_numpy() - mixed - mixed.transpose(0, 2, 1)
    tensor = tensor + charge * np.outer(shift, shift)
    if traceless:
        tensor = tensor - np.trace(tensor, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    with pytest.raises(AmbiguityError, match=r"Q: .* it seems to be about"):
        stored(tmp_path, columns | {"Q": tensor / BOHR**2})
