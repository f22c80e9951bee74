"""Infrared intensities of a model's dipole derivatives beside those of PBE0/def2-SVP.

``python -m recipes.infrared dcm2 H2O CH3OH``: geometry, normal modes and reference intensities come
from PySCF, so that only the dipole derivatives differ.
"""

from __future__ import annotations

import argparse
from typing import Any, Final, NamedTuple

import numpy as np
from ase.build import molecule as g2_molecule
from ase.data import atomic_masses
from jaxtyping import Float, Int
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from dcmnet.experiment.directory import load_model
from dcmnet.model.molecule import Structure
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.derivatives import charge_derivatives, infrared_intensities
from store_schema.units import BOHR_IN_ANGSTROM

_FUNCTIONAL, _BASIS = "PBE0", "def2-SVP"
# Å by which nuclei are moved for the reference's dipole derivatives.
_STEP: Final = 0.005
# What the root of a force constant in hartree/bohr²/amu is in 1/cm.
_WAVENUMBER: Final = 5140.4871
# Below this a mode turns or shifts the molecule, 1/cm.
_INTERNAL: Final = 100.0


class Spectrum(NamedTuple):
    """Normal modes of a molecule, and how strongly they absorb.

    Attributes:
        wavenumbers: 1/cm.
        reference: Intensities of the reference, km/mol.
        model: Intensities of the model's dipole derivatives, km/mol.
    """

    wavenumbers: Float[np.ndarray, " mode"]
    reference: Float[np.ndarray, " mode"]
    model: Float[np.ndarray, " mode"]


def spectrum(model: TrainedModel, name: str) -> Spectrum:
    """Calculates the spectrum of a molecule of the G2 set, twice.

    Args:
        model: A trained network.
        name: Such as ``CH3OH``.
    """
    start = g2_molecule(name)
    numbers = start.numbers.astype(np.int64)
    positions = _optimised(numbers, start.positions)
    wavenumbers, modes = _modes(numbers, positions)
    structure = Structure(name, name, numbers, positions, 0.0)
    predicted = charge_derivatives(model, structure)
    polar = _polar_tensors(numbers, positions)
    return Spectrum(
        wavenumbers,
        infrared_intensities(polar, modes),
        predicted.infrared_intensities(modes),
    )


def _solved(numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]) -> Any:
    """Returns PySCF's restricted Kohn-Sham calculation of a neutral molecule, converged."""
    from pyscf import dft, gto

    atoms = [(int(z), tuple(place)) for z, place in zip(numbers, positions, strict=True)]
    molecule = gto.M(atom=atoms, basis=_BASIS, unit="Angstrom", verbose=0)
    method = dft.RKS(molecule, xc=_FUNCTIONAL)
    method.conv_tol = 1e-10
    method.kernel()
    return method


def _optimised(
    numbers: Int[np.ndarray, " a"], start: Float[np.ndarray, "a 3"]
) -> Float[np.ndarray, "a 3"]:
    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        method = _solved(numbers, flat.reshape(-1, 3))
        slope = method.nuc_grad_method().kernel() / BOHR_IN_ANGSTROM
        return float(method.e_tot), slope.ravel()

    found = minimize(energy, start.ravel(), jac=True, method="BFGS", options={"gtol": 2e-4})
    return np.asarray(found.x.reshape(-1, 3))


def _modes(
    numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]
) -> tuple[Float[np.ndarray, " mode"], Float[np.ndarray, "mode a 3"]]:
    """Returns wavenumbers (1/cm) and internal modes, each atom's over the root of its mass."""
    hessian = _solved(numbers, positions).Hessian().kernel()  # (a, a, 3, 3), hartree/bohr²
    n = len(numbers)
    roots = np.repeat(np.sqrt(atomic_masses[numbers]), 3)
    weighted = hessian.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n) / np.outer(roots, roots)
    squares, vectors = np.linalg.eigh(weighted)
    wavenumbers = _WAVENUMBER * np.sqrt(np.maximum(squares, 0.0))
    kept = wavenumbers > _INTERNAL
    modes = (vectors / roots[:, None]).T.reshape(-1, n, 3)
    return wavenumbers[kept], modes[kept]


def _polar_tensors(
    numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]
) -> Float[np.ndarray, "3 a 3"]:
    """Returns derivatives of the reference's dipole by central differences, e."""
    found = np.zeros((3, len(numbers), 3))
    for atom, axis in np.ndindex(len(numbers), 3):
        step = np.zeros_like(positions)
        step[atom, axis] = _STEP
        ahead, behind = (
            _solved(numbers, positions + sign * step).dip_moment(unit="AU", verbose=0)
            for sign in (1, -1)
        )
        found[:, atom, axis] = (ahead - behind) * BOHR_IN_ANGSTROM / (2 * _STEP)
    return found


def table_of(name: str, found: Spectrum) -> Table:
    """Returns the spectrum of a molecule as a table."""
    table = Table(box=box.SIMPLE, title=f"{name}: infrared intensities, km/mol")
    for column in ("1/cm", f"{_FUNCTIONAL}/{_BASIS}", "model", "ratio"):
        table.add_column(column, justify="right")
    for wavenumber, reference, model in zip(*found, strict=True):
        ratio = f"{model / reference:.2f}" if reference > 1 else ""
        table.add_row(f"{wavenumber:.0f}", f"{reference:.1f}", f"{model:.1f}", ratio)
    return table


def main() -> None:
    """Prints the spectra that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("molecules", nargs="+", help="of the G2 set, such as CH3OH")
    asked = parser.parse_args()
    model = load_model(asked.model)
    for name in asked.molecules:
        Console().print(table_of(name, spectrum(model, name)))


if __name__ == "__main__":
    main()
