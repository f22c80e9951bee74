"""Files of predictions: their charges make the predicted ESP, and they are whole or absent."""

import ase.io
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from dcmnet.prediction import Predictor, open_structures, predict_file, run
from dcmnet.prediction.charges import potential_matrix
from store_schema.problems import ConfigError, SourceError, StoreError
from tests.dcmnet.prediction.prediction_case import (
    esp_of,
    model,
    points_around,
    structure,
    structures,
    write_frames,
)

# hartree/e. Charges and positions have eight decimals in text; in binary files nothing is
# lost, and ASE's bohr differs in its tenth digit.
TOLERANCE = {".xyz": 1e-6, ".npz": 1e-8, ".nc": 1e-8}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("frames") / "some.xyz", structures(20, seed=5))


def read_back(path):
    """Yields name, numbers, charges and their positions of each molecule of a file."""
    if path.suffix == ".xyz":
        for atoms in ase.io.iread(path, index=":"):
            site = atoms.numbers == 0
            assert not atoms.get_initial_charges()[~site].any()
            yield (
                atoms.info["molecule_id"],
                atoms.numbers[~site],
                atoms.get_initial_charges()[site],
                atoms.positions[site],
            )
        return
    if path.suffix == ".npz":
        with np.load(path) as file:
            data = dict(file)
    else:
        with xr.open_dataset(path) as dataset:
            data = {name: dataset[name].values for name in dataset.variables}
            assert dataset["charge_positions"].attrs["units"] == "angstrom"
            assert dataset["charges"].dims == ("molecule", "atom", "dcm")
            assert dataset.attrs["model"] == "n2"
    for row, n in enumerate(data["n_atoms"]):
        yield (
            str(data["molecule_id"][row]),
            data["atomic_numbers"][row, :n],
            data["charges"][row, :n].ravel(),
            data["charge_positions"][row, :n].reshape(-1, 3),
        )


@pytest.mark.parametrize("suffix", TOLERANCE)
def test_the_esp_of_a_file_is_the_predicted_one(frames, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    report = predict_file(model(), frames, out)
    source = open_structures(frames)
    predictor = Predictor(model())
    predicted = list(predictor.run(source, predictor.survey(source)))
    found = list(read_back(out))
    assert report.n_molecules == len(found) == len(predicted) == 20
    for molecule, (name, numbers, charges, positions) in zip(predicted, found, strict=True):
        assert name == molecule.structure.name
        np.testing.assert_array_equal(numbers, molecule.structure.atomic_numbers)
        points = points_around(molecule.structure.positions)
        error = esp_of(charges, positions, points) - molecule.esp(points)
        assert np.abs(error).max() < TOLERANCE[suffix]
        assert charges.sum() == pytest.approx(molecule.structure.total_charge, abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]


def test_the_monopoles_and_dipoles_of_a_file_follow_from_its_charges(frames, tmp_path):
    predict_file(model(), frames, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as file:
        charges, positions = file["charges"], file["charge_positions"]
        monopoles = charges.sum("dcm", min_count=1)
        np.testing.assert_allclose(file["monopoles_predicted"], monopoles, atol=1e-12)
        dipole = (charges * positions).sum(("atom", "dcm"))
        np.testing.assert_allclose(file["dipole_predicted"], dipole, atol=1e-12)
        np.testing.assert_allclose(charges.sum(("atom", "dcm")), file["total_charge"], atol=1e-12)


def test_the_esp_of_a_molecule_is_a_sum_in_blocks(monkeypatch):
    (molecule,) = Predictor(model()).predict([structure()])
    points = points_around(molecule.structure.positions, n=57)
    expected = esp_of(molecule.charges, molecule.charge_positions, points)
    monkeypatch.setattr("dcmnet.prediction.charges._DISTANCES", 100)
    np.testing.assert_allclose(molecule.esp(points), expected, rtol=1e-8)
    assert molecule.esp(np.zeros((0, 3))).shape == (0,)
    assert potential_matrix(points, molecule.charge_positions).shape == (57, 12)


@pytest.mark.parametrize("suffix", [*TOLERANCE, ".dcm"])
def test_a_failure_leaves_no_half_file(frames, tmp_path, monkeypatch, suffix):
    def failing(*_):
        raise SourceError.of("x", wrong="", consequence="", remedy="")
        yield

    monkeypatch.setattr(run, "_counted", failing)
    with pytest.raises(SourceError):
        predict_file(model(), frames, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_what_was_to_be_replaced(tmp_path):
    out = tmp_path / "a.xyz"
    out.write_text("before")
    bad = tmp_path / "bad.xyz"
    bad.write_text("1\n\nO 0 0 nan\n")
    with pytest.raises(SourceError):
        predict_file(model(), bad, out, overwrite=True)
    assert out.read_text() == "before"


def test_a_file_is_replaced_only_when_asked(frames, tmp_path):
    out = tmp_path / "a.xyz"
    out.write_text("before")
    with pytest.raises(ConfigError, match="a file of this name already"):
        predict_file(model(), frames, out)
    assert out.read_text() == "before"
    predict_file(model(), frames, out, overwrite=True)
    assert len(list(read_back(out))) == 20
    folder = tmp_path / "folder.xyz"
    folder.mkdir()
    with pytest.raises(ConfigError, match="a folder"):
        predict_file(model(), frames, folder, overwrite=True)


def test_the_input_is_never_replaced(frames):
    before = frames.read_text()
    with pytest.raises(ConfigError, match="the input itself"):
        predict_file(model(), frames, frames.parent / "." / frames.name, overwrite=True)
    assert frames.read_text() == before


@pytest.mark.parametrize("name", ["a.pdb", "a", "a.zarr"])
def test_a_format_that_is_none_is_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.xyz.*\.nc.*\.dcm"):
        predict_file(tmp_path / "no_experiment", tmp_path / "no.xyz", tmp_path / name)


def test_the_bundled_sample_refined_against_its_esp(sample_store, tmp_path):
    report = predict_file(
        model(), sample_store, tmp_path / "a.npz", refine=True, console=Console(quiet=True)
    )
    assert len(report.rmse_after) == report.n_molecules
    assert np.all(np.array(report.rmse_after) <= np.array(report.rmse_before))


def test_refining_needs_an_esp(frames, tmp_path):
    with pytest.raises(SourceError, match="no reference ESP"):
        predict_file(model(), frames, tmp_path / "a.npz", refine=True)
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_none_is_refused(tmp_path):
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError):
        predict_file(model(), tmp_path / "s.zarr", tmp_path / "a.xyz")


def test_points_are_rows_of_places():
    (molecule,) = Predictor(model()).predict([structure()])
    point = [0.0, 0.0, 9.0]
    np.testing.assert_array_equal(molecule.esp([point]), molecule.esp(np.array([point])))
    with pytest.raises(SourceError, match=r"\(3,\), not \(points, 3\)"):
        molecule.esp(point)


@pytest.mark.parametrize("source", ["some.xyz", "CCO"])
def test_a_declaration_that_nothing_takes_is_refused(frames, source, monkeypatch):
    monkeypatch.chdir(frames.parent)
    with pytest.raises(ConfigError, match=f"nothing is inferred of {source}"):
        open_structures(source, declare={"unit.positions": "bohr"})
