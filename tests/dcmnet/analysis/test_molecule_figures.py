"""Pictures of molecules: no padding in them, one scale for what is compared, no mirror images."""

import hypothesis
import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st

from dcmnet.analysis.figures import geometry as molecule_geometry
from dcmnet.analysis.figures.molecules import batch_figure, charges_figure, surface_figure
from pipeline import make_loader
from tests.molecules import random_molecule

ROWS = {0: 13, -1: 110, 1: 100}  # total charge: a molecule of the sample that has it


@pytest.fixture(scope="module")
def molecules(sample_store):
    with xr.open_zarr(sample_store) as dataset:
        return dataset.load()


@pytest.fixture(params=ROWS.items(), ids=str)
def molecule(request, molecules):
    charge, row = request.param
    found = molecules.isel(molecule=row)
    assert float(found["total_charge"]) == charge
    return found


def pixels(figure, path):
    figure.savefig(path)
    return matplotlib.image.imread(path)[..., :3]


def test_a_prediction_is_drawn_on_the_scale_of_its_reference(molecule, tmp_path):
    figure = surface_figure(molecule, 1.5 * molecule["esp"])
    reference, predicted, error = (ax.collections[0] for ax in figure.axes[:3])
    assert reference.norm is predicted.norm
    assert error.norm is not reference.norm
    np.testing.assert_allclose(predicted.get_array(), 1.5 * reference.get_array(), rtol=1e-5)
    np.testing.assert_allclose(error.get_array(), 0.5 * reference.get_array(), rtol=1e-5)
    assert np.isfinite(reference.get_array()).all()
    assert pixels(figure, tmp_path / "a.png").std() > 0.05


def test_padding_is_not_drawn(molecule, tmp_path):
    cut = molecule.isel(
        atom=slice(int(molecule["n_atoms"])), grid_point=slice(int(molecule["n_grid"]))
    )
    np.testing.assert_array_equal(
        pixels(surface_figure(molecule), tmp_path / "a.png"),
        pixels(surface_figure(cut), tmp_path / "b.png"),
    )


def test_every_charge_is_drawn_and_area_tells_its_size(molecule, rng):
    n_atoms = int(molecule["n_atoms"])
    charges = rng.normal(size=(n_atoms, 3)).astype(np.float32)
    places = molecule["positions"].values[:n_atoms, None] + np.zeros((1, 3, 1), np.float32)
    ax = charges_figure(molecule, charges, places).axes[0]
    drawn = ax.collections[-1]
    assert len(drawn.get_sizes()) == charges.size
    order = np.argsort(np.abs(charges.ravel()))
    assert (np.diff(drawn.get_sizes()[order]) >= 0).all()
    np.testing.assert_array_equal(drawn.get_array(), charges.ravel())


def test_a_batch_shows_its_masks(sample_store):
    batch = next(iter(make_loader(sample_store, batch_size=4)))
    for ax, mask in zip(batch_figure(batch).axes, (batch.atom_mask, batch.grid_mask), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), mask)


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_a_view_is_a_rotation(seed, n_atoms):
    """Distances stay, and so does handedness: a molecule is not drawn as its mirror image."""
    rng = np.random.default_rng(seed)
    molecule = random_molecule(rng, n_atoms, 6)
    atoms, points = molecule["positions"], molecule["vdw_surface"]
    turned_atoms, turned_points = molecule_geometry.from_above(atoms, points)
    before, after = points - points[0], turned_points - turned_points[0]
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-9)
    handedness = np.linalg.det(before[1:4])
    assert np.linalg.det(after[1:4]) == pytest.approx(handedness, abs=1e-6)
    between = np.linalg.norm(turned_points[:, None] - turned_atoms, axis=-1)
    np.testing.assert_allclose(between, np.linalg.norm(points[:, None] - atoms, axis=-1), atol=1e-9)
