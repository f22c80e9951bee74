"""Density functional theory by PySCF: ESP, moments, MBIS multipoles, energy, forces."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from pipeline.reference.calculation import Calculated, CalculationError
from pipeline.reference.mbis import mbis
from pipeline.structures import Geometry
from store_schema.units import BOHR_IN_ANGSTROM

if TYPE_CHECKING:
    from pyscf.dft.rks import RKS
    from pyscf.gto import Mole

# Grids of PySCF: the density is converged on one, and energy and populations are read on a finer.
_GRID, _FINAL_GRID = 1, 2
# In hartree, and in hartree per orbital rotation: ESPs are then within 3e-5 hartree/e of those of
# tight thresholds on a fine grid, at half the time (a molecule of 17 atoms).
_CONVERGED, _GRADIENT_CONVERGED = 1e-6, 5e-4
_MOST_CYCLES: Final = 100
# Integrals of an ESP are made for so many values at once: 256 MiB.
_INTEGRALS: Final = 2**25


@dataclass(frozen=True)
class DensityFunctional:
    """A functional and a basis, with density fitting; see ``Method``.

    Where gpu4pyscf is installed and there is a GPU, the density is converged on it.

    Attributes:
        functional: Name of the functional, as libxc has it.
        basis: Name of the basis.
        memory: What a calculation may take, in MiB.
    """

    functional: str = "PBE0"
    basis: str = "def2-TZVP"
    memory: int = 2000

    @property
    def level(self) -> str:
        """Name of the level of theory."""
        return f"{self.functional}/{self.basis}"

    def __call__(
        self, geometry: Geometry, points: Float[np.ndarray, "point 3"], forces: bool
    ) -> Calculated:
        """Calculates one molecule; see ``Method``."""
        molecule = self._molecule(geometry)
        field = self._converged(molecule)
        density = field.make_rdm1()
        field.grids.level = _FINAL_GRID
        field.grids.build()
        energy = float(field.energy_tot(density, vhf=field.get_veff(molecule, density)))
        total = density.sum(axis=0) if density.ndim == 3 else density
        dipole, quadrupole = _moments(molecule, total)
        return Calculated(
            energy=energy,
            esp=_potential(molecule, total, points / BOHR_IN_ANGSTROM),
            dipole=dipole,
            quadrupole=quadrupole,
            atomic=_partitioned(molecule, field, total),
            forces=-field.nuc_grad_method().kernel() if forces else None,
        )

    def _molecule(self, geometry: Geometry) -> Mole:
        from pyscf import gto

        charge = geometry.charge or 0
        electrons = int(geometry.numbers.sum()) - charge
        unpaired = (geometry.multiplicity or electrons % 2 + 1) - 1
        if unpaired % 2 != electrons % 2 or unpaired > electrons:
            raise CalculationError(
                f"{electrons} electrons cannot have a multiplicity of {unpaired + 1}"
            )
        molecule = gto.Mole()
        molecule.atom = list(zip(geometry.numbers.tolist(), geometry.positions, strict=True))
        molecule.basis, molecule.charge, molecule.spin = self.basis, charge, unpaired
        molecule.unit, molecule.verbose, molecule.max_memory = "angstrom", 0, self.memory
        # Symmetry would turn the molecule.
        molecule.symmetry = False
        try:
            return molecule.build()
        except (RuntimeError, KeyError, ValueError) as error:
            raise CalculationError(" ".join(str(error).split())) from error

    def _converged(self, molecule: Mole) -> RKS:
        """A self-consistent field.

        Raises:
            CalculationError: It does not converge, also by second-order steps.
        """
        field = self._field(molecule)
        field.conv_tol, field.conv_tol_grad = _CONVERGED, _GRADIENT_CONVERGED
        field.max_cycle = _MOST_CYCLES
        if _has_card():
            on_card = field.to_gpu()
            on_card.kernel()
            field = on_card.to_cpu()
        else:
            field.kernel()
        if not field.converged:
            second = field.newton()
            second.kernel(field.mo_coeff, field.mo_occ)
            if not second.converged:
                raise CalculationError(f"the density has not converged after {_MOST_CYCLES} cycles")
            field.mo_coeff, field.mo_occ = second.mo_coeff, second.mo_occ
            field.mo_energy, field.converged = second.mo_energy, True
        return field

    def _field(self, molecule: Mole) -> RKS:
        from pyscf import dft

        field = (dft.UKS if molecule.spin else dft.RKS)(molecule).density_fit()
        try:
            field.xc = self.functional
            field._numint.libxc.parse_xc(self.functional)
        except KeyError as error:
            raise CalculationError(f"{self.functional} is no functional of libxc") from error
        field.grids.level = _GRID
        return field


@functools.cache
def _has_card() -> bool:
    """Whether fields converge on a GPU: gpu4pyscf is installed, and there is one."""
    if find_spec("gpu4pyscf") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


def _potential(
    molecule: Mole,
    density: Float[np.ndarray, "orbital orbital"],
    points: Float[np.ndarray, "point 3"],
) -> Float[np.ndarray, " point"]:
    """ESP of nuclei and electrons; all in atomic units."""
    charges, nuclei = molecule.atom_charges(), molecule.atom_coords()
    esp = (charges / np.linalg.norm(points[:, None] - nuclei, axis=-1)).sum(axis=1)
    step = max(1, _INTEGRALS // molecule.nao**2)
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        integrals = molecule.intor("int1e_grids", hermi=1, grids=points[part])
        esp[part] -= np.einsum("pij,ij->p", integrals, density)
    return esp


def _moments(
    molecule: Mole, density: Float[np.ndarray, "orbital orbital"]
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"]]:
    """Dipole and second moment of all charge about the origin; in atomic units."""
    charges, nuclei = molecule.atom_charges(), molecule.atom_coords()
    with molecule.with_common_orig((0.0, 0.0, 0.0)):
        first = molecule.intor_symmetric("int1e_r", comp=3)
        second = molecule.intor_symmetric("int1e_rr", comp=9).reshape(3, 3, *density.shape)
    dipole = charges @ nuclei - np.einsum("xij,ij->x", first, density)
    of_nuclei = np.einsum("a,ax,ay->xy", charges, nuclei, nuclei)
    return dipole, of_nuclei - np.einsum("xyij,ij->xy", second, density)


def _partitioned(molecule: Mole, field: RKS, density: Float[np.ndarray, "orbital orbital"]) -> Any:
    """MBIS multipoles on the field's grid.

    Raises:
        CalculationError: There is no partition.
    """
    if molecule.has_ecp():
        raise CalculationError("MBIS needs all electrons, and this basis replaces some of them")
    grids = field.grids
    values = np.concatenate(
        [
            field._numint.eval_rho(molecule, orbitals, density)
            for orbitals, *_ in field._numint.block_loop(molecule, grids, molecule.nao, 0)
        ]
    )
    try:
        return mbis(
            molecule.atom_charges(), molecule.atom_coords(), grids.coords, grids.weights, values
        )
    except ValueError as error:
        raise CalculationError(str(error)) from error
