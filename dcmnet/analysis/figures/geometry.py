"""The shape of a molecule for pictures: its bonds, and a surface through its grid points."""

from __future__ import annotations

import ase.data
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy.spatial import Delaunay, QhullError

from pipeline.chemistry.radii import van_der_waals_radii
from store_schema.names import ATOM, GRID_POINT

# Atoms closer than this times the sum of their covalent radii are drawn as bonded.
_BOND_TOLERANCE = 1.3
# Grids are made of shells at multiples of the van der Waals radii, a fifth of it apart.
# One that is not has this share of its points drawn instead.
_SHELL_WIDTH, _LEAST_SHARE, _SHARE = 0.1, 0.08, 0.35
# Radius, angstrom, of the ball that rolls over the points: wider than the gaps between
# them, narrower than the clefts of a molecule that one wants to see.
_BALL = 3.0


def without_padding(molecule: xr.Dataset) -> xr.Dataset:
    """Returns one molecule of a store with the atoms and grid points that are its own."""
    counts = {ATOM: "n_atoms", GRID_POINT: "n_grid"}
    return molecule.isel(
        {dim: slice(int(molecule[count])) for dim, count in counts.items() if dim in molecule.dims}
    )


def bonds(
    numbers: Int[np.ndarray, " A"], positions: Float[np.ndarray, "A 3"]
) -> Int[np.ndarray, "bond 2"]:
    """Returns the pairs of atoms that are drawn as bonded.

    Args:
        numbers: Atomic numbers.
        positions: angstrom.
    """
    radii = ase.data.covalent_radii[numbers]
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    bonded = np.triu(distance < _BOND_TOLERANCE * (radii[:, None] + radii), k=1)
    return np.argwhere(bonded)


def innermost_shell(
    numbers: Int[np.ndarray, " A"],
    positions: Float[np.ndarray, "A 3"],
    points: Float[np.ndarray, "G 3"],
) -> Bool[np.ndarray, " G"]:
    """Returns which grid points are nearest to the molecule.

    Nearest in units of each atom's van der Waals radius, as such grids are made.
    """
    radii = van_der_waals_radii(numbers)
    scaled = (np.linalg.norm(points[:, None] - positions, axis=-1) / radii).min(axis=1)
    shell = scaled <= scaled.min() + _SHELL_WIDTH
    if shell.mean() < _LEAST_SHARE:
        shell = scaled <= np.quantile(scaled, _SHARE)
    return np.asarray(shell)


def from_above(
    atoms: Float[np.ndarray, "A 3"], points: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "A 3"], Float[np.ndarray, "N 3"]]:
    """Turns both into the principal axes of the atoms: longest first, height last."""
    centre = atoms.mean(axis=0)
    _, _, axes = np.linalg.svd(atoms - centre)
    axes[2] *= np.sign(np.linalg.det(axes))  # a rotation: no molecule becomes its mirror image
    return (atoms - centre) @ axes.T, (points - centre) @ axes.T


def surface_triangles(
    points: Float[np.ndarray, "P 3"], inside: Float[np.ndarray, "A 3"]
) -> Int[np.ndarray, "triangle 3"]:
    """Returns triangles between points that lie around a molecule: their alpha shape.

    The tetrahedra of a Delaunay triangulation whose circumscribed sphere is no larger
    than a ball fill the shape; what only one of them has is its surface (Edelsbrunner
    and Mücke, ACM Trans. Graph. 13, 43, 1994). The nuclei are put in as well, which
    fills the inside.

    Args:
        points: angstrom.
        inside: Positions of the nuclei, angstrom.

    Returns:
        Indices of points, counterclockwise seen from outside; none where they do not span
        a volume.
    """
    vertices = np.concatenate([points, inside]).astype(np.float64)
    try:
        tetrahedra = Delaunay(vertices).simplices
    except (QhullError, ValueError):  # fewer than four points, or all in a plane
        return np.empty((0, 3), int)
    kept = tetrahedra[_circumradius(vertices[tetrahedra]) <= _BALL]
    faces = np.concatenate([np.delete(kept, i, axis=1) for i in range(4)])
    opposite = np.concatenate([kept[:, i] for i in range(4)])
    _, first, count = np.unique(
        np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True
    )
    outer = first[count == 1]
    outer = outer[(faces[outer] < len(points)).all(axis=1)]
    return _facing_outward(vertices, faces[outer], opposite[outer])


def _facing_outward(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    inner: Int[np.ndarray, " F"],
) -> Int[np.ndarray, "F 3"]:
    """Orders the corners of faces so that their normals point away from an inner vertex."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    inward = np.einsum("fx,fx->f", np.cross(b - a, c - a), vertices[inner] - a) > 0
    return np.where(inward[:, None], faces[:, ::-1], faces)


def _circumradius(corners: Float[np.ndarray, "T 4 3"]) -> Float[np.ndarray, " T"]:
    # The centre c, seen from the first corner, solves 2 e·c = |e|² for all three edges e.
    edges = corners[:, 1:] - corners[:, :1]
    squared = (edges**2).sum(axis=-1)
    flat = np.abs(np.linalg.det(edges)) < 1e-9  # no volume, a sphere without bound
    edges[flat] = np.eye(3)
    centre = np.linalg.solve(2 * edges, squared[..., None])[..., 0]
    return np.where(flat, np.inf, np.linalg.norm(centre, axis=-1))
