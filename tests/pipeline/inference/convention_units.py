"""Units, paddings and orders that random conventions are drawn from."""

import numpy as np

# Units written out again, so that a wrong factor in the package does not cancel.
BOHR = 0.529177210903
LENGTH = {"angstrom": 1.0, "bohr": 1 / BOHR}
POTENTIAL = {"hartree/e": 1.0, "kcal/mol/e": 627.509474, "eV/e": 27.211386245988}
DIPOLE = {"e*angstrom": 1.0, "e*bohr": 1 / BOHR, "debye": 1 / 0.20819434}
QUADRUPOLE = {
    "e*angstrom^2": 1.0,
    "e*bohr^2": 1 / BOHR**2,
    "debye*angstrom": 1 / 0.20819434,
}
ENERGY = {"hartree": 1.0, "eV": 27.211386245988, "kcal/mol": 627.509474}
FORCE = {
    "hartree/angstrom": 1.0,
    "hartree/bohr": BOHR,
    "eV/angstrom": 27.211386245988,
    "kcal/mol/angstrom": 627.509474,
}
POLARIZABILITY = {"bohr^3": 1.0, "angstrom^3": BOHR**3}
PADDING = (0.0, 10000.0, 1e6, np.nan)
# Atomization takes about this much an atom, in hartree.
BINDING = 0.16
MASS = {
    1: 1.008,
    3: 6.94,
    6: 12.011,
    7: 14.007,
    8: 15.999,
    9: 18.998,
    11: 22.990,
    16: 32.06,
    17: 35.45,
}
GAUSSIAN_ORDER = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
VOIGT_ORDER = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
SETS = ("train", "valid", "test")
