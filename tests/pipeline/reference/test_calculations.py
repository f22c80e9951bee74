"""Densities, partitions and potentials against closed forms, differences, and data made before."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pyscf import dft, gto, qmmm
from pyscf.df import df_jk

from pipeline.chemistry.multipoles import multipole_potential
from pipeline.chemistry.radii import van_der_waals_radii
from pipeline.chemistry.shells import SHELLS, shell_points
from pipeline.reference import density_functional
from pipeline.reference.calculation import CalculationError
from pipeline.reference.density_functional import DensityFunctional
from pipeline.reference.mbis import mbis
from pipeline.reference.tight_binding import TightBinding
from pipeline.sample import sample_sources
from pipeline.structures import Geometry
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
NUMBERS = np.array([8, 1, 1])
SMALL = DensityFunctional("PBE0", "def2-SVP")


def water(positions=WATER, **fields):
    return Geometry("water", "water", NUMBERS, positions, **{"charge": 0} | fields)


def turned(rng):
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return turn * np.sign(np.linalg.det(turn))


def grid(center, rng, n=60_000):
    """Points and weights that integrate what falls off around a center, within 1 %."""
    length = rng.exponential(0.6, n)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    density = np.exp(-length / 0.6) / 0.6 / (4 * np.pi * length**2)
    return center + length[:, None] * direction, 1 / density / n


# Partition


def test_slater_densities_are_divided_into_what_they_were_made_of(rng):
    """Two hydrogens of known populations and widths, of which the densities are exact."""
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.6]])
    populations, widths = np.array([0.7, 1.3]), np.array([0.42, 0.55])
    parts = [grid(position, rng) for position in positions]
    points = np.concatenate([part[0] for part in parts])
    each = [
        1 / (4 * np.pi * r**2) * np.exp(-r / 0.6) / 0.6
        for r in (np.linalg.norm(points - position, axis=1) for position in positions)
    ]
    weights = 1 / (60_000 * sum(each))  # of both grids together
    density = sum(
        n / (8 * np.pi * s**3) * np.exp(-np.linalg.norm(points - position, axis=1) / s)
        for n, s, position in zip(populations, widths, positions, strict=True)
    )
    found = mbis(np.array([1, 1]), positions, points, weights, density)
    np.testing.assert_allclose(found.charges, 1 - populations, atol=0.02)
    np.testing.assert_allclose(found.charges.sum(), 2 - (weights * density).sum(), atol=1e-9)


def test_elements_without_shells_are_refused():
    with pytest.raises(ValueError, match="up to Kr"):
        mbis(np.array([54]), np.zeros((1, 3)), np.ones((1, 3)), np.ones(1), np.ones(1))


# Potentials of multipoles

CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


@pytest.mark.parametrize("order", ["charge", "dipole", "quadrupole", "octupole"])
def test_multipoles_have_the_potential_of_charges_close_together(order, rng):
    step = 1e-3
    places = {
        "charge": (np.zeros((1, 3)), np.ones(1)),
        "dipole": (step * np.array([[1.0, 0, 0], [-1, 0, 0]]), np.array([1.0, -1.0])),
        "quadrupole": (
            step * np.array([[1.0, 1, 0], [-1, -1, 0], [1, -1, 0], [-1, 1, 0]]),
            np.array([1.0, 1, -1, -1]),
        ),
        "octupole": (10 * step * CORNERS, CORNERS.prod(axis=1)),
    }[order]
    turn, center = turned(rng), rng.normal(size=3)
    offset, charges = places[0] @ turn, places[1]
    points = center + 3 * rng.normal(size=(50, 3))
    expected = (charges / np.linalg.norm(points[:, None] - center - offset, axis=-1)).sum(axis=1)
    found = multipole_potential(
        points,
        center[None],
        np.array([charges.sum()]),
        (charges @ offset)[None],
        np.einsum("q,qi,qj->ij", charges, offset, offset)[None],
        np.einsum("q,qi,qj,qk->ijk", charges, offset, offset, offset)[None],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


# Points


def test_points_lie_on_shells_and_in_no_sphere(rng):
    points = shell_points(NUMBERS, WATER, 1500, rng)
    assert points.shape == (1500, 3)
    distance = np.linalg.norm(points[:, None] - WATER, axis=-1) / van_der_waals_radii(NUMBERS)
    nearest = distance.min(axis=1)
    shell = np.abs(nearest[:, None] - SHELLS)
    assert shell.min(axis=1).max() < 1e-9
    counts = np.bincount(shell.argmin(axis=1))
    assert (np.diff(counts) > 0).all()  # as areas grow


@pytest.mark.parametrize("n_points", [1, 7, 20_000])
def test_there_are_as_many_points_as_asked_for(n_points, rng):
    points = shell_points(NUMBERS, WATER, n_points, rng)
    assert len(np.unique(points, axis=0)) == n_points


# Density functional theory


@pytest.fixture(scope="module")
def records():
    with np.load(sample_sources()[0]) as raw:
        return {key: raw[key] for key in raw.files}


def test_the_reference_data_are_found_again(records):
    """The sample was made at PBE0/def2-SVP, by other code."""
    row = int(np.argmin((records["Z"] > 0).sum(axis=1)))
    n, n_grid = int((records["Z"][row] > 0).sum()), int(records["n_grid"].reshape(-1)[row])
    geometry = Geometry("", "", records["Z"][row, :n].astype(int), records["R"][row, :n], 0)
    found = SMALL(geometry, records["vdw_surface"][row, :n_grid], False)
    np.testing.assert_allclose(found.esp, records["esp"][row, :n_grid], atol=5e-5)
    monopoles = records["mono"][row].reshape(-1)[:n]
    np.testing.assert_allclose(found.atomic.charges, monopoles, atol=5e-4)
    np.testing.assert_allclose(found.dipole, records["Dxyz"][row], atol=1e-3)


def independent(molecule):
    """PySCF's own calculation, without density fitting, converged tightly."""
    method = dft.RKS(molecule, xc="PBE0")
    method.conv_tol, method.grids.level = 1e-11, 3
    return method


def test_the_esp_is_the_slope_of_the_energy_by_a_charge_at_the_point(rng):
    points = shell_points(NUMBERS, WATER, 3, rng)
    charge = 1e-3
    slopes = []
    for point in points:
        energies = [
            qmmm.mm_charge(independent(pyscf_water()), point[None], np.array([q])).kernel()
            for q in (charge, -charge)
        ]
        slopes.append((energies[0] - energies[1]) / (2 * charge))
    np.testing.assert_allclose(SMALL(water(), points, False).esp, slopes, atol=1e-4)


def test_the_dipole_is_the_slope_of_the_energy_by_a_field(rng):
    field, molecule = 1e-3, pyscf_water()
    places = molecule.intor_symmetric("int1e_r")
    nuclei = molecule.atom_charges() @ molecule.atom_coords()

    def energy(strength, axis):
        method = independent(molecule)
        plain = method.get_hcore()
        method.get_hcore = lambda *_: plain + strength * places[axis]
        return method.kernel() - strength * nuclei[axis]

    slopes = [(energy(-field, axis) - energy(field, axis)) / (2 * field) for axis in range(3)]
    found = SMALL(water(), shell_points(NUMBERS, WATER, 1, rng), False).dipole
    np.testing.assert_allclose(found, slopes, atol=1e-3)


def pyscf_water():
    atoms = list(zip(NUMBERS.tolist(), WATER.tolist(), strict=True))
    return gto.M(atom=atoms, basis="def2-SVP", verbose=0)


def test_everything_turns_with_the_molecule(rng):
    points = shell_points(NUMBERS, WATER, 50, rng)
    turn = turned(rng)
    one, other = SMALL(water(), points, True), SMALL(water(WATER @ turn), points @ turn, True)
    np.testing.assert_allclose(other.esp, one.esp, atol=5e-5)
    np.testing.assert_allclose(other.dipole, one.dipole @ turn, atol=5e-4)
    np.testing.assert_allclose(other.quadrupole, turn.T @ one.quadrupole @ turn, atol=2e-3)
    np.testing.assert_allclose(other.forces, one.forces @ turn, atol=1e-3)
    np.testing.assert_allclose(other.atomic.charges, one.atomic.charges, atol=5e-4)
    np.testing.assert_allclose(other.atomic.dipoles, one.atomic.dipoles @ turn, atol=1e-3)


def test_multipoles_of_the_atoms_add_up_to_the_molecule(rng):
    points = shell_points(NUMBERS, WATER, 400, rng)
    found = SMALL(water(), points, False)
    positions = WATER / BOHR_IN_ANGSTROM
    charges, dipoles, quadrupoles, octupoles = found.atomic
    np.testing.assert_allclose(charges.sum(), 0, atol=1e-3)
    np.testing.assert_allclose(charges @ positions + dipoles.sum(axis=0), found.dipole, atol=2e-3)
    places = points / BOHR_IN_ANGSTROM
    every = (charges, dipoles, quadrupoles, octupoles)
    ladder = [every[: n + 1] for n in range(4)]
    left = [np.std(multipole_potential(places, positions, *some) - found.esp) for some in ladder]
    assert left[0] > 1.5 * left[1] > 1.5**2 * left[2] > 1.5**2 * 1.2 * left[3]


@pytest.mark.parametrize("method", [SMALL, TightBinding()])
def test_forces_are_slopes_of_the_energy(method):
    step = 1e-2  # Å
    moved = {sign: WATER.copy() for sign in (1, -1)}
    for sign, positions in moved.items():
        positions[1, 1] += sign * step
    none = np.array([[9.0, 9.0, 9.0]])
    up, down = (method(water(moved[sign]), none, False).energy for sign in (1, -1))
    slope = (up - down) / (2 * step / BOHR_IN_ANGSTROM)
    force = method(water(), none, True).forces[1, 1]
    assert force == pytest.approx(-slope, abs=1e-3)


def test_ions_and_radicals_have_their_charge():
    none = np.array([[9.0, 9.0, 9.0]])
    ion = Geometry("", "", NUMBERS[:2], WATER[:2], -1)
    assert SMALL(ion, none, False).atomic.charges.sum() == pytest.approx(-1, abs=2e-3)
    radical = SMALL(ion._replace(charge=0), none, False)
    assert radical.atomic.charges.sum() == pytest.approx(0, abs=2e-3)


class Card:
    """What gpu4pyscf does with a field, on the processor: converges it, and gives it back."""

    def __init__(self, field):
        self.field = field

    def kernel(self):
        self.field.kernel()

    def to_cpu(self):
        return self.field.copy()


@pytest.mark.parametrize("charge", [0, 1])
def test_a_card_converges_the_density_and_the_rest_follows(charge, monkeypatch):
    """Of a closed shell, and of a radical."""
    points = np.array([[0.0, 0.0, 4.0]])
    plain = SMALL(water(charge=charge), points, False)
    monkeypatch.setattr(density_functional, "_has_card", lambda: True)
    sent = []
    monkeypatch.setattr(df_jk._DFHF, "to_gpu", lambda field: sent.append(field) or Card(field))
    found = SMALL(water(charge=charge), points, False)
    assert len(sent) == 1
    assert found.energy == pytest.approx(plain.energy, abs=1e-9)
    np.testing.assert_allclose(found.esp, plain.esp, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("charge", [0, 1])
def test_the_card_finds_what_the_processor_finds(charge, monkeypatch, rng):
    pytest.importorskip("gpu4pyscf")
    points = shell_points(NUMBERS, WATER, 100, rng)
    assert density_functional._has_card()
    on_card = SMALL(water(charge=charge), points, True)
    monkeypatch.setattr(density_functional, "_has_card", lambda: False)
    plain = SMALL(water(charge=charge), points, True)
    assert on_card.energy == pytest.approx(plain.energy, abs=2e-6)
    np.testing.assert_allclose(on_card.esp, plain.esp, atol=5e-5)
    np.testing.assert_allclose(on_card.forces, plain.forces, atol=1e-3)


@pytest.mark.parametrize("method", [SMALL])
def test_an_impossible_multiplicity_is_an_error(method):
    with pytest.raises(CalculationError, match="multiplicity of 2"):
        method(water(multiplicity=2), np.ones((1, 3)), False)


# Tight binding


def test_the_cheap_level_is_near_the_other(rng):
    points = shell_points(NUMBERS, WATER, 400, rng)
    cheap, good = TightBinding()(water(), points, False), SMALL(water(), points, False)
    error = np.sqrt(np.mean((cheap.esp - good.esp) ** 2)) * HARTREE_IN_KCAL_PER_MOL
    assert error < 3
    np.testing.assert_allclose(cheap.dipole, good.dipole, atol=0.15)
    assert cheap.atomic.charges.sum() == pytest.approx(0, abs=1e-8)
    traces = np.trace(cheap.atomic.quadrupoles, axis1=1, axis2=2)
    np.testing.assert_allclose(traces, 0, atol=1e-8)
