"""What a key of a source file can mean, and the aliases seen in the wild.

A *semantics* names one meaning: the variable it is stored as and the shapes it
comes in behind the molecule axis. Most keys have one; ``D`` and ``Q`` have
several, which their shape, physics or the user's declaration tells apart.
"""

from __future__ import annotations

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
        stored_as: Variable of the store that receives it.
        shapes: Shapes behind the molecule axis it is known to come in.
    """

    name: str
    stored_as: str
    shapes: tuple[Shape, ...]

    @property
    def quantity(self) -> Quantity:
        """Physical quantity, from the variable it is stored as."""
        return VARIABLES[self.stored_as].quantity


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
    Semantics("dipole_magnitude", "dipole_magnitude", _SCALAR),
    Semantics("molecular_dipole_vector", "dipole", ((3,), (1, 3))),
    Semantics("atomic_dipoles", "atomic_dipoles", (("A", 3),)),
    Semantics("quadrupole_components", "quadrupole", ((6,),)),
    Semantics("quadrupole_tensor", "quadrupole", ((9,), (3, 3))),
    Semantics("energy", "energy", _SCALAR),
    Semantics("forces", "forces", (("A", 3),)),
    Semantics("center_of_mass", "center_of_mass", ((3,),)),
    Semantics("polarizability", "polarizability", ((3, 3), (9,))),
)

SEMANTICS: Final[dict[str, Semantics]] = {semantics.name: semantics for semantics in _TABLE}

_DIPOLE: Final = ("dipole_magnitude", "molecular_dipole_vector", "atomic_dipoles")
_Q: Final = ("total_charge", "quadrupole_components", "quadrupole_tensor", "atomic_charges")
_QUADRUPOLE: Final = ("quadrupole_components", "quadrupole_tensor")

# Keys as they are written in files, lower case, with every meaning they may have.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("id", "ids", "molecule_id", "name", "names"), ("molecule_id",)),
    **dict.fromkeys(("r", "positions", "coordinates", "coords", "xyz", "pos"), ("positions",)),
    **dict.fromkeys(("z", "atomic_numbers", "numbers", "nuclear_charges"), ("atomic_numbers",)),
    **dict.fromkeys(("n", "n_atoms", "natoms", "number_of_atoms"), ("n_atoms",)),
    **dict.fromkeys(("n_grid", "ngrid"), ("n_grid",)),
    **dict.fromkeys(("e", "energy", "energies", "e_ev"), ("energy",)),
    **dict.fromkeys(("f", "force", "forces"), ("forces",)),
    **dict.fromkeys(("mono", "monopoles", "charges", "atomic_charges"), ("atomic_charges",)),
    **dict.fromkeys(("esp", "v", "potential"), ("esp",)),
    **dict.fromkeys(("vdw_surface", "esp_grid", "vdw_grid", "grid"), ("vdw_surface",)),
    **dict.fromkeys(("charge", "total_charge", "net_charge", "q_total"), ("total_charge",)),
    **dict.fromkeys(("d", "dipole", "dipoles"), _DIPOLE),
    **dict.fromkeys(("dxyz", "dipole_vector"), ("molecular_dipole_vector",)),
    **dict.fromkeys(("dip", "atomic_dipoles"), ("atomic_dipoles",)),
    "dipole_magnitude": ("dipole_magnitude",),
    "q": _Q,
    **dict.fromkeys(("quadrupole", "quadrupoles", "quad"), _QUADRUPOLE),
    **dict.fromkeys(("com", "center_of_mass"), ("center_of_mass",)),
    **dict.fromkeys(("polar", "polarizability"), ("polarizability",)),
}

# Order of the six components where a quadrupole comes as a row (upper triangle by rows).
QUADRUPOLE_COMPONENTS: Final = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def meanings(key: str) -> tuple[Semantics, ...]:
    """Returns every meaning the alias table gives a key; none for an unknown key."""
    return tuple(SEMANTICS[name] for name in ALIASES.get(key.lower(), ()))
