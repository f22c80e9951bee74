"""The surface through grid points: closed, facing outward, of the right size."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dcmnet.analysis.figures.geometry import bonds, innermost_shell, surface_triangles
from pipeline.chemistry.radii import van_der_waals_radii
from tests.molecules import named


def on_sphere(rng, n):
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def around(rng, molecule, scale):
    """Returns points on the surface of scaled van der Waals spheres of a molecule."""
    atoms, radii = molecule["positions"], van_der_waals_radii(molecule["atomic_numbers"])
    spheres = zip(atoms, scale * radii, strict=True)
    points = np.concatenate([atom + radius * on_sphere(rng, 120) for atom, radius in spheres])
    distance = np.linalg.norm(points[:, None] - atoms, axis=-1) / radii
    return points[distance.min(axis=1) > scale - 1e-6]


def volume(points, triangles):
    """Returns the volume inside a closed surface, by the divergence theorem."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    return np.einsum("fx,fx->", a, np.cross(b, c)) / 6


@hypothesis.given(st.integers(0, 2**32 - 1), st.floats(0.5, 2.5))
def test_the_surface_of_a_ball_is_closed_and_faces_outward(seed, radius):
    rng = np.random.default_rng(seed)
    points = radius * on_sphere(rng, 400)
    triangles = surface_triangles(points, np.zeros((1, 3)))
    edges = np.sort(np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    _, shared = np.unique(edges, axis=0, return_counts=True)
    assert (shared == 2).all()
    assert len(points) - len(shared) + len(triangles) == 2  # Euler
    assert volume(points, triangles) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)


def test_the_surface_of_a_molecule_holds_its_atoms(rng):
    molecule = named("C2H6", 0)
    points = around(rng, molecule, 1.4)
    triangles = surface_triangles(points, molecule["positions"])
    radii = 1.4 * van_der_waals_radii(molecule["atomic_numbers"])
    assert volume(points, triangles) > 4 / 3 * np.pi * radii.max() ** 3
    corners = points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = corners.mean(axis=1) - molecule["positions"].mean(axis=0)
    assert (np.einsum("fx,fx->f", normal, outward) > 0).mean() > 0.97


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.eye(3)[:2], np.zeros((9, 3))])
def test_points_without_a_volume_have_no_surface(points):
    assert surface_triangles(points, np.zeros((1, 3))).shape == (0, 3)


def test_the_innermost_shell_is_one_shell(rng):
    molecule = named("CH3Cl", 0)
    shells = [around(rng, molecule, scale) for scale in (1.4, 1.6, 1.8, 2.0)]
    inner = innermost_shell(
        molecule["atomic_numbers"], molecule["positions"], np.concatenate(shells)
    )
    assert inner[: len(shells[0])].all()
    assert not inner[len(shells[0]) :].any()


def test_a_grid_without_shells_has_its_nearest_points(rng):
    molecule = named("H2O", 0)
    points = rng.uniform(1.5, 6.0, (500, 1)) * on_sphere(rng, 500)
    inner = innermost_shell(molecule["atomic_numbers"], molecule["positions"], points)
    assert 0.05 < inner.mean() < 0.5


@pytest.mark.parametrize(
    ("name", "n_bonds"), [("CH4", 4), ("C2H6", 7), ("H2O", 2), ("C6H6", 12), ("H2", 1)]
)
def test_bonds_are_those_of_the_formula(name, n_bonds):
    molecule = named(name, 0)
    assert len(bonds(molecule["atomic_numbers"], molecule["positions"])) == n_bonds
