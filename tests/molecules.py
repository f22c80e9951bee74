"""Molecules for tests: real geometries, random ones, and what to do to them."""

import dataclasses

import ase
import jax
import numpy as np
from ase.build import molecule as g2_molecule
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dcmnet.config import ModelConfig
from dcmnet.model import create_model
from dcmnet.model.initialization import parameter_shapes

ELEMENTS = (1, 6, 7, 8, 9, 16, 17)
BOHR = ase.units.Bohr

seeds = st.integers(0, 2**32 - 1)


def named(name, total_charge, replace=None, centre=None):
    """Returns a molecule of the G2 set, elements replaced and atom `centre` put at the origin."""
    atoms = g2_molecule(name)
    numbers = [(replace or {}).get(int(number), int(number)) for number in atoms.numbers]
    shift = atoms.positions[centre] if centre is not None else 0.0
    return {
        "atomic_numbers": np.array(numbers),
        "positions": atoms.positions - shift,
        "total_charge": float(total_charge),
    }


def water_and_ions():
    """Returns water, hydroxide, ammonium and fluoromethane; water's oxygen is at the origin."""
    return [
        named("H2O", 0, centre=0),
        named("OH", -1),
        named("CH4", +1, replace={6: 7}),
        named("CH3Cl", 0, replace={17: 9}),
    ]


def random_molecule(rng, n_atoms, n_grid, total_charge=None):
    """Returns a molecule with every target: atoms 1 Å apart at least, points 1.5 Å from them."""
    positions = _apart(rng, n_atoms)
    grid = _outside(rng, positions, n_grid)
    return {
        "atomic_numbers": rng.choice(ELEMENTS, n_atoms),
        "positions": positions,
        "total_charge": float(rng.integers(-1, 2)) if total_charge is None else total_charge,
        "monopoles": rng.normal(scale=0.3, size=n_atoms),
        "esp": rng.normal(scale=0.02, size=n_grid),
        "vdw_surface": grid,
        "dipole": rng.normal(size=3),
        "quadrupole": rng.normal(size=(3, 3)),
    }


def _apart(rng, n_atoms):
    # A jittered lattice, grown from the origin: dense, and no two atoms collide.
    side = int(np.ceil(n_atoms ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    chosen = lattice[np.argsort(np.linalg.norm(lattice, axis=1), kind="stable")[:n_atoms]]
    return 1.4 * chosen + rng.uniform(-0.2, 0.2, (n_atoms, 3))


def _outside(rng, positions, n_grid):
    points = np.empty((0, 3))
    while len(points) < n_grid:
        new = rng.uniform(positions.min(axis=0) - 4, positions.max(axis=0) + 4, (4 * n_grid, 3))
        distance = np.linalg.norm(new[:, None] - positions, axis=-1).min(axis=1)
        points = np.concatenate([points, new[distance > 1.5]])
    return points[:n_grid]


def random_orthogonal(rng, reflect):
    """Returns a random rotation matrix, times the inversion where `reflect`."""
    rotation = Rotation.random(random_state=rng).as_matrix()
    return -rotation if reflect else rotation


def transformed(molecule, matrix=None, shift=None):
    """Returns a molecule with structure and grid rotated, then shifted; targets untouched."""
    matrix = np.eye(3) if matrix is None else matrix
    shift = np.zeros(3) if shift is None else shift
    moved = {
        name: molecule[name] @ matrix.T + shift
        for name in ("positions", "vdw_surface")
        if name in molecule
    }
    return {**molecule, **moved}


def without(molecule, *names):
    """Returns a molecule that lacks some targets."""
    return {name: value for name, value in molecule.items() if name not in names}


def random_parameters(config, seed=0):
    """Returns parameters in which nothing is zero, biases of elements included.

    Initialising a network costs its compilation; its shapes do not.
    """
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jax.numpy.asarray(rng.normal(scale=0.55, size=leaf.shape), leaf.dtype),
        parameter_shapes(config),
    )


@dataclasses.dataclass(frozen=True)
class SmallNetwork:
    """A small network, compiled once for each shape of a batch.

    Attributes:
        config: What it is.
        network: The Flax module.
        params: Random parameters.
    """

    config: ModelConfig
    network: object
    params: object

    @classmethod
    def make(cls, seed=0, **fields):
        """Makes one; fields are those of `ModelConfig`."""
        small = {"features": 4, "max_degree": 1, "num_basis_functions": 4, "n_dcm": 2}
        config = ModelConfig(**{**small, **fields})
        network = create_model(config)
        return cls(config, network, random_parameters(config, seed))

    def __post_init__(self):
        object.__setattr__(self, "_apply", jax.jit(self.network.apply, static_argnums=2))

    def __call__(self, batch, constrain=True):
        """Returns charges and their positions as numpy arrays."""
        return jax.device_get(self._apply(self.params, batch, constrain))
