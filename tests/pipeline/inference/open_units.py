"""Units and zeros of energy that files of the open world are written in.

They are written out again here, so that a wrong factor in the package does not cancel.
"""

from __future__ import annotations

BOHR, EV, KCAL = 0.529177210903, 27.211386245988, 627.509474
ENERGY = {
    "hartree": 1.0,
    "eV": EV,
    "kcal/mol": KCAL,
    "kJ/mol": KCAL * 4.184,
    "meV": 1e3 * EV,
    "rydberg": 2.0,
    "cm^-1": 219474.6313632,
    "K": 315775.02480407,
    "J": 4.3597447222071e-18,
    "mHartree": 1e3,
    "aJ": 4.3597447222071,
}
RARE = {"mHartree", "aJ", "kT"}
LENGTH = {"angstrom": 1.0, "bohr": 1 / BOHR, "nm": 0.1, "pm": 100.0, "m": 1e-10}
DIPOLE = {
    "e*angstrom": 1.0,
    "e*bohr": 1 / BOHR,
    "debye": 1 / 0.2081943,
    "e*nm": 0.1,
    "C*m": 1.602176634e-29,
    "1e-30*C*m": 16.02176634,
}
QUADRUPOLE = {
    "e*angstrom^2": 1.0,
    "e*bohr^2": BOHR**-2,
    "debye*angstrom": 1 / 0.2081943,
    "e*nm^2": 0.01,
    "C*m^2": 1.602176634e-39,
}
# Of the tables before this world was opened; the rest is outside them.
KNOWN = {"hartree", "eV", "kcal/mol", "angstrom", "bohr", "e*angstrom", "e*bohr", "debye"}
KNOWN |= {"e*angstrom^2", "e*bohr^2", "debye*angstrom", "hartree/angstrom", "hartree/bohr"}
KNOWN |= {"eV/angstrom", "kcal/mol/angstrom", "e"}
POTENTIAL = {f"{name}/e": factor for name, factor in ENERGY.items()}
POTENTIAL["kT/e"] = 315775.02480407 / 298.15
KNOWN |= {"hartree/e", "eV/e", "kcal/mol/e"}
FORCE = {
    f"{energy}/{length}": ENERGY[energy] / LENGTH[length]
    for energy in ENERGY
    for length in ("angstrom", "bohr", "nm")
}
# Of the electrons of an atom, in hartree: energies that are neither total nor of binding.
CORRELATION = {1: -0.02, 6: -0.16, 7: -0.2, 8: -0.24, 9: -0.27, 16: -0.4, 17: -0.45}
ATOMS = {1: -0.5, 6: -37.85, 7: -54.6, 8: -75.08, 9: -99.75, 16: -398.1, 17: -460.15}
VALENCE = {1: -0.39, 6: -1.79, 7: -2.61, 8: -3.77, 9: -4.62, 16: -3.15, 17: -4.48}
