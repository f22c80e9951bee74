"""GFN2-xTB by tblite: for coverage; it is no reference, and says so.

C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15 (2019) 1652.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.multipoles import multipole_potential
from pipeline.reference.calculation import Calculated, CalculationError
from pipeline.reference.mbis import AtomicMultipoles
from pipeline.structures import Geometry
from store_schema.units import BOHR_IN_ANGSTROM

_METHOD = "GFN2-xTB"
_COMPONENTS = (("xx", "xy", "xz"), ("xy", "yy", "yz"), ("xz", "yz", "zz"))


@dataclass(frozen=True)
class TightBinding:
    """GFN2-xTB, whose ESP is that of its atoms' charges, dipoles and quadrupoles; see ``Method``.

    About 2.3 kcal/mol/e from PBE0/def2-SVP where the ESP itself is 8.8 (small molecules).
    """

    level: str = f"{_METHOD} (semi-empirical, ESP of atomic multipoles)"

    def __call__(
        self, geometry: Geometry, points: Float[np.ndarray, "point 3"], forces: bool
    ) -> Calculated:
        """Calculates one molecule; see ``Method``."""
        from tblite.interface import Calculator

        positions = geometry.positions / BOHR_IN_ANGSTROM
        charge = geometry.charge or 0
        electrons = int(geometry.numbers.sum()) - charge
        unpaired = (geometry.multiplicity or electrons % 2 + 1) - 1
        try:
            calculator = Calculator(
                _METHOD, geometry.numbers, positions, charge=float(charge), uhf=unpaired
            )
            calculator.set("verbosity", 0)
            calculator.add("xtbml_xyz")
            found = calculator.singlepoint()
        except (RuntimeError, ValueError) as error:
            raise CalculationError(" ".join(str(error).split())) from error
        atomic = _multipoles(found.get("post-processing-dict"))
        return Calculated(
            energy=float(found.get("energy")),
            esp=multipole_potential(points / BOHR_IN_ANGSTROM, positions, *atomic),
            dipole=atomic.charges @ positions + atomic.dipoles.sum(axis=0),
            quadrupole=None,
            atomic=atomic,
            forces=-np.asarray(found.get("gradient")) if forces else None,
        )


def _multipoles(found: dict[str, np.ndarray]) -> AtomicMultipoles:
    return AtomicMultipoles(
        charges=np.asarray(found["q_A"]),
        dipoles=np.stack([found[f"dipm_A_{axis}"] for axis in "xyz"], axis=-1),
        # They are Buckingham's, (3 r r - r²) / 2.
        quadrupoles=2
        / 3
        * np.stack(
            [np.stack([found[f"qm_A_{pair}"] for pair in row], axis=-1) for row in _COMPONENTS],
            axis=-2,
        ),
    )
