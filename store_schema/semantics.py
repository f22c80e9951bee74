"""What a key of a source file can mean, and the aliases seen in the wild.

A *semantics* names one meaning: the variable it is stored as and the shapes it
comes in behind the molecule axis. Most keys have one; ``D`` and ``Q`` have
several, which shape, physics or the user's declaration distinguishes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from store_schema.names import VARIABLES
from store_schema.units import Quantity

# Symbols of a shape: "A" atoms of the (padded) molecule, "G" grid points,
# integers are themselves.
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Semantics:
    """One meaning of a key.

    Attributes:
        name: Name used in declarations and in the schema.
        stored_as: Variable of the store that receives it; empty for what is only used to read
            the others, such as a mask.
        shapes: Shapes behind the molecule axis it is known to come in.
        sign: -1 where the values are the negative of the variable, as a gradient is of forces.
    """

    name: str
    stored_as: str
    shapes: tuple[Shape, ...]
    sign: int = 1

    @property
    def quantity(self) -> Quantity:
        """Physical quantity, from the variable it is stored as."""
        return VARIABLES[self.stored_as].quantity if self.stored_as else "none"


_SCALAR: Final[tuple[Shape, ...]] = ((), (1,))

_TABLE: Final = (
    Semantics("molecule_id", "molecule_id", _SCALAR),
    Semantics("n_atoms", "n_atoms", _SCALAR),
    Semantics("n_grid", "n_grid", _SCALAR),
    Semantics("atomic_numbers", "atomic_numbers", (("A",), ("A", 1))),
    Semantics("positions", "positions", (("A", 3),)),
    Semantics("total_charge", "total_charge", _SCALAR),
    Semantics("atomic_charges", "monopoles", (("A",), ("A", 1))),
    Semantics("esp", "esp", (("G",), ("G", 1))),
    Semantics("vdw_surface", "vdw_surface", (("G", 3),)),
    Semantics("electric_field", "electric_field", (("G", 3),)),
    Semantics("potential_gradient", "electric_field", (("G", 3),), sign=-1),
    Semantics("dipole_magnitude", "dipole_magnitude", _SCALAR),
    Semantics("molecular_dipole_vector", "dipole", ((3,), (1, 3))),
    Semantics("atomic_dipoles", "atomic_dipoles", (("A", 3),)),
    Semantics("atomic_quadrupoles", "atomic_quadrupoles", (("A", 3, 3),)),
    Semantics("buckingham_atomic_quadrupoles", "atomic_quadrupoles", (("A", 3, 3),)),
    Semantics("atomic_octupoles", "atomic_octupoles", (("A", 3, 3, 3),)),
    Semantics("buckingham_atomic_octupoles", "atomic_octupoles", (("A", 3, 3, 3),)),
    Semantics("quadrupole_components", "quadrupole", ((6,),)),
    Semantics("quadrupole_tensor", "quadrupole", ((9,), (3, 3))),
    Semantics("energy", "energy", _SCALAR),
    Semantics("forces", "forces", (("A", 3),)),
    Semantics("gradient", "forces", (("A", 3),), sign=-1),
    Semantics("esp_mask", "", (("G",), ("G", 1))),
    Semantics("center_of_mass", "center_of_mass", ((3,),)),
    Semantics("polarizability", "polarizability", ((3, 3), (9,))),
)

# Declared of a key that is none of what its name says.
UNKNOWN: Final = "unknown"

SEMANTICS: Final[dict[str, Semantics]] = {semantics.name: semantics for semantics in _TABLE}

_DIPOLE: Final = ("dipole_magnitude", "molecular_dipole_vector", "atomic_dipoles")
_Q: Final = ("total_charge", "quadrupole_components", "quadrupole_tensor", "atomic_charges")
_QUADRUPOLE: Final = ("quadrupole_components", "quadrupole_tensor")
# As moments of the charge, or 3/2 and 5/2 of their traceless parts.
_ATOMIC_QUADRUPOLES: Final = ("atomic_quadrupoles", "buckingham_atomic_quadrupoles")
_ATOMIC_OCTUPOLES: Final = ("atomic_octupoles", "buckingham_atomic_octupoles")

_FIELD: Final = ("electric_field", "potential_gradient")
_FORCES: Final = ("forces", "gradient")
_MONO: Final = ("mono", "monopoles", "charges", "atomic_charges", "partial_charges")
_MONO_BY: Final = ("mbis_charges", "hirshfeld_charges", "esp_charges", "resp_charges")
_CHARGE: Final = ("charge", "total_charge", "net_charge", "q_total", "molecular_charge")

# Keys as they are written in files, lower case, with every meaning they may have.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("id", "ids", "molecule_id", "name", "names"), ("molecule_id",)),
    **dict.fromkeys(("r", "positions", "coordinates", "coords", "xyz", "pos"), ("positions",)),
    **dict.fromkeys(("coord", "coordinate", "geometry", "geometries"), ("positions",)),
    **dict.fromkeys(("conformations", "conformers", "atxyz"), ("positions",)),
    **dict.fromkeys(("z", "atomic_numbers", "numbers", "nuclear_charges"), ("atomic_numbers",)),
    **dict.fromkeys(("species", "symbols", "elements", "atomic_number"), ("atomic_numbers",)),
    "atnum": ("atomic_numbers",),
    **dict.fromkeys(
        ("n", "n_atoms", "natoms", "number_of_atoms", "num_atoms", "natom", "nat"), ("n_atoms",)
    ),
    **dict.fromkeys(("n_grid", "ngrid"), ("n_grid",)),
    **dict.fromkeys(("e", "energy", "energies", "total_energy", "total_energies"), ("energy",)),
    **dict.fromkeys(("f", "force", "forces", "total_forces"), _FORCES),
    **dict.fromkeys(("gradient", "gradients", "grad", "grads", "total_gradient"), ("gradient",)),
    **dict.fromkeys((*_MONO, *_MONO_BY), ("atomic_charges",)),
    **dict.fromkeys(("esp", "v", "potential", "electrostatic_potential"), ("esp",)),
    **dict.fromkeys(("vdw_surface", "esp_grid", "vdw_grid", "grid"), ("vdw_surface",)),
    **dict.fromkeys(("electric_field", "esp_field", "efield", "efields"), _FIELD),
    **dict.fromkeys(("esp_gradient", "esp_grad", "potential_gradient"), ("potential_gradient",)),
    **dict.fromkeys(("espmask", "esp_mask", "grid_mask"), ("esp_mask",)),
    **dict.fromkeys((*_CHARGE, "overall_charge", "formal_charge"), ("total_charge",)),
    "initial_charges_sum": ("total_charge",),
    **dict.fromkeys(("d", "dipole", "dipoles", "dipole_moment", "dipole_moments"), _DIPOLE),
    **dict.fromkeys(("dxyz", "dipole_vector"), ("molecular_dipole_vector",)),
    **dict.fromkeys(("dip", "atomic_dipoles", "mbis_dipoles"), ("atomic_dipoles",)),
    **dict.fromkeys(("atomic_quadrupoles", "mbis_quadrupoles"), _ATOMIC_QUADRUPOLES),
    **dict.fromkeys(("atomic_octupoles", "mbis_octupoles"), _ATOMIC_OCTUPOLES),
    "dipole_magnitude": ("dipole_magnitude",),
    "q": _Q,
    **dict.fromkeys(("quadrupole", "quadrupoles", "quad", "quadrupole_moment"), _QUADRUPOLE),
    **dict.fromkeys(("com", "center_of_mass"), ("center_of_mass",)),
    **dict.fromkeys(("polar", "polarizability"), ("polarizability",)),
}

# Order of the six components where a quadrupole comes as a row (upper triangle by rows).
QUADRUPOLE_COMPONENTS: Final = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


# Words that a key may end in to say its unit: E_kcal, R_bohr, energy_ev, forces_kcal_mol_ang.
# One letter says nothing: Q_e, E_a.
_UNIT_WORDS: Final = re.compile(
    r"[_\s.]*[\[(_.\s/](?P<unit>(?:m?hartree|m?ha|eh|m?ev|kcal|kj|ry|rydberg|angstrom|ang|å|bohr|a0"
    r"|nm|pm|debye|au|cm-1|kelvin)(?:[_/.\s]?(?:mol|per|angstrom|ang|å|bohr|a0|nm|e|a))*)[\])]?$",
    re.IGNORECASE,
)

# How a key may begin that says whose value it is: REF_energy, dft_total_gradient,
# wb97x_dz.forces. What else stands before a name may make it something else: corr_energy.
_LEVEL: Final = re.compile(
    r"^(?:ref|reference|target|dft|qm|scf|ab_?initio|hf|mp2|(?:dlpno[-_])?ccsd(?:\(t\))?|b3lyp"
    r"|(?:rev)?pbe0?|wb97[xm](?:[-_]?(?:v|d|d3|d4|d3bj))?)(?:[-_](?:dz|tz|qz|cbs))?[-_.]",
    re.IGNORECASE,
)
# Shorter names, such as those of one letter, mean too many things to stand behind one.
_LEAST_NAME: Final = 4


def unit_in(key: str) -> str:
    """Returns the unit that the end of a key says, as it is written; empty if it says none."""
    match = _UNIT_WORDS.search(key)
    if match is None or key.lower() in ALIASES:
        return ""
    words = re.split(r"[_/.\s]+", match["unit"].lower())
    return "/".join(word for word in words if word != "per")


def meanings(key: str) -> tuple[Semantics, ...]:
    """Returns every meaning the alias table gives a key; none for an unknown key.

    A unit at its end is not part of its name, nor a level of theory at its beginning:
    ``E_kcal`` is an ``E``, and ``dft_forces`` are ``forces``.
    """
    name = key.lower()
    if name not in ALIASES and unit_in(key):
        name = _UNIT_WORDS.sub("", key).lower()
    if name not in ALIASES and len(bare := _LEVEL.sub("", name)) >= _LEAST_NAME:
        name = bare
    return tuple(SEMANTICS[name] for name in ALIASES.get(name, ()))
