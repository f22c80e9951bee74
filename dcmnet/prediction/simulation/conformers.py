"""One set of charges, fixed in local frames, for several conformers of a molecule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import null_space
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits

from dcmnet.model.molecule import Structure
from dcmnet.prediction.charges import ChargedMolecule, potential_matrix
from dcmnet.prediction.simulation.frames import MIN_SINE, bonds
from dcmnet.prediction.simulation.sites import (
    NANOMETRE,
    Site,
    moved_to,
    place_sites,
    site_axes,
    virtual_sites,
)
from pipeline.chemistry.shells import shell_points
from store_schema.problems import SourceError
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

# Points around each conformer where the source brings no ESP.
_POINTS: Final = 512
_SEED: Final = 2026
# Weight of a step away from the mean of the conformers, in ESPs per e and per Å: what the ESPs
# leave open stays there, and what they tell is hardly held back, as in RESP.
_HOLD_CHARGE: Final = 1e-4
_HOLD_PLACE: Final = 1e-3


class Target(NamedTuple):
    """An ESP to reproduce around a conformer.

    Attributes:
        points: Places in angstrom.
        esp: ESP there, hartree/e.
    """

    points: Float[np.ndarray, "g 3"]
    esp: Float[np.ndarray, " g"]


@dataclass(frozen=True)
class JointRefinement:
    """One set of charges in local frames, fitted to the ESPs of several conformers.

    Attributes:
        molecule: The first conformer with these charges; what ``virtual_sites`` makes of it
            holds for all conformers.
        names: Of the conformers.
        errors: ESP RMSE at each conformer, kcal/mol/e.
        is_of_predictions: Whether the ESPs are those that are predicted for each conformer.
        single: ESP RMSE at each conformer (column) of the charges predicted for each conformer
            (row) and fixed in its frames, kcal/mol/e.
    """

    molecule: ChargedMolecule
    names: tuple[str, ...]
    errors: Float[np.ndarray, " conformer"]
    is_of_predictions: bool
    single: Float[np.ndarray, "conformer conformer"]


def refine_jointly(
    conformers: Sequence[ChargedMolecule], targets: Sequence[Target] | None = None
) -> JointRefinement:
    """Fits charges and their places in local frames to the ESPs of all conformers at once.

    Least squares over charges, whose sum is exact, and local coordinates, starting from the
    mean of the predictions and held to it where the ESPs leave them open. Of the result, the
    start and the frames of each single conformer, what has the smallest mean error is returned.

    Args:
        conformers: Predictions of geometries of one molecule, atoms in the same order.
        targets: ESPs to reproduce; what is predicted for each conformer where left out.

    Raises:
        SourceError: They are not of one molecule, or the frames of the first do not hold in
            another.
    """
    first = conformers[0]
    check_conformers([conformer.structure for conformer in conformers])
    frames = virtual_sites(first)
    wanted = list(targets or map(predicted_target, conformers))
    single = [_in_frames(frames, conformer) for conformer in conformers]
    start = [
        site._replace(
            charge=float(np.mean([own[k].charge for own in single])),
            origin=tuple(np.mean([own[k].origin for own in single], axis=0).tolist()),
            local=tuple(np.mean([own[k].local for own in single], axis=0).tolist()),
        )
        for k, site in enumerate(frames)
    ]
    positions = [conformer.structure.positions for conformer in conformers]
    candidates = [*single, start, _fitted(start, positions, wanted)]
    errors = np.array([_errors(sites, positions, wanted) for sites in candidates])
    best = int(errors.mean(axis=1).argmin())
    chosen = candidates[best]
    placed = replace(
        first, charge_positions=place_sites(chosen, first.structure.positions), uncertainty=None
    ).with_charges(np.array([site.charge for site in chosen]))
    return JointRefinement(
        molecule=placed,
        names=tuple(conformer.structure.name for conformer in conformers),
        errors=errors[best],
        is_of_predictions=targets is None,
        single=errors[: len(conformers)],
    )


def predicted_target(molecule: ChargedMolecule) -> Target:
    """Returns the ESP of a prediction on shells of 1.4 to 2.0 van der Waals radii around it."""
    structure, rng = molecule.structure, np.random.default_rng(_SEED)
    points = shell_points(structure.atomic_numbers, structure.positions, _POINTS, rng)
    return Target(points, molecule.esp(points))


def esp_rmse(sites: Sequence[Site], positions: Float[np.ndarray, "a 3"], target: Target) -> float:
    """Returns the ESP RMSE of sites in a geometry, kcal/mol/e."""
    charges = np.array([site.charge for site in sites])
    left = potential_matrix(target.points, place_sites(sites, positions)) @ charges - target.esp
    return float(np.sqrt(np.mean(left**2)) * HARTREE_IN_KCAL_PER_MOL)


def check_conformers(structures: Sequence[Structure]) -> None:
    """Refuses geometries that are not of one molecule: atoms in the same order, the same bonds.

    Raises:
        SourceError: They are not.
    """
    first = structures[0]
    bonded = set(bonds(first.atomic_numbers, first.positions))
    for structure in structures[1:]:
        if not np.array_equal(structure.atomic_numbers, first.atomic_numbers):
            received = "another molecule, or its atoms in another order"
        elif structure.total_charge != first.total_charge:
            received = f"net charges {structure.total_charge:g} and {first.total_charge:g}"
        elif other := bonded ^ set(bonds(structure.atomic_numbers, structure.positions)):
            received = f"atoms {' and '.join(map(str, min(other)))} bonded in one of them only"
        else:
            continue
        raise SourceError.of(
            structure.place,
            wrong=f"this is not another geometry of {first.name}, with its atoms in the same "
            f"order, the same bonds, and its net charge: {received}",
            consequence="one set of charges cannot stand for both",
            remedy="Give geometries of one molecule, or predict each to a file of its own",
        )


def check_frames(sites: Sequence[Site], structure: Structure) -> None:
    """Refuses a geometry in which a frame of three atoms is on a line.

    Raises:
        SourceError: One is.
    """
    for site in sites:
        if len(site.atoms) == 3 and _sine(site, structure.positions) < MIN_SINE:
            raise SourceError.of(
                structure.place,
                wrong=f"atoms {', '.join(map(str, site.atoms))} lie on a line; in the first "
                "geometry they make an angle",
                consequence="the frame of their charges has no direction there",
                remedy="Leave this geometry out",
            )


def _in_frames(frames: Sequence[Site], conformer: ChargedMolecule) -> list[Site]:
    """Returns the charges of a conformer in the frames of another one."""
    check_frames(frames, conformer.structure)
    positions = conformer.structure.positions
    return [
        moved_to(frame._replace(charge=float(charge)), displacement, positions)
        for frame, charge, displacement in zip(
            frames, conformer.charges, conformer.displacements, strict=True
        )
    ]


def _sine(site: Site, positions: Float[np.ndarray, "a 3"]) -> float:
    atoms = positions[list(site.atoms)]
    x, y = np.array(site.x) @ atoms, np.array(site.y) @ atoms
    return float(np.linalg.norm(np.cross(x, y)) / (np.linalg.norm(x) * np.linalg.norm(y)))


def _errors(
    sites: Sequence[Site],
    positions: Sequence[Float[np.ndarray, "a 3"]],
    targets: Sequence[Target],
) -> list[float]:
    pairs = zip(positions, targets, strict=True)
    return [esp_rmse(sites, placed, target) for placed, target in pairs]


def _fitted(
    start: Sequence[Site],
    positions: Sequence[Float[np.ndarray, "a 3"]],
    targets: Sequence[Target],
) -> list[Site]:
    """Least squares over charges of a fixed sum and, in frames of three atoms, their places."""
    charges = np.array([site.charge for site in start])
    movable = np.array([len(site.atoms) == 3 for site in start])
    local = NANOMETRE * np.array([site.local for site in start])
    keep_sum = null_space(np.ones((1, len(start))))
    n_charges = keep_sum.shape[1]
    hold = np.concatenate(
        [np.full(n_charges, _HOLD_CHARGE), np.full(3 * movable.sum(), _HOLD_PLACE)]
    )
    turned = [_turned(start, placed, movable) for placed in positions]
    origins = [place_sites([s._replace(local=(0.0,) * 3) for s in start], p) for p in positions]

    def unpacked(steps: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        moved = local.copy()
        moved[movable] += steps[n_charges:].reshape(-1, 3)
        return charges + keep_sum @ steps[:n_charges], moved

    def linearised(steps: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        own, moved = unpacked(steps)
        left, slopes = [hold * steps], [np.diag(hold)]
        for origin, axes, target in zip(origins, turned, targets, strict=True):
            scale = 1 / np.sqrt(len(target.esp) * len(targets))
            offset = target.points[:, None] - origin - np.einsum("kx,kxy->ky", moved, axes)
            inverse = 1 / np.linalg.norm(offset, axis=-1)
            matrix = BOHR_IN_ANGSTROM * inverse
            gradient = np.einsum("gk,gkx,kyx->gky", matrix * inverse**2 * own, offset, axes)
            left.append(scale * (matrix @ own - target.esp))
            places = gradient[:, movable].reshape(len(target.esp), -1)
            slopes.append(scale * np.concatenate([matrix @ keep_sum, places], axis=1))
        return np.concatenate(left), np.concatenate(slopes)

    with threadpool_limits(1, user_api="blas"):  # systems are small; threads would only wait
        found = least_squares(
            lambda steps: linearised(steps)[0],
            np.zeros(len(hold)),
            lambda steps: linearised(steps)[1],
        )
    own, moved = unpacked(found.x)
    return [
        site._replace(charge=float(q), local=tuple((place / NANOMETRE).tolist()))
        for site, q, place in zip(start, own, moved, strict=True)
    ]


def _turned(
    sites: Sequence[Site], positions: Float[np.ndarray, "a 3"], movable: np.ndarray
) -> Float[np.ndarray, "k 3 3"]:
    return np.array(
        [
            site_axes(site, positions) if moves else np.zeros((3, 3))
            for site, moves in zip(sites, movable, strict=True)
        ]
    )
