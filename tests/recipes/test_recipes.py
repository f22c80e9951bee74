"""The recipes of the models in the box: nothing held out is seen, and nothing made is lost."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import natural_cutoffs
from rdkit import Chem
from scipy.sparse.csgraph import connected_components

from dcmnet.experiment.directory import load_model
from dcmnet.train_runner import run_training
from pipeline.reference.run import reference
from recipes.dimers import dimer_of
from recipes.held_out import is_held_out, is_held_out_row
from recipes.infrared import spectrum
from recipes.parts import pack, unpack, unpacked
from recipes.species import fragments, heavier, ions

RECIPES = Path(__file__).parents[2] / "recipes"
PARTS = sorted((RECIPES / "reference").glob("*.npz"))


def test_the_rule_is_that_of_the_hash_of_the_canonical_smiles():
    """Three of ten molecules, however their SMILES is written."""
    assert is_held_out("OCC") == is_held_out("C(C)O") == is_held_out("CCO")
    digest = int(hashlib.sha1(b"CCO").hexdigest(), 16)
    assert is_held_out("CCO") == (digest % 10 in (0, 1, 2))
    chains = ["C" * n for n in range(1, 400)]
    assert 0.2 < np.mean([is_held_out(smiles) for smiles in chains]) < 0.4
    with pytest.raises(ValueError, match="no SMILES"):
        is_held_out("C(")
    assert [row for row in range(4000) if is_held_out_row(row)] == [700, 2200, 3700]


def test_species_are_sound_balanced_and_none_is_held_out():
    neutral = list(fragments())
    charged = list(ions(neutral[:500]))
    substituted = list(heavier(["CCO", "CF", "CCC(N)=O", "COC"]))
    for smiles in [*neutral[::20], *charged[::10], *substituted]:
        assert not is_held_out(smiles)
        assert Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) == smiles
    charges = [Chem.GetFormalCharge(Chem.MolFromSmiles(smiles)) for smiles in charged]
    assert set(charges) == {-1, 1}
    assert 0.3 < np.mean(np.array(charges) > 0) < 0.7
    assert all("S" in smiles or "Cl" in smiles for smiles in substituted)


@pytest.mark.parametrize("is_stretched", [False, True])
@pytest.mark.parametrize("pair", [("O", "O"), ("CO", "[NH4+]"), ("C[O-]", "O"), ("NC=O", "CS")])
def test_dimers_are_two_molecules_with_a_hydrogen_bond(rng, pair, is_stretched):
    dimer = next(filter(None, (dimer_of(*pair, rng, is_stretched=is_stretched) for _ in range(9))))
    molecule = Chem.AddHs(Chem.MolFromSmiles(".".join(pair)))
    assert sorted(dimer.numbers) == sorted(atom.GetAtomicNum() for atom in molecule.GetAtoms())
    assert dimer.info["charge"] == Chem.GetFormalCharge(molecule)
    _, found = connected_components(bonds_of(dimer))
    assert np.unique(found).size == 2
    between = dimer.get_all_distances()[np.ix_(found == 0, found == 1)]
    assert 1.3 < between.min() < 3.3


def test_molecules_that_do_not_react_or_bond_make_no_dimer(rng):
    assert dimer_of("C", "C", rng, is_stretched=False) is None


def bonds_of(molecule):
    """Returns the matrix of covalent bonds."""
    radii = np.array(natural_cutoffs(molecule, 1.2))
    return molecule.get_all_distances() < radii[:, None] + radii


def test_what_was_calculated_comes_back_with_its_grid(tmp_path):
    """Kept without the grid, which its seed makes again."""
    frames = tmp_path / "frames.xyz"
    frames.write_text("2\ncharge=-1 name=hydroxide/0\nO 0 0 0\nH 0 0 0.97\n")
    folder = tmp_path / "kept"
    level, out = "xtb", tmp_path / "calculated.npz"
    kept = _keep_parts(frames, out, level, folder)
    assert pack(folder, tmp_path / "000.npz", level) == 1
    (found,) = unpacked(tmp_path / "000.npz")
    np.testing.assert_allclose(found["vdw_surface"], kept["vdw_surface"], atol=1e-12)
    np.testing.assert_allclose(found["esp"], kept["esp"], atol=1e-7)
    assert unpack([tmp_path / "000.npz"], tmp_path / "again.npz") == 1
    again = np.load(tmp_path / "again.npz")
    assert again["total_charge"].tolist() == [-1]
    with pytest.raises(ValueError, match="no calculation that"):
        pack(folder, tmp_path / "more.npz", level)
    changed = dict(np.load(tmp_path / "000.npz"))
    np.savez(tmp_path / "001.npz", **{**changed, "R": changed["R"] + 0.1})
    with pytest.raises(ValueError, match="grid of hydroxide/0"):
        list(unpacked(tmp_path / "001.npz"))


def _keep_parts(frames, out, level, folder):
    """Calculates, and keeps what is thrown away once all is done."""
    reference([frames], out, level=level, n_points=60, workers=1)
    raw = dict(np.load(out))
    folder.mkdir()
    one = {key: values[0] for key, values in raw.items() if values.ndim}
    np.savez(folder / "one.npz", **one)
    return one


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.name)
def test_parts_in_the_repository_hold_nothing_that_is_held_out(path):
    raw = np.load(path)
    assert not any(is_held_out(str(name).rpartition("/")[0]) for name in raw["id"])
    first = next(unpacked(path))
    assert np.isfinite(first["esp"]).all()
    assert path.stat().st_size < 10 * 2**20


@pytest.mark.slow
def test_a_model_trained_on_displaced_geometries_has_the_bands_of_the_reference(tmp_path):
    """Of water; docs/training.md has methanol's."""
    pytest.importorskip("pyscf")
    store = tmp_path / "own.zarr"
    reference(
        ["O"], store, level="PBE0/def2-SVP", n_points=400, conformers=60, displace=0.1, workers=1
    )
    weights = {"dipole_w": 10.0, "learning_rate": 2e-3, "num_epochs": 600}
    run_training("own", store, out=str(tmp_path), preset="finetune", init_from="dcm2", **weights)
    found = spectrum(load_model(tmp_path / "own"), "H2O")
    np.testing.assert_allclose(found.wavenumbers, [1643, 3866, 3966], atol=30)
    np.testing.assert_allclose(found.model, found.reference, rtol=0.25)
