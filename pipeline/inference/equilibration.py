"""Dipoles that are known beforehand: by experiment, or roughly from electronegativities.

The electronegativity equilibration model of E. Caldeweyher et al., J. Chem. Phys. 150 (2019)
154122: Gaussian charges of element-specific width minimize an energy that is linear in the
electronegativities, at fixed net charge.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.formula import Formula
from jaxtyping import Float, Int
from scipy.special import erf

from store_schema.units import BOHR_IN_ANGSTROM, DEBYE_IN_E_ANGSTROM

# Electronegativity, its scaling by the coordination number, hardness and charge width in
# atomic units, by atomic number; ibid., supplementary material, rounded.
_PARAMETERS: Final = {
    1: (1.237, 0.049, -0.350, 0.552),
    2: (1.266, 0.109, 1.041, 0.662),
    3: (0.543, -0.123, 0.093, 0.905),
    4: (0.997, -0.027, 0.094, 1.517),
    5: (1.267, -0.026, 0.266, 2.861),
    6: (1.400, 0.060, 0.194, 1.889),
    7: (1.558, 0.093, 0.053, 1.323),
    8: (1.569, 0.117, 0.032, 1.232),
    9: (1.575, 0.157, 0.323, 1.775),
    10: (1.151, 0.080, 1.310, 1.120),
    11: (0.559, -0.100, 0.242, 1.283),
    12: (0.724, -0.077, 0.041, 1.223),
    13: (1.129, -0.022, 0.116, 1.709),
    14: (1.123, -0.050, 0.132, 1.541),
    15: (1.527, 0.143, 0.154, 1.382),
    16: (1.408, 0.071, 0.153, 2.188),
    17: (1.482, 0.137, 0.175, 1.368),
    18: (1.311, 0.149, 0.288, 1.270),
    35: (1.398, 0.080, 0.123, 2.954),
    53: (1.403, 0.090, 0.095, 3.801),
}
# Dipoles of small molecules in the gas phase, in debye, by formula in Hill's order (CRC Handbook
# of Chemistry and Physics, 97th ed., 9-59), of compositions that are one molecule as a rule.
_MEASURED: Final = {
    **{"FH": 1.826, "ClH": 1.109, "BrH": 0.827, "HLi": 5.884, "FLi": 6.326, "ClNa": 9.001},
    **{"H2O": 1.855, "H2S": 0.978, "CHN": 2.985, "CFN": 2.12, "O2S": 1.633, "FHO": 2.23},
    **{"H3N": 1.472, "CH2O": 2.332, "CHFO": 2.081, "CH3F": 1.858, "CH3Cl": 1.892},
    **{"CH2F2": 1.978, "CHF3": 1.651, "CH4O": 1.700, "CH4S": 1.52},
}
# Steepness of the count of neighbours, and the covalent radii it is counted in.
_STEEPNESS, _BOND_LENGTHS = 7.5, 4 / 3


def equilibrated_charges(
    numbers: Int[np.ndarray, " atom"], positions: Float[np.ndarray, "atom 3"], total_charge: float
) -> Float[np.ndarray, " atom"] | None:
    """Returns the charges of a molecule's atoms in e; None where an element has no parameters.

    Args:
        numbers: Atomic numbers.
        positions: In Å.
        total_charge: In e.
    """
    if not {int(number) for number in numbers} <= _PARAMETERS.keys():
        return None
    chi, scale, hardness, width = np.array([_PARAMETERS[int(number)] for number in numbers]).T
    placed = positions / BOHR_IN_ANGSTROM
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    radii = _BOND_LENGTHS * covalent_radii[numbers] / BOHR_IN_ANGSTROM
    bonded = erf(_STEEPNESS * (1 - distance / (radii[:, None] + radii[None])))
    neighbours = (0.5 * (1 + bonded)).sum(axis=1)
    exponent = 1 / np.sqrt(width[:, None] ** 2 + width[None] ** 2)
    n = len(numbers)
    matrix = np.ones((n + 1, n + 1))
    matrix[:n, :n] = erf(exponent * distance) / distance
    matrix[range(n), range(n)] = hardness + np.sqrt(2 / np.pi) / width
    matrix[n, n] = 0.0
    right = np.append(scale * np.sqrt(neighbours) - chi, total_charge)
    return np.linalg.solve(matrix, right)[:n]


def measured_dipole(numbers: Int[np.ndarray, " atom"]) -> float | None:
    """Returns the measured dipole of a neutral molecule in e·Å; None where it is not known."""
    symbols = [chemical_symbols[number] for number in numbers]
    found = _MEASURED.get(Formula.from_list(symbols).format("hill"))
    return None if found is None else found * DEBYE_IN_E_ANGSTROM
