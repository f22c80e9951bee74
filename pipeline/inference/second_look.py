"""Values that are stored, held against each other once more as if their units were open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from pipeline.chemistry.arrays import Atoms, Grid
from pipeline.chemistry.centers import ORIGIN
from pipeline.inference import charges, dipoles, energies, forces, lengths, quadrupoles
from pipeline.inference.hypothesis import Hypothesis
from pipeline.inference.potential import fitted_charges, potential_units
from pipeline.inference.reference import moments_of_esp, moments_of_monopoles
from pipeline.inference.stretching import stretching
from store_schema import VARIABLES

# Half the squared deviation by which another factor fits better than that of the store.
_DOUBTED: Final = 8.0
# Total energies are within this of the rule for them, as a logarithm.
_TOTAL: Final = 0.1


class Doubt(NamedTuple):
    """A variable whose values contradict others.

    Attributes:
        variable: Name of the variable.
        evidence: What was measured of the values as they are stored.
        factor: What they would have to be multiplied by; NaN where that is not known.
    """

    variable: str
    evidence: str
    factor: float


@np.errstate(invalid="ignore", over="ignore")
def doubts(atoms: Atoms, grid: Grid, values: Mapping[str, np.ndarray]) -> list[Doubt]:
    """Holds stored values against each other.

    Args:
        atoms: Atoms of some molecules, in Å.
        grid: Their grids in Å, ESP in hartree/e.
        values: Further variables of the store.
    """
    found: dict[str, Doubt] = {}
    for variable, hypotheses in _weighed(atoms, grid, values):
        stored = [h for h in hypotheses if h.unit is not None and math.isclose(h.factor, 1.0)]
        stored = [h for h in stored if h.about == ORIGIN] or stored
        best = min(hypotheses, key=lambda h: h.misfit, default=None)
        if not stored or best is None:
            continue
        as_is = min(stored, key=lambda h: h.misfit)
        if as_is.misfit - best.misfit > _DOUBTED and variable not in found:
            found[variable] = Doubt(variable, as_is.evidence, best.factor)
    ratios = energies.total_ratios(atoms, values["energy"]) if "energy" in values else None
    ratio = 1.0 if ratios is None else float(np.nanmedian(ratios))
    if abs(math.log(ratio)) > _TOTAL:
        text = f"they are {ratio:.3g} times total energies"
        found["energy"] = Doubt("energy", text, 1 / ratio)
    return list(found.values())


def _weighed(
    atoms: Atoms, grid: Grid, values: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Sequence[Hypothesis]]]:
    """Readings of each variable, held against what it must agree with."""
    yield "positions", lengths.position_units(atoms)
    fitted = fitted_charges(atoms, grid)
    if (grid.n_grid > 0).any() and np.isfinite(grid.points).any():
        yield "vdw_surface", lengths.grid_units(atoms, grid)
    if fitted is not None:
        yield "esp", potential_units(atoms, grid, fitted)
    monopoles = values.get("monopoles")
    if monopoles is not None and np.isfinite(monopoles).any():
        yield "monopoles", charges.charge_hypotheses(monopoles, atoms, fitted=fitted)
    reference = moments_of_esp(atoms, grid)
    if reference is None and monopoles is not None:
        reference = moments_of_monopoles(atoms, atoms.per_atom(monopoles))
    if reference is not None:
        for variable, semantics in _MOMENTS.items():
            if variable in values and np.nan_to_num(values[variable]).any():
                yield variable, dipoles.dipole_hypotheses(semantics, values[variable], [reference])
        tensor = values.get("quadrupole")
        if tensor is not None and np.nan_to_num(tensor).any() and reference.is_sharp:
            plain = quadrupoles.quadrupole_hypotheses(
                "quadrupole_tensor", tensor, reference, convention="plain"
            )
            yield "quadrupole", plain
    yield from _slopes(atoms, values)


def _slopes(
    atoms: Atoms, values: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Sequence[Hypothesis]]]:
    """Readings of forces, as slopes of their energies and by the stretching of bonds."""
    energy, pull = values.get("energy"), values.get("forces")
    if pull is None or not np.nan_to_num(pull).any():
        return
    placed = atoms.per_atom(pull)
    slope = None if energy is None else forces.slope_of(atoms, placed, energy.astype(np.float64))
    if slope is not None:
        hartree = Hypothesis("energy", VARIABLES["energy"].unit, 0.0, "")
        yield "forces", forces.force_units(None, slope, hartree, anchored=True)
    stretch = stretching(atoms, placed)
    if stretch is not None:
        yield "forces", forces.force_units(stretch, None, None)


_MOMENTS: Final = {
    "dipole": "molecular_dipole_vector",
    "dipole_magnitude": "dipole_magnitude",
}
