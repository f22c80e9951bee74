"""What is written for GROMACS has the predicted ESP, by its formulas and in its own hands."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.prediction.simulation import write_topology
from store_schema.problems import ConfigError
from tests.dcmnet.prediction.prediction_case import esp_of, points_around
from tests.dcmnet.prediction.test_simulation import BENT, LINEAR, moved, predicted
from tests.molecules import seeds

# kJ nm / (mol e^2), as GROMACS has it, and kJ/mol in a hartree.
COULOMB, HARTREE = 138.935458, 2625.4996394799


def sections(path):
    """The rows of each section of a topology, without comments."""
    found, rows = {}, []
    for line in path.read_text().splitlines():
        text = line.split(";")[0].strip()
        if title := re.fullmatch(r"\[ (\w+) \]", text):
            rows = found.setdefault(title[1], [])
        elif text:
            rows.append(text.split())
    return found


def placed(topology, nuclei):
    """Charges, and positions (nm) by the formulas of GROMACS's manual."""
    charges = np.array([float(row[6]) for row in topology["atoms"]])
    places = np.full((len(charges), 3), np.nan)
    places[: len(nuclei)] = nuclei
    for row in topology.get("virtual_sites2", []):
        site, i, j = (int(word) - 1 for word in row[:3])
        assert row[3] == "1"
        a = float(row[4])
        places[site] = (1 - a) * nuclei[i] + a * nuclei[j]
    for row in topology.get("virtual_sites3", []):
        site, i, j, k = (int(word) - 1 for word in row[:4])
        assert row[4] == "4"
        a, b, c = map(float, row[5:])
        r_ij, r_ik = nuclei[j] - nuclei[i], nuclei[k] - nuclei[i]
        places[site] = nuclei[i] + a * r_ij + b * r_ik + c * np.cross(r_ij, r_ik)
    return charges, places


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from([*BENT, *LINEAR, "Cl"]), seed=seeds)
def test_a_turned_molecule_has_the_predicted_esp(tmp_path_factory, name, seed):
    molecule = predicted(name, total_charge=1.0)
    path = tmp_path_factory.mktemp("itp") / "a.itp"
    write_topology(path, molecule, "ABC")
    topology, move = sections(path), moved(molecule, seed)
    nuclei = molecule.structure.positions
    charges, places = placed(topology, move(nuclei) / 10)
    points = points_around(nuclei)
    error = esp_of(charges, places * 10, move(points)) - molecule.esp(points)
    assert np.abs(error).max() < 1e-6
    assert charges.sum() == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("name", ["CH3OH", "CO2", "Cl"])
def test_every_pair_with_a_site_is_excluded_and_only_those(tmp_path, name):
    molecule = predicted(name)
    write_topology(tmp_path / "a.itp", molecule, title="n2")
    topology = sections(tmp_path / "a.itp")
    n_atoms, n = molecule.structure.n_atoms, len(topology["atoms"])
    excluded = {
        frozenset((int(row[0]), int(other)))
        for row in topology.get("exclusions", [])
        for other in row[1:]
    }
    expected = {frozenset((i, j)) for i in range(n_atoms + 1, n + 1) for j in range(1, i)}
    assert excluded == expected
    types = {row[0] for row in topology["atomtypes"]}
    assert {row[1] for row in topology["atoms"]} == types
    labels = [row[4] for row in topology["atoms"]]
    assert len(set(labels)) == len(labels)


def test_a_name_that_no_topology_can_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="letters and digits"):
        write_topology(tmp_path / "a.itp", predicted("H2O"), "two words")
    assert not (tmp_path / "a.itp").exists()


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["CH3OH", "CO2", "C6H6"])
def test_gromacs_gives_a_probe_the_predicted_potential(tmp_path, name):
    """Half of what a probe of charge +1 has more than one of -1; self-energies are in both."""
    if shutil.which("gmx") is None:
        pytest.skip("GROMACS is not installed")
    molecule = predicted(name)
    nuclei = molecule.structure.positions
    (point,) = points_around(nuclei, n=1)
    write_topology(tmp_path / "a.itp", molecule)
    energies = [energy(tmp_path, molecule, point, charge) for charge in (1, -1)]
    potential = (energies[0] - energies[1]) / 2 / HARTREE
    assert potential == pytest.approx(molecule.esp(point[None])[0], rel=2e-4, abs=2e-6)


def energy(folder, molecule, point, charge):
    """Coulomb energy in kJ/mol of a molecule and a probe, by a step of GROMACS."""
    middle = np.array([6.0, 6.0, 6.0])
    nuclei = molecule.structure.positions / 10 + middle
    sites = np.repeat(nuclei[:1], len(molecule.charges), axis=0)  # it places them itself
    frame = [*nuclei, *sites, point / 10 + middle]
    rows = [
        f"{1:5d}{'MOL':<5}{'X':>5}{i % 100000:5d}" + "".join(f"{x:12.7f}" for x in place)
        for i, place in enumerate(frame, start=1)
    ]
    (folder / "a.gro").write_text(
        "\n".join(["probe", str(len(rows)), *rows, " 12.0 12.0 12.0"]) + "\n"
    )
    (folder / "a.top").write_text(
        "[ defaults ]\n1 2 no 1.0 1.0\n[ atomtypes ]\nPRB 1 1.0 0.0 A 0.1 0.0\n"
        '#include "a.itp"\n'
        f"[ moleculetype ]\nPRB 1\n[ atoms ]\n1 PRB 1 PRB P 1 {charge} 1.0\n"
        "[ system ]\nprobe\n[ molecules ]\nMOL 1\nPRB 1\n"
    )
    (folder / "a.mdp").write_text(
        "integrator = md\nnsteps = 0\ncutoff-scheme = Verlet\ncoulombtype = Cut-off\n"
        "rcoulomb = 5.0\nrvdw = 5.0\nepsilon-rf = 1\npbc = xyz\nnstlog = 1\nnstenergy = 1\n"
    )
    for words in (
        ["grompp", "-f", "a.mdp", "-c", "a.gro", "-p", "a.top", "-o", "a.tpr", "-maxwarn", "9"],
        ["mdrun", "-s", "a.tpr", "-deffnm", "a", "-nt", "1"],
    ):
        ended = subprocess.run(
            ["gmx", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
    log = (folder / "a.log").read_text()
    heads, values = re.search(r"^(.*Coulomb \(SR\).*)\n(.*)$", log, re.MULTILINE).groups()
    names = [heads[i : i + 15].strip() for i in range(0, len(heads), 15)]
    return float(values[15 * names.index("Coulomb (SR)") :][:15])
