"""Structures from XYZ, SDF, MOL2 and SMILES."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
from ase.data import covalent_radii
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from pipeline.structures import is_smiles, read_structures, smiles_problem
from store_schema.problems import DcmError, SourceError
from tests.hostile import mutate

SMILES = {"CCO": 0, "[NH4+]": 1, "CC(=O)[O-]": -1, "[NH3+]CC(=O)[O-]": 0, "C1=CC=CC=C1": 0}
# As Open Babel writes methylammonium.
MOL2 = """@<TRIPOS>MOLECULE
methylammonium
 8 7 0 0 0
SMALL
GASTEIGER

@<TRIPOS>ATOM
      1 C1   0.0010  0.0020  0.0030 C.3  1 UNL1  {0}
      2 N1   1.5010  0.0000  0.0000 N.4  1 UNL1  {1}
      3 H1  -0.3600  1.0280  0.0000 H    1 UNL1  0.1000
      4 H2  -0.3600 -0.5140  0.8900 H    1 UNL1  0.1000
      5 H3  -0.3600 -0.5140 -0.8900 H    1 UNL1  0.1000
      6 H4   1.8500 -0.9700  0.0000 H    1 UNL1  0.2000
      7 H5   1.8500  0.4850  0.8400 H    1 UNL1  0.2000
      8 H6   1.8500  0.4850 -0.8400 H    1 UNL1  0.2000
@<TRIPOS>BOND
 1 1 2 1
 2 1 3 1
 3 1 4 1
 4 1 5 1
 5 2 6 1
 6 2 7 1
 7 2 8 1
"""


def embedded(smiles, name=""):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
    molecule.SetProp("_Name", name)
    return molecule


def written(path, molecules):
    with Chem.SDWriter(str(path)) as writer:
        for molecule in molecules:
            writer.write(molecule)
    return path


@pytest.mark.parametrize("smiles", SMILES)
def test_a_smiles_has_its_atoms_bonds_and_charge(smiles):
    (geometry,) = read_structures(smiles)
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert geometry.numbers.tolist() == [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    assert (geometry.charge, geometry.multiplicity) == (SMILES[smiles], 1)
    for bond in molecule.GetBonds():
        pair = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
        length = np.linalg.norm(np.subtract(*geometry.positions[pair]))
        assert 0.75 < length / covalent_radii[geometry.numbers[pair]].sum() < 1.25


def test_conformers_differ_and_are_the_same_again():
    first, again = (list(read_structures("CCCCO", 3)) for _ in range(2))
    assert [geometry.name for geometry in first] == [f"CCCCO/{i}" for i in range(3)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    assert np.abs(first[0].positions - first[1].positions).max() > 0.1


def test_a_radical_has_its_multiplicity():
    assert next(read_structures("C[CH2]")).multiplicity == 2


def test_an_sdf_is_read_as_it_stands(tmp_path):
    molecules = [embedded(smiles, f"number {i}") for i, smiles in enumerate(SMILES)]
    found = list(read_structures(written(tmp_path / "a.sdf", molecules)))
    assert [geometry.name for geometry in found] == [f"number {i}" for i in range(len(SMILES))]
    assert [geometry.charge for geometry in found] == list(SMILES.values())
    for geometry, molecule in zip(found, molecules, strict=True):
        expected = molecule.GetConformer().GetPositions()
        np.testing.assert_allclose(geometry.positions, expected, atol=1e-4)


def test_conformers_of_an_sdf_are_of_its_molecule(tmp_path):
    path = written(tmp_path / "a.sdf", [embedded("CCO", "ethanol")])
    found = list(read_structures(path, 2))
    assert [geometry.name for geometry in found] == ["ethanol/0", "ethanol/1"]


def test_a_mol2_has_the_charge_of_its_atoms(tmp_path):
    (tmp_path / "a.mol2").write_text(MOL2.format(-0.1, 0.2) * 2)
    found = list(read_structures(tmp_path / "a.mol2"))
    assert [(g.name, g.charge, len(g.numbers)) for g in found] == [("methylammonium", 1, 8)] * 2
    np.testing.assert_allclose(found[0].positions[1], [1.501, 0, 0])


def test_partial_charges_of_another_sum_are_refused(tmp_path):
    (tmp_path / "a.mol2").write_text(MOL2.format(-0.1, -0.8))
    with pytest.raises(SourceError, match="formal charge"):
        list(read_structures(tmp_path / "a.mol2"))


def test_a_file_of_smiles_has_names_and_leaves_out_remarks(tmp_path):
    (tmp_path / "a.smi").write_text("# remark\nCCO ethyl alcohol\n\nC\n")
    assert [g.name for g in read_structures(tmp_path / "a.smi")] == ["ethyl alcohol", "C"]


def test_a_wrong_record_is_named_and_the_next_is_read(tmp_path):
    (tmp_path / "a.smi").write_text("CCO\nC(C)(C)(C)(C)C\nnonsense\nC\n")
    errors = []
    found = list(read_structures(tmp_path / "a.smi", on_error=errors.append))
    assert [geometry.name for geometry in found] == ["CCO", "C"]
    assert [error.problems[0].place.rsplit(", ")[1] for error in errors] == ["line 2", "line 3"]
    assert "valence" in str(errors[0])
    with pytest.raises(SourceError, match="valence"):
        list(read_structures(tmp_path / "a.smi"))


def test_a_flat_or_bare_record_is_no_structure(tmp_path):
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDepictor.Compute2DCoords(flat)
    for molecule, said in ((flat, "flat"), (Chem.MolFromSmiles("CCO"), "have no place")):
        path = written(tmp_path / "a.sdf", [molecule])
        with pytest.raises(SourceError, match=said):
            list(read_structures(path))


def test_an_xyz_has_a_charge_where_it_says_one(tmp_path):
    (tmp_path / "a.xyz").write_text("1\ncharge=-1\nF 0 0 0\n1\n\nHe 0 0 0\n")
    assert [g.charge for g in read_structures(tmp_path / "a.xyz")] == [-1, None]
    (tmp_path / "a.xyz").write_text("1\ncharge=-0.5\nF 0 0 0\n")
    with pytest.raises(SourceError, match="whole"):
        list(read_structures(tmp_path / "a.xyz"))
    with pytest.raises(SourceError, match="bonds"):
        list(read_structures(tmp_path / "a.xyz", 2))


@pytest.mark.parametrize("smiles", ["O.O", "[Na+].[Cl-]"])
def test_several_molecules_in_a_smiles_have_no_geometry_together(smiles):
    with pytest.raises(SourceError, match="these are 2 molecules"):
        list(read_structures(smiles))


@pytest.mark.parametrize(
    ("text", "reason"), [("C1CC", "unclosed ring"), ("C(C)(C)(C)(C)C", "valence"), ("a.xyz", "")]
)
def test_a_wrong_smiles_is_told_from_another_text(text, reason):
    assert smiles_problem("CCO") is None
    assert reason in smiles_problem(text)
    assert bool(smiles_problem(text)) == bool(reason)


@pytest.mark.parametrize("name", ["none.sdf", "none.xyz", "a/path", "a.pdb", ""])
def test_what_is_neither_a_file_nor_a_smiles_is_refused(name, tmp_path):
    (tmp_path / "a.pdb").write_text("ATOM\n")
    with pytest.raises(SourceError):
        list(read_structures(str(tmp_path / name) if name else name))


def test_smiles_are_known_as_such():
    assert is_smiles("c1ccccc1O")
    assert not any(map(is_smiles, ("molecule.xyz", "nonsense", "")))


def test_molecules_of_a_file_without_names_are_of_no_one_group(tmp_path):
    """Splits keep together what stands before a slash."""
    path = written(tmp_path / "a.sdf", [embedded("CCO"), embedded("C")])
    assert [geometry.name for geometry in read_structures(path)] == ["a#0", "a#1"]
    (tmp_path / "b.xyz").write_text("1\n\nHe 0 0 0\n" * 2)
    assert [geometry.name for geometry in read_structures(tmp_path / "b.xyz")] == ["b#0", "b#1"]


def written_as(name, folder):
    """A file of some molecules in a format."""
    path = folder / f"a.{name}"
    if name == "mol2":
        path.write_text(MOL2.format("0.1000", "0.2000"))
    elif name == "smi":
        path.write_text("".join(f"{smiles} molecule {n}\n" for n, smiles in enumerate(SMILES)))
    elif name == "sdf":
        molecules = [Chem.AddHs(Chem.MolFromSmiles(smiles)) for smiles in SMILES]
        for molecule in molecules:
            rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
        written(path, molecules)
    else:
        (geometry,) = read_structures("CCO")
        ase.io.write(path, ase.Atoms(geometry.numbers, geometry.positions), format="extxyz")
    return path


@pytest.mark.parametrize("name", ["sdf", "mol2", "smi", "xyz"])
def test_a_mutated_file_is_read_or_one_error(name, tmp_path):
    """Flipped bytes, and files cut off: every geometry that comes is finite and has elements."""
    whole = written_as(name, tmp_path)
    for seed in range(300):
        (place := tmp_path / f"{seed}").mkdir()
        path = place / whole.name
        path.write_bytes(whole.read_bytes())
        done = mutate(place, np.random.default_rng(seed))
        try:
            found = list(read_structures(path))
        except DcmError:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}, {done}") from error
        for geometry in found:
            assert np.isfinite(geometry.positions).all(), f"seed {seed}, {done}"
            assert geometry.positions.shape == (len(geometry.numbers), 3)
            assert ((geometry.numbers > 0) & (geometry.numbers < 119)).all(), f"seed {seed}, {done}"


@given(text=st.text(alphabet="CNOFHSclnops()[]=#+-@/\\123%.{}* ", max_size=30))
def test_any_text_for_a_smiles_is_a_molecule_or_one_error(text):
    try:
        found = list(read_structures(text))
    except DcmError:
        return
    assert all(np.isfinite(geometry.positions).all() for geometry in found)
