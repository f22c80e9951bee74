"""Names of the store: groups, dimensions and canonical variables, each once.

The root group of a store is the molecules dataset. Missing values and padding
are NaN in floating-point variables and 0 in integer ones; only
``atomic_numbers``, ``n_atoms`` and ``n_grid`` are integers, where 0 cannot be
mistaken for a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from store_schema.units import CANONICAL_UNIT, Quantity

SCHEMA_ATTRIBUTE: Final = "dcmnet_schema"
RESULTS_GROUP: Final = "results"
QUARANTINE_GROUP: Final = "quarantine"

MOLECULE: Final = "molecule"
ATOM: Final = "atom"
GRID_POINT: Final = "grid_point"
XYZ: Final = "xyz"
XYZ2: Final = "xyz2"
XYZ3: Final = "xyz3"
DCM: Final = "dcm"

# Dimensions of the same length in every store.
AXES: Final = {XYZ: 3, XYZ2: 3, XYZ3: 3}

# Quarantined molecules have sizes of their own; a child group of an xarray
# tree may not reuse a dimension of its parent with another length.
QUARANTINE_DIMENSIONS: Final = {
    MOLECULE: "quarantined_molecule",
    ATOM: "quarantined_atom",
    GRID_POINT: "quarantined_grid_point",
}


@dataclass(frozen=True)
class Variable:
    """One variable of the store.

    Attributes:
        name: Name of the array.
        dims: Dimension names, outermost first.
        dtype: numpy dtype name; ``str`` for variable-length text.
        quantity: What it measures, which fixes the unit.
        description: One line for people.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    quantity: Quantity
    description: str

    @property
    def unit(self) -> str:
        """Canonical unit, empty where there is none."""
        return CANONICAL_UNIT[self.quantity]

    @property
    def fill_value(self) -> float | int | str:
        """What padding and missing values are stored as."""
        if self.dtype == "str":
            return ""
        return float("nan") if self.dtype.startswith("float") else 0


_TABLE: Final = (
    Variable("molecule_id", (MOLECULE,), "str", "none", "identity of the molecule in its source"),
    Variable("n_atoms", (MOLECULE,), "int32", "none", "number of atoms"),
    Variable("n_grid", (MOLECULE,), "int32", "none", "number of ESP grid points"),
    Variable("atomic_numbers", (MOLECULE, ATOM), "int32", "none", "atomic number, 0 is padding"),
    Variable("positions", (MOLECULE, ATOM, XYZ), "float32", "length", "nuclear positions"),
    Variable("total_charge", (MOLECULE,), "float32", "charge", "net charge of the molecule"),
    Variable("monopoles", (MOLECULE, ATOM), "float32", "charge", "reference atomic charges"),
    Variable("esp", (MOLECULE, GRID_POINT), "float32", "potential", "reference ESP on the grid"),
    Variable(
        "vdw_surface",
        (MOLECULE, GRID_POINT, XYZ),
        "float32",
        "length",
        "ESP grid points outside the van der Waals surface",
    ),
    Variable(
        "electric_field",
        (MOLECULE, GRID_POINT, XYZ),
        "float32",
        "field",
        "reference electric field on the ESP grid",
    ),
    Variable("dipole", (MOLECULE, XYZ), "float32", "dipole", "molecular dipole about the origin"),
    Variable("dipole_magnitude", (MOLECULE,), "float32", "dipole", "norm of the molecular dipole"),
    Variable("atomic_dipoles", (MOLECULE, ATOM, XYZ), "float32", "dipole", "dipole of each atom"),
    Variable(
        "atomic_quadrupoles",
        (MOLECULE, ATOM, XYZ, XYZ2),
        "float32",
        "quadrupole",
        "second moment of each atom about its nucleus, with or without its trace",
    ),
    Variable(
        "atomic_octupoles",
        (MOLECULE, ATOM, XYZ, XYZ2, XYZ3),
        "float32",
        "octupole",
        "third moment of each atom about its nucleus, with or without its traces",
    ),
    Variable(
        "quadrupole",
        (MOLECULE, XYZ, XYZ2),
        "float32",
        "quadrupole",
        "molecular quadrupole about the origin",
    ),
    Variable("energy", (MOLECULE,), "float64", "energy", "energy as the source defines it"),
    Variable("forces", (MOLECULE, ATOM, XYZ), "float32", "force", "forces on the nuclei"),
    Variable("center_of_mass", (MOLECULE, XYZ), "float32", "length", "centre of mass"),
    Variable(
        "polarizability",
        (MOLECULE, XYZ, XYZ2),
        "float32",
        "polarizability",
        "molecular polarizability",
    ),
)

VARIABLES: Final[dict[str, Variable]] = {variable.name: variable for variable in _TABLE}

# Multipoles of the atoms, by order.
ATOMIC_MOMENTS: Final = ("monopoles", "atomic_dipoles", "atomic_quadrupoles", "atomic_octupoles")

# Every molecule has these; the rest is present where a source brought it.
REQUIRED: Final = ("molecule_id", "n_atoms", "n_grid", "atomic_numbers", "positions")
