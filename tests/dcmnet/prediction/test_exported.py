"""An exported model gives the model's charges in a Python that has none of this package."""

import json
import subprocess
import sys
import zipfile

import ase.io
import jax
import numpy as np
import pytest
from ase.data import chemical_symbols

from dcmnet.experiment.directory import load_model
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction import artefact_runner, export_model, predict_arrays
from dcmnet.prediction.artefact_runner import (
    load,
    main,
    padded_pairs,
    pairs_within,
    read_xyz,
    with_total_charge,
)
from dcmnet.pretrained import pretrained_names
from pipeline.inference import lengths
from pipeline.loader import make_batch
from pipeline.structures.xyz import net_charge
from store_schema.problems import ConfigError
from tests.dcmnet.prediction.prediction_case import model, structure, write_frames
from tests.molecules import random_molecule

# Refuses what a machine that only runs the model need not have.
BLOCKED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"dcmnet", "pipeline", "store_schema", "flax", "e3x", "ase",
                                  "orbax", "optax", "grain", "xarray", "zarr", "pandas"}:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Refuse())
"""
PREDICT = """
import json
sys.path.insert(0, sys.argv[1])
from artefact_runner import load
model = load(sys.argv[1])
found = []
for molecule in json.load(open(sys.argv[2])):
    charges, positions = model.predict(*molecule)
    found.append([charges.tolist(), positions.tolist()])
assert not {"dcmnet", "flax", "e3x", "pipeline"} & set(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    """The model, with parameters of numpy as a published one has them."""
    trained = model()
    params = jax.tree.map(np.asarray, trained.params)
    published = TrainedModel(trained.config, params, name="n2", domain=trained.domain)
    return export_model(published, tmp_path_factory.mktemp("exported") / "model.dcmx")


def test_it_runs_without_this_package(artefact, tmp_path):
    """Molecules of several sizes, a lone atom too, in an interpreter of their own."""
    some = [structure("CH3OH"), structure("H2O", -1.0), structure("Cl", -1.0)]
    given = [(s.atomic_numbers.tolist(), s.positions.tolist(), s.total_charge) for s in some]
    (tmp_path / "molecules.json").write_text(json.dumps(given))
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED + PREDICT, artefact, tmp_path / "molecules.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for s, (charges, positions) in zip(some, json.loads(ran.stdout), strict=True):
        expected = predict_arrays(model(), s.atomic_numbers, s.positions, s.total_charge)
        np.testing.assert_allclose(np.ravel(charges), expected.charges, atol=2e-5)
        np.testing.assert_allclose(
            np.reshape(positions, (-1, 3)), expected.charge_positions, atol=2e-5
        )
        assert np.sum(charges) == pytest.approx(s.total_charge, abs=1e-12)


def test_the_file_itself_is_a_program(artefact, tmp_path):
    water = structure("H2O")
    path = without_charge(write_frames(tmp_path / "water.xyz", [water]))
    ran = subprocess.run(
        [sys.executable, artefact, path, "-1"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    printed = np.array([line.split() for line in ran.stdout.splitlines()], float)
    expected = predict_arrays(model(), water.atomic_numbers, water.positions, -1.0)
    np.testing.assert_allclose(printed[:, 3], expected.charges, atol=2e-5)
    np.testing.assert_allclose(printed[:, :3], expected.charge_positions, atol=2e-5)


def test_its_description_tells_what_it_is(artefact):
    with zipfile.ZipFile(artefact) as archive:
        about = json.loads(archive.read("metadata.json"))
    assert about["elements"] == sorted(model().elements)
    assert about["cutoff"] == model().config.cutoff
    assert about["radicals"] is None
    assert about["n_dcm"] == 2
    assert about["symbols"][8] == "O"
    assert set(about["versions"]) == {"dcm-store", "jax", "jaxlib"}


@pytest.mark.parametrize("name", pretrained_names())
def test_a_model_in_the_box_gives_its_charges_from_a_file(name, tmp_path):
    exported = load(export_model(name, tmp_path / "model.dcmx"))
    s = structure("CH3OH")
    charges, positions = exported.predict(s.atomic_numbers, s.positions)
    expected = predict_arrays(load_model(name), s.atomic_numbers, s.positions)
    np.testing.assert_allclose(charges.ravel(), expected.charges, atol=2e-5)
    np.testing.assert_allclose(positions.reshape(-1, 3), expected.charge_positions, atol=2e-5)


def test_conformers_share_one_program(artefact):
    exported, s = load(artefact), structure("CH3CONH2")
    for seed in range(6):
        wiggle = np.random.default_rng(seed).normal(scale=0.05, size=s.positions.shape)
        exported.predict(s.atomic_numbers, s.positions + wiggle)
    assert exported._call._cache_size() <= 2


@pytest.mark.parametrize(
    ("numbers", "positions", "charge", "named"),
    [
        ([], np.zeros((0, 3)), 0.0, "at least one atom"),
        ([8, 1], [[0.0, 0, 0]], 0.0, "shapes"),
        ([300], [[0.0, 0, 0]], 0.0, "from 1 to 118"),
        ([8.5], [[0.0, 0, 0]], 0.0, "whole"),
        ([8], [[np.nan, 0, 0]], 0.0, "finite"),
        ([8], [[0.0, 0, 0]], np.inf, "finite"),
        ([8, 1], [[0.0, 0, 0], [0, 0, 0.01]], 0.0, "apart"),
    ],
)
def test_it_refuses_what_is_no_molecule(artefact, numbers, positions, charge, named):
    with pytest.raises(ValueError, match=named):
        load(artefact).predict(numbers, positions, charge)


def test_it_warns_of_elements_it_has_not_seen(artefact):
    s = structure("SiH4")
    with pytest.warns(UserWarning, match="not seen Si in training"):
        load(artefact).predict(s.atomic_numbers, s.positions)


def test_its_program_says_what_it_assumes_and_has_not_seen(artefact, tmp_path, capsys):
    path = without_charge(write_frames(tmp_path / "silane.xyz", [structure("SiH4")]))
    assert main([str(artefact), str(path)]) == 0
    printed = capsys.readouterr().err
    assert "Warning: the model has not seen Si in training: its charges mean nothing" in printed
    assert "no net charge was given; 0 was assumed" in printed


@pytest.mark.parametrize(
    "comment", ["charge=-1", 'name=OH REF_charge="-1.0"', "Q = -1", "charge=-1 total_charge=-1"]
)
def test_its_program_takes_the_net_charge_of_the_comment(comment, artefact, tmp_path, capsys):
    path = commented(write_frames(tmp_path / "oh.xyz", [structure("OH")]), comment)
    assert main([str(artefact), str(path)]) == 0
    printed = capsys.readouterr()
    charges = [float(line.split()[3]) for line in printed.out.splitlines()]
    assert sum(charges) == pytest.approx(-1, abs=1e-6)
    assert "assumed" not in printed.err
    assert main([str(artefact), str(path), "1"]) == 1
    assert "the net charge is to be 1, but its comment says -1" in capsys.readouterr().err


def columns(path, properties, *rows):
    path.write_text("\n".join(["2", f'Properties={properties} pbc="F F F"', *rows]) + "\n")
    return path


COLUMNS = "species:S:1:pos:R:3:magmoms:R:1:initial_charges:R:1"


@pytest.mark.parametrize(
    ("initial", "given"), [((-0.8, -0.2003), -1.0), ((-0.8, 0.8), None), ((0.4, 0.2), 0.6)]
)
def test_initial_charges_give_a_net_charge(initial, given, tmp_path):
    """As the package reads them."""
    rows = [f"O 0 0 0 0.5 {initial[0]}", f"H 0 0 1.0 0.5 {initial[1]}"]
    path = columns(tmp_path / "oh.xyz", COLUMNS, *rows)
    assert read_xyz(str(path), chemical_symbols)[2] == pytest.approx(given)
    assert net_charge(ase.io.read(path), "oh") == pytest.approx(given)


def test_columns_in_another_order_are_refused(artefact, tmp_path, capsys):
    rows = ["0 0 0 O", "0 0 1 H"]
    path = columns(tmp_path / "oh.xyz", "pos:R:3:species:S:1", *rows)
    assert main([str(artefact), str(path), "-1"]) == 1
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize("comment", ["charge=-1 total_charge=0", "charge=minus"])
def test_its_program_refuses_a_net_charge_that_is_not_clear(comment, artefact, tmp_path):
    path = commented(write_frames(tmp_path / "oh.xyz", [structure("OH")]), comment)
    with pytest.raises(SystemExit, match="its net charge is not clear"):
        main([str(artefact), str(path)])


def without_charge(path):
    return commented(path, "a molecule")


def commented(path, comment):
    """Gives the one frame of an XYZ file another comment line."""
    count, _, *rest = path.read_text().splitlines()
    path.write_text("\n".join([count, comment, *rest, ""]))
    return path


def test_a_model_in_the_box_warns_of_sizes_from_a_file(tmp_path):
    exported = load(export_model("dcm1", tmp_path / "model.dcmx"))
    chain = np.arange(40.0)[:, None] * [1.5, 0, 0]
    with pytest.warns(UserWarning, match="not seen molecules of 40 atoms in training, only of"):
        exported.predict([6] * 40, chain)


def test_a_model_in_the_box_warns_of_net_charges_from_a_file(tmp_path):
    exported = load(export_model("dcm1", tmp_path / "model.dcmx"))
    with pytest.warns(UserWarning, match=r"not seen a net charge of \+2"):
        exported.predict([8], [[0.0, 0.0, 0.0]], 2.0)


def test_its_pairs_are_those_of_the_loader():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        molecule = random_molecule(rng, n, 1)
        batch = make_batch([molecule], cutoff=3.0)
        dst, src, mask = padded_pairs(*pairs_within(molecule["positions"], 3.0), n - 1)
        np.testing.assert_array_equal(dst[mask], batch.pair_dst[batch.pair_mask])
        np.testing.assert_array_equal(src[mask], batch.pair_src[batch.pair_mask])
        assert np.all(np.diff(dst) >= 0)
        assert len(mask) & (len(mask) - 1) == 0


def test_sums_are_exact():
    charges = np.random.default_rng(0).normal(scale=50, size=999).astype(np.float32)
    assert with_total_charge(charges, -2.0).sum() == pytest.approx(-2.0, abs=1e-11)


def test_a_file_is_replaced_only_when_asked(artefact, tmp_path):
    out = tmp_path / "a.dcmx"
    out.write_text("before")
    with pytest.raises(ConfigError, match="a file of this name already"):
        export_model(model(), out)
    assert out.read_text() == "before"


def test_the_program_says_how_it_is_used(capsys):
    assert main(["model"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "charge"),
    [
        ("", "0"),
        ("2\n\nH 0 0 0\n", "0"),
        ("1\n\nXx 0 0 0\n", "0"),
        ("1\n\nH 0 0 nan\n", "0"),
        ("1\n\nH 0 0 0\n", "one"),
        (None, "0"),
    ],
)
def test_the_program_says_what_is_no_molecule(artefact, tmp_path, capsys, text, charge):
    path = tmp_path / "a.xyz"
    if text is not None:
        path.write_text(text)
    assert main([str(artefact), str(path), charge]) == 1
    told = capsys.readouterr()
    assert not told.out
    assert told.err.startswith(f"Error: {path}: ")
    assert told.err.count("\n") == 1


def test_a_radical_is_warned_of_by_a_model_of_closed_shells(artefact):
    exported, hydroxyl = load(artefact), structure("OH")
    exported.predict(hydroxyl.atomic_numbers, hydroxyl.positions, -1.0)
    exported.metadata["radicals"] = False
    exported.predict(hydroxyl.atomic_numbers, hydroxyl.positions, -1.0)
    with pytest.warns(UserWarning, match="odd number of electrons"):
        exported.predict(hydroxyl.atomic_numbers, hydroxyl.positions)


def test_positions_in_bohr_are_refused_as_the_package_does(artefact):
    methanol, exported = structure(), load(artefact)
    exported.predict(methanol.atomic_numbers, methanol.positions)
    with pytest.raises(ValueError, match="times too long: positions must be in angstrom"):
        exported.predict(methanol.atomic_numbers, 1.8897 * methanol.positions)
    assert (artefact_runner._STRETCHED, artefact_runner._DISSOCIATED) == (
        lengths.STRETCHED,
        lengths._DISSOCIATED,
    )
    assert artefact_runner._NOBLE_GASES == lengths.NOBLE_GASES


def test_what_is_no_atomic_number_is_named(artefact):
    with pytest.raises(ValueError, match="0 is a site X"):
        load(artefact).predict([8, 0], [[0, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="expected atomic numbers"):
        load(artefact).predict(["O"], [[0, 0, 0]])
