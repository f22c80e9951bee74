"""What is written for simulations has the predicted ESP, wherever the molecule goes."""

import copy
import functools

import numpy as np
import pytest
from ase.build import molecule as g2_molecule
from ase.collections import g2
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.model.molecule import Structure
from dcmnet.prediction import Predictor
from dcmnet.prediction.simulation import (
    add_virtual_sites,
    dcm_residue,
    read_dcm,
    virtual_sites,
    write_dcm,
    write_force_field,
)
from dcmnet.prediction.simulation.frames import bonds, choose_frames, local_axes
from store_schema.problems import ConfigError, SourceError
from tests.dcmnet.prediction.prediction_case import SEEN, esp_of, model, points_around, structure
from tests.molecules import random_orthogonal, seeds

# hartree/e: ten decimals of an angstrom in text, and single precision of the network.
TOLERANCE = 1e-7
LINEAR = ("CO2", "C2H2", "HCN", "N2", "HF", "F2", "H2")
BENT = ("H2O", "CH3OH", "NH3", "CH4", "C6H6", "CH3CN", "HOCl", "C3H4_C3v", "H2O2", "CH3CONH2")


@functools.cache
def predicted(name, total_charge=0.0):
    return Predictor(model()).predict([structure(name, total_charge)])[0]


def moved(molecule, seed):
    """Returns a function that turns and shifts points as a rigid molecule would be."""
    rng = np.random.default_rng(seed)
    matrix, shift = random_orthogonal(rng, reflect=False), rng.normal(scale=30, size=3)
    return lambda points: points @ matrix.T + shift


@settings(max_examples=30)
@given(name=st.sampled_from(BENT), seed=seeds)
def test_a_dcm_file_placed_into_a_turned_molecule_has_the_predicted_esp(
    tmp_path_factory, name, seed
):
    molecule = predicted(name, total_charge=1.0)
    path = tmp_path_factory.mktemp("dcm") / "a.dcm"
    write_dcm(path, molecule, "ABC")
    (residue,) = read_dcm(path)
    move = moved(molecule, seed)
    positions = molecule.structure.positions
    charges, places = residue.place(move(positions))
    points = points_around(positions)
    error = esp_of(charges, places, move(points)) - molecule.esp(points)
    assert np.abs(error).max() < TOLERANCE
    assert residue.name == "ABC"
    assert charges.sum() == pytest.approx(1.0, abs=1e-7)


def test_the_layout_of_a_dcm_file_is_that_of_charmm(tmp_path):
    """Line by line what the readers of MDCM look for, atoms counted from 1."""
    molecule = predicted("H2O")
    write_dcm(tmp_path / "a.dcm", molecule, "WAT", title="n2, best")
    lines = (tmp_path / "a.dcm").read_text().splitlines()
    words = [line.split("!")[0].split() for line in lines]
    assert words[:5] == [["1", "0"], [], ["WAT"], ["1"], ["2", "1", "3", "BO"]]
    counts = [i for i in range(5, len(lines)) if len(words[i]) == 2]
    assert [lines[i].split()[-1] for i in counts] == ["2", "1", "3"]
    assert [words[i] for i in counts] == [["2", "0"]] * 3
    assert all(len(words[i]) == 4 for i in range(5, 14) if i not in counts)
    assert "n2, best" in lines[2].split("!")[1]


def test_axes_are_those_of_charmm():
    """z along A - B and C - B, y along their product, x = z x y: a left-handed frame."""
    positions = np.array([[0.0, 0, 2], [0, 0, 0], [3, 0, 0]])
    of_ends = [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]
    expected = {0: of_ends, 1: of_ends, 2: [[0, 0, 1], [0, 1, 0], [1, 0, 0]]}
    for atom, axes in expected.items():
        np.testing.assert_allclose(local_axes((0, 1, 2), atom, positions), axes)


@pytest.mark.parametrize("name", [n for n in g2.names if len(g2_molecule(n)) > 2])
def test_every_atom_is_held_by_one_frame_of_near_atoms(name):
    atoms = g2_molecule(name)
    frames = choose_frames(atoms.numbers, atoms.positions)
    if name in LINEAR or not frames:
        axis = atoms.positions - atoms.positions.mean(axis=0)
        assert np.linalg.svd(axis, compute_uv=False)[1] < 1e-3
        return
    owners = sorted(atom for frame in frames for atom in frame.owners)
    assert owners == list(range(len(atoms)))
    for frame in frames:
        assert len(set(frame.atoms)) == 3
        assert frame.owners <= set(frame.atoms)
        axes = local_axes(frame.atoms, frame.atoms[0], atoms.positions)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


def test_frames_follow_bonds():
    methanol = structure("CH3OH")
    bonded = {frozenset(bond) for bond in bonds(methanol.atomic_numbers, methanol.positions)}
    assert len(bonded) == 5
    for frame in choose_frames(methanol.atomic_numbers, methanol.positions):
        a, b, c = frame.atoms
        assert {frozenset((a, b)), frozenset((b, c))} <= bonded


@pytest.mark.parametrize("name", [*LINEAR, "Cl"])
def test_charmm_has_no_frame_for_what_is_linear(tmp_path, name):
    with pytest.raises(SourceError, match="lie on a line"):
        write_dcm(tmp_path / "a.dcm", predicted(name))


@pytest.mark.parametrize("residue", ["", "has space", "TOOLONGNAME", "A!B"])
def test_a_residue_has_a_name_that_charmm_reads(residue):
    with pytest.raises(ConfigError, match="letters and digits"):
        dcm_residue(predicted("H2O"), residue)


@pytest.mark.parametrize("damage", ["", "1 0\n\nMOL\n1\n 2 1 3 BI\n", "1 0\n\nMOL\n2\n", "x"])
def test_a_damaged_dcm_file_is_refused(tmp_path, damage):
    path = tmp_path / "a.dcm"
    path.write_text(damage)
    with pytest.raises(SourceError, match=r"no \.dcm file"):
        read_dcm(path)


def openmm_positions(openmm, system, positions, move, n_new):
    """Returns all positions in Å after OpenMM has placed the virtual sites."""
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    start = np.concatenate([move(positions), np.zeros((n_new, 3))])
    context.setPositions(start / 10)
    context.computeVirtualSites()
    found = context.getState(getPositions=True, getEnergy=True)
    return np.array(found.getPositions(asNumpy=True)) * 10, found


@pytest.mark.parametrize("name", [*BENT, *LINEAR, "Cl"])
def test_openmm_places_the_sites_where_the_charges_are(name):
    openmm = pytest.importorskip("openmm")
    molecule = predicted(name, total_charge=-1.0)
    s, move = molecule.structure, moved(predicted(name), 3)
    system, force = openmm.System(), openmm.NonbondedForce()
    for _ in range(s.n_atoms):
        system.addParticle(12.0)
        force.addParticle(0.5, 0.3, 0.1)
    system.addForce(force)
    added = add_virtual_sites(system, molecule)
    found, _ = openmm_positions(openmm, system, s.positions, move, len(added))
    charges = np.array([force.getParticleParameters(i)[0]._value for i in range(len(found))])
    points = points_around(s.positions)
    error = esp_of(charges, found, move(points)) - molecule.esp(points)
    assert np.abs(error).max() < 1e-6
    assert charges.sum() == pytest.approx(-1.0, abs=1e-9)
    if added:
        assert len(added) == len(molecule.charges)
        np.testing.assert_allclose(found[added], move(molecule.charge_positions), atol=2e-5)


def test_openmm_gives_a_probe_the_predicted_potential():
    """The Coulomb energy of a unit charge is the ESP there; nothing within counts."""
    openmm = pytest.importorskip("openmm")
    molecule = predicted("CH3OH")
    s = molecule.structure
    (point,) = points_around(s.positions, n=1)
    system, force = openmm.System(), openmm.NonbondedForce()
    for mass in [*[12.0] * s.n_atoms, 1.0]:
        system.addParticle(mass)
        force.addParticle(0.0, 0.3, 0.0)
    force.setParticleParameters(s.n_atoms, 1.0, 0.3, 0.0)
    system.addForce(force)
    # The probe comes between the atoms and the sites, so that indices must be right.
    added = add_virtual_sites(system, molecule)
    positions = np.concatenate([s.positions, [point]])
    _, state = openmm_positions(openmm, system, positions, lambda x: x, len(added))
    energy = state.getPotentialEnergy().value_in_unit(openmm.unit.kilojoules_per_mole)
    hartree = 2625.4996394799
    assert energy / hartree == pytest.approx(molecule.esp(point[None])[0], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["H2O", "CH3CONH2", "CO2", "Cl"])
def test_openmm_builds_a_system_from_the_file(tmp_path, name):
    """As users do: ForceField, Modeller with extra particles, createSystem."""
    openmm = pytest.importorskip("openmm")
    from openmm import app, unit

    molecule = predicted(name, total_charge=0.0)
    s = molecule.structure
    write_force_field(tmp_path / "a.xml", molecule, "MOL", title="a -- b")
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [
        topology.addAtom(f"A{i}", app.Element.getByAtomicNumber(int(z)), residue)
        for i, z in enumerate(s.atomic_numbers)
    ]
    for first, second in bonds(s.atomic_numbers, s.positions):
        topology.addBond(atoms[first], atoms[second])
    field = app.ForceField(str(tmp_path / "a.xml"))
    modeller = app.Modeller(topology, s.positions / 10 * unit.nanometer)
    modeller.addExtraParticles(field)
    system = field.createSystem(modeller.topology)
    (force,) = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    start = np.array(modeller.positions.value_in_unit(unit.angstrom))
    found, _ = openmm_positions(openmm, system, start, lambda x: x, 0)
    charges = np.array([force.getParticleParameters(i)[0]._value for i in range(len(found))])
    points = points_around(s.positions)
    assert np.abs(esp_of(charges, found, points) - molecule.esp(points)).max() < 1e-6


def test_a_charge_off_the_axis_of_a_linear_molecule_is_refused():
    molecule = copy.deepcopy(predicted("CO2"))
    molecule.charge_positions[0] += [0.1, 0.1, 0.0]
    with pytest.raises(SourceError, match="of this linear molecule"):
        virtual_sites(molecule)


def test_openmm_needs_one_force_for_charges():
    openmm = pytest.importorskip("openmm")
    with pytest.raises(ConfigError, match="0 forces of the kind NonbondedForce"):
        add_virtual_sites(openmm.System(), predicted("H2O"))


def test_a_molecule_of_many_atoms_has_frames():
    """A chain of 300 atoms: no frame is across it."""
    chain = np.array([[1.3 * i, 0.8 * (i % 2), 0.3 * (i % 3)] for i in range(300)])
    frames = choose_frames(np.full(300, 6), chain)
    assert all(np.ptp(frame.atoms) < 5 for frame in frames)


def test_the_structures_here_were_seen():
    assert {int(z) for name in BENT for z in structure(name).atomic_numbers} <= SEEN
    assert isinstance(structure("H2O"), Structure)
