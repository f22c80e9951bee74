"""Energies of single molecules that do not fit their atoms are set aside."""

import numpy as np
import pytest

from pipeline import ingest
from pipeline.chemistry.arrays import Atoms
from pipeline.inference.energies import free_atom_energies
from pipeline.ingestion.energy_checks import _from_rule
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources

ELEMENTS = np.array([1, 6, 7, 8, 9, 17])


def columns():
    _, _, roles, _ = sample_sources()
    with np.load(roles / "energies_forces_dipoles.npz") as raw:
        return {key: raw[key].copy() for key in ("id", "Z", "R", "E", "N")}


def stored(folder, columns, **declare):
    np.savez(folder / "a.npz", **columns)
    return ingest([folder / "a.npz"], folder / "a.zarr", declare=declare)


@pytest.mark.parametrize("shift", [1.0, -1.0, 15.0])
@pytest.mark.parametrize("declare", [{}, {"unit.E": "hartree"}])
def test_an_energy_beside_the_others_is_set_aside(tmp_path, shift, declare):
    some = columns()
    some["E"][7] += shift
    report = stored(tmp_path, some, **declare)
    assert report.n_quarantined == 1
    reason = next(iter(report.reasons))
    assert ("above" if shift > 0 else "below") in reason


def test_so_is_a_wrong_element(tmp_path):
    some = columns()
    row = int(np.argmax(some["N"]))
    atom = int(np.flatnonzero(some["Z"][row] == 6)[0])
    some["Z"][row, atom] = 7
    report = stored(tmp_path, some)
    assert report.n_quarantined == 1
    assert "an element may be wrong" in next(iter(report.reasons))


def test_energies_of_another_source_count_from_another_zero(tmp_path):
    some = columns()
    few = {key: values[:9].copy() for key, values in some.items()}
    few["E"] -= free_atom_energies(np.arange(1, 19))[few["Z"] - 1].sum(axis=1, where=few["Z"] > 0)
    np.savez(tmp_path / "a.npz", **some)
    np.savez(tmp_path / "b.npz", **few)
    declare = {"unit.E": "hartree"}
    report = ingest([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "a.zarr", declare=declare)
    assert report.n_quarantined == 0
    assert not validate_store(tmp_path / "a.zarr").problems


def made(rng, n):
    numbers = rng.choice(np.append(ELEMENTS, 0), (n, 12), p=[0.4, 0.3, 0.07, 0.1, 0.02, 0.01, 0.1])
    numbers = -np.sort(-numbers, axis=1)
    atoms = Atoms(numbers, rng.normal(size=(n, 12, 3)), numbers > 0)
    return atoms, (numbers[:, :, None] == ELEMENTS).sum(axis=1)


@pytest.mark.parametrize("zero", ["total", "another"])
@pytest.mark.parametrize("seed", range(5))
def test_a_rule_of_any_method_is_found_beside_a_few_wrong_energies(zero, seed):
    """Methods differ by 0.2 % per element; zeros of other kinds by an offset as well."""
    rng = np.random.default_rng(seed)
    atoms, counts = made(rng, 200)
    of_each = free_atom_energies(ELEMENTS) * rng.normal(1.0, 0.002, len(ELEMENTS))
    if zero == "another":
        of_each = rng.normal(0.0, 3.0, len(ELEMENTS))
    charge = rng.choice([0.0, 1.0, -1.0, 2.0], 200, p=[0.7, 0.1, 0.1, 0.1])
    noise = 0.03 * rng.standard_t(5, 200)
    energy = counts @ of_each + 0.2 * charge + 0.15 * charge**2 + noise
    wrong = rng.choice(200, 12, replace=False)
    shifts = rng.choice([-2.0, 2.0, 60.0], 12)
    energy[wrong] += shifts
    if zero == "another":
        energy += 500.0
    apart = _from_rule(atoms, energy, charge)
    assert np.abs(np.delete(apart, wrong)).max() < 0.5
    assert np.abs(apart[wrong] - shifts).max() < 0.5


def test_an_element_of_a_single_molecule_explains_no_total_energy():
    rng = np.random.default_rng(0)
    atoms, counts = made(rng, 60)
    atoms.numbers[atoms.numbers == 17] = 6
    atoms.numbers[4, 0] = 17
    counts = (atoms.numbers[:, :, None] == ELEMENTS).sum(axis=1)
    energy = counts @ free_atom_energies(ELEMENTS) + rng.normal(0.0, 0.02, 60)
    energy[4] += 20.0
    assert _from_rule(atoms, energy, np.zeros(60))[4] > 5.0
