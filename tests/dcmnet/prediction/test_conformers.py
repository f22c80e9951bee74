"""Charges fixed in local frames as the molecule moves: joint refinement, and drift."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from dcmnet.cli import app
from dcmnet.experiment.directory import load_model
from dcmnet.model.molecule import Structure
from dcmnet.prediction.predict import Predictor
from dcmnet.prediction.run import predict_file
from dcmnet.prediction.simulation.charmm import dcm_residue
from dcmnet.prediction.simulation.conformers import (
    Target,
    esp_rmse,
    predicted_target,
    refine_jointly,
)
from dcmnet.prediction.simulation.drift import BENDS, STRETCHES, distorted, drift
from dcmnet.prediction.simulation.sites import place_sites, virtual_sites
from store_schema.problems import ConfigError, SourceError

WATER = "3\ncharge=0\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_model("dcm2"))


def embedded(smiles, count):
    chemistry = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = chemistry.AddHs(chemistry.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(molecule, count, randomSeed=4)
    numbers = np.array([a.GetAtomicNum() for a in molecule.GetAtoms()], np.int64)
    charge = float(chemistry.GetFormalCharge(molecule))
    return [
        Structure(f"{smiles}#{i}", f"{smiles}#{i}", numbers, one.GetPositions(), charge)
        for i, one in enumerate(molecule.GetConformers())
    ]


@pytest.fixture(scope="module", params=["OCCO", "C[NH2+]CC=O", "C#CCO", "O"])
def conformers(request, predictor):
    return predictor.predict(embedded(request.param, 4))


def test_one_set_is_never_worse_than_that_of_any_conformer(conformers):
    joint = refine_jointly(conformers)
    assert joint.errors.mean() <= joint.single.mean(axis=1).min()
    assert joint.single.shape == (len(conformers), len(conformers))
    np.testing.assert_allclose(np.diag(joint.single), 0, atol=1e-6)


def test_the_sum_is_exact_and_what_is_written_is_what_was_fitted(conformers):
    joint = refine_jointly(conformers)
    charge = conformers[0].structure.total_charge
    assert abs(joint.molecule.charges.sum() - charge) < 1e-12
    sites = virtual_sites(joint.molecule)
    for error, conformer in zip(joint.errors, conformers, strict=True):
        again = esp_rmse(sites, conformer.structure.positions, predicted_target(conformer))
        assert again == pytest.approx(error, abs=1e-6)


def test_conformers_that_turn_gain_much(predictor):
    joint = refine_jointly(predictor.predict(embedded("OCCO", 5)))
    assert joint.errors.mean() < 0.6 * joint.single.mean(axis=1).min()


def test_charges_that_move_rigidly_are_found_again(predictor, rng):
    """Targets made by one set of frame charges are explained by it, whatever the start."""
    structures = embedded("OCCO", 4)
    predicted = predictor.predict(structures)
    truth = virtual_sites(predicted[0])
    charges = np.array([site.charge for site in truth])
    targets = []
    for one in predicted:
        points = predicted_target(one).points
        moved = replace(
            one, charges=charges, charge_positions=place_sites(truth, one.structure.positions)
        )
        targets.append(Target(points, moved.esp(points)))
    joint = refine_jointly(predicted, targets)
    assert joint.errors.max() < 1e-6  # the first conformer's own set is among the candidates
    joint = refine_jointly(predicted[1:], targets[1:])
    assert joint.errors.mean() < 0.1 * joint.single.mean()


def test_other_molecules_and_lines_are_refused(predictor):
    first, *_ = predictor.predict(embedded("OCCO", 1))
    other, *_ = predictor.predict(embedded("CCO", 1))
    with pytest.raises(SourceError, match="another molecule"):
        refine_jointly([first, other])
    water = embedded("O", 1)[0]
    flat = replace(water, positions=np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.96, 0, 0]]))
    with pytest.raises(SourceError, match="on a line"):
        refine_jointly(predictor.predict([water, flat]))


def frames(structures, path):
    lines = []
    for one in structures:
        lines += [f"{one.n_atoms}", f"name={one.name.replace('#', '-')} charge=0"]
        symbols = {1: "H", 6: "C", 8: "O"}
        lines += [
            f"{symbols[z]} {x:.8f} {y:.8f} {w:.8f}"
            for z, (x, y, w) in zip(one.atomic_numbers.tolist(), one.positions, strict=True)
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["xml", "dcm", "itp"])
def test_conformers_become_one_file(suffix, tmp_path):
    source = frames(embedded("OCCO", 3), tmp_path / "glycol.xyz")
    out = tmp_path / f"glycol.{suffix}"
    said = CliRunner().invoke(app, ["predict", str(source), "--out", str(out)])
    assert said.exit_code == 0, said.output
    assert out.stat().st_size > 1000
    assert "charges written" in said.output
    with pytest.raises(ConfigError, match="at most 100"):
        predict_file("dcm2", frames(embedded("O", 1) * 101, tmp_path / "w.xyz"), tmp_path / "w.xml")
    assert not (tmp_path / "w.xml").exists()


@pytest.mark.parametrize("smiles", ["OCCO", "C[NH2+]CC=O", "O", "C#CCO"])
def test_frames_of_charmm_and_openmm_carry_charges_alike(smiles, predictor, rng):
    structure, *_ = embedded(smiles, 1)
    molecule, *_ = predictor.predict([structure])
    shaken = structure.positions + rng.normal(scale=0.05, size=structure.positions.shape)
    sites, residue = virtual_sites(molecule), dcm_residue(molecule)
    charges, places = residue.place(shaken)
    ours = place_sites(sites, shaken)
    order = np.lexsort(np.round(ours, 6).T), np.lexsort(np.round(places, 6).T)
    np.testing.assert_allclose(ours[order[0]], places[order[1]], atol=1e-5)
    own = np.array([site.charge for site in sites])
    np.testing.assert_allclose(own[order[0]], charges[order[1]], atol=1e-5)


def test_turning_the_molecule_as_a_whole_costs_nothing(predictor, rng):
    structure, *_ = embedded("OCCO", 1)
    turned = [
        replace(structure, positions=Rotation.random(rng=rng).apply(structure.positions) + 3.0)
        for _ in range(3)
    ]
    found = drift(predictor, structure, turned)
    assert [one.by for one in found] == [1, 2, 3]
    assert max(one.rmse for one in found) < 1e-3
    assert min(one.size for one in found) > 5


def test_drift_grows_with_the_step(predictor):
    structure, *_ = embedded("OCCO", 1)
    found = drift(predictor, structure, [])
    mean = {
        (kind, by): np.mean([m.rmse for m in found if (m.kind, abs(m.by)) == (kind, by)])
        for kind, by in {(m.kind, abs(m.by)) for m in found}
    }
    assert mean["bend", 5.0] < mean["bend", 10.0] < 3 * mean["bend", 5.0]
    assert mean["turn", 30.0] < mean["turn", 60.0]
    assert 0 < mean["stretch", 0.05] < 1


@pytest.mark.parametrize("smiles", ["OCCO", "O", "C1CCCCC1O", "CC#CC"])
def test_distortions_are_what_they_say(smiles):
    structure, *_ = embedded(smiles, 1)
    before = structure.positions

    def angle(positions, a, b, c):
        arms = positions[a] - positions[b], positions[c] - positions[b]
        cosine = arms[0] @ arms[1] / np.prod(np.linalg.norm(arms, axis=1))
        return np.degrees(np.arccos(cosine))

    kinds = set()
    for one in distorted(structure):
        after = one.structure.positions
        kinds.add(one.kind)
        if one.kind == "stretch":
            a, b = one.atoms
            change = np.linalg.norm(after[a] - after[b]) - np.linalg.norm(before[a] - before[b])
            assert change == pytest.approx(one.by)
            assert one.by in STRETCHES
        elif one.kind == "bend":
            change = angle(after, *one.atoms) - angle(before, *one.atoms)
            assert change == pytest.approx(one.by, abs=1e-6)
            assert one.by in BENDS
        else:
            a, b = one.atoms
            np.testing.assert_allclose(after[[a, b]], before[[a, b]], atol=1e-9)
    assert kinds >= {"stretch", "bend"}
    assert ("turn" in kinds) == (smiles in ("OCCO", "C1CCCCC1O"))


def test_the_command_says_what_moving_costs(tmp_path):
    source = frames(embedded("OCCO", 2), tmp_path / "glycol.xyz")
    said = CliRunner().invoke(app, ["drift", str(source), "--out", str(tmp_path / "d.csv")])
    assert said.exit_code == 0, said.output
    assert "frames of the file" in said.output
    assert pd.read_csv(tmp_path / "d.csv")["rmse"].iloc[0] > 0.1
    mixed = frames([*embedded("OCCO", 1), *embedded("O", 1)], tmp_path / "mixed.xyz")
    refused = CliRunner().invoke(app, ["drift", str(mixed)])
    assert isinstance(refused.exception, SourceError)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "no molecules in it"),
        ("1\ncharge=-1\nCl 0 0 0\n", "no bond, angle or torsion"),
        (WATER + WATER.replace("charge=0", "charge=1"), "net charges"),
        (
            WATER + WATER.replace("0.76 -0.48", "0.96 0.12").replace("-0.76 -0.48", "-0.96 0.12"),
            "on a line",
        ),
        (WATER + WATER.replace("-0.76 -0.48", "-7.6 -4.8"), "bonded in one of them only"),
    ],
)
def test_what_cannot_be_judged_is_refused(lines, said, tmp_path):
    (tmp_path / "a.xyz").write_text(lines)
    refused = CliRunner().invoke(app, ["drift", str(tmp_path / "a.xyz")])
    assert isinstance(refused.exception, SourceError)
    assert said in str(refused.exception)


def test_a_table_takes_the_place_of_no_other_file(tmp_path):
    (tmp_path / "a.xyz").write_text(WATER)
    for out in ("a.xyz", "a.csv"):
        (tmp_path / "a.csv").write_text("mine\n")
        arguments = ["drift", str(tmp_path / "a.xyz"), "--out", str(tmp_path / out)]
        refused = CliRunner().invoke(app, arguments)
        assert isinstance(refused.exception, ConfigError)
    assert (tmp_path / "a.xyz").read_text() == WATER
    assert (tmp_path / "a.csv").read_text() == "mine\n"
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    assert (tmp_path / "a.csv").read_text().startswith("kind,by")


def test_relabelled_conformers_are_refused(predictor):
    """Hydrogens of OH and CH exchanged: the same elements in a row, other bonds."""
    one, two, *_ = embedded("OCCO", 2)
    order = np.arange(10)
    order[[4, 5]] = order[[5, 4]]
    swapped = replace(two, positions=two.positions[order])
    with pytest.raises(SourceError, match="bonded in one of them only"):
        refine_jointly(predictor.predict([one, swapped]))


def test_a_lone_ion_is_sure_of_nothing(predictor):
    chloride = Structure("Cl", "Cl", np.array([17]), np.zeros((1, 3)), -1.0)
    (molecule,) = predictor.predict([chloride])
    assert molecule.uncertainty is None
