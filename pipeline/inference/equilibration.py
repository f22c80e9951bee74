"""Charges from electronegativities: a rough dipole for molecules without an ESP or monopoles.

The electronegativity equilibration model of E. Caldeweyher et al., J. Chem. Phys. 150 (2019)
154122: Gaussian charges of element-specific width minimize an energy that is linear in the
electronegativities, at fixed net charge.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int
from scipy.special import erf

from store_schema.units import BOHR_IN_ANGSTROM

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
