"""Runs an exported model. Needs numpy, JAX and flatbuffers; no training code.

This file travels inside every exported model, which is a zip archive that Python can
import from and run:

    python water.dcmx molecule.xyz

    sys.path.insert(0, "water.dcmx")
    from artefact_runner import load
    charges, positions = load("water.dcmx").predict([8, 1, 1], xyz, total_charge=0)
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
import zipfile
from typing import Any

import numpy as np

MODEL = "model.stablehlo"
METADATA = "metadata.json"
_MOST_BYTES = 2**31
_PROPERTIES = re.compile(r'(?i)(?<!\S)properties\s*=\s*"?([^\s"]+)')  # its columns
# What an XYZ file's comment calls a net charge: whatever ends in "charge", and q.
_CHARGE = re.compile(r'(?i)(?<![^\s"])((?:[\w-]*charge|q))"?\s*=\s*"?([^\s"]+)')
# Bonds of molecules in another unit are so many times too long; atoms further apart have none.
_STRETCHED, _DISSOCIATED = 1.4, 2.6
_NOBLE_GASES = (2, 10, 18, 36, 54, 86)
# What a prediction relies on.
_NEEDED: dict[str, tuple[Any, str]] = {
    "cutoff": ((int, float), "a number"),
    "max_atomic_number": (int, "a whole number"),
    "elements": ((list, type(None)), "a list, or null"),
    "total_charges": ((list, type(None)), "a list, or null"),
    "symbols": (list, "a list"),
}


def with_total_charge(charges: np.ndarray, total_charge: float) -> np.ndarray:
    """Shifts charges equally so that they sum to the total charge, in double precision.

    Args:
        charges: Charges (k,) in e, at least one.
        total_charge: Net charge in e.
    """
    exact = np.asarray(charges, np.float64)
    for _ in range(2):  # the second round takes away the rounding error of the first
        exact = exact - (exact.sum() - total_charge) / len(exact)
    return exact


def pairs_within(positions: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ordered pairs of atoms closer than the cutoff, by the receiving atom.

    Args:
        positions: Positions (a, 3) in angstrom, compared in single precision.
        cutoff: Angstrom.
    """
    placed = np.asarray(positions, np.float32)
    squared = np.zeros((len(placed), len(placed)), np.float32)
    for axis in range(3):
        squared += np.square(placed[:, None, axis] - placed[None, :, axis])
    close = squared < np.float32(cutoff) ** 2
    np.fill_diagonal(close, False)
    receiving, sending = np.nonzero(close)
    return receiving.astype(np.int32), sending.astype(np.int32)


def padded_pairs(
    receiving: np.ndarray, sending: np.ndarray, last_atom: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fills pairs up to a power of two, so that conformers share one compiled program.

    Returns:
        Receiving and sending atoms, and the mask of real pairs.
    """
    count = len(receiving)
    capacity = 1 << max(0, count - 1).bit_length()
    filling = np.full(capacity - count, last_atom, np.int32)
    both = [np.concatenate([atoms, filling]) for atoms in (receiving, sending)]
    return both[0], both[1], np.arange(capacity) < count


class ExportedModel:
    """A network frozen into StableHLO, for molecules of any size.

    Attributes:
        metadata: What it is: elements it was trained on, cutoff, charges per atom, versions.
    """

    def __init__(self, program: bytes, metadata: dict[str, Any]) -> None:
        import jax
        import jax.export

        self.metadata = metadata
        self._call = jax.jit(jax.export.deserialize(bytearray(program)).call)

    def predict(
        self, atomic_numbers: Any, positions: Any, total_charge: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predicts the distributed charges of one molecule.

        Args:
            atomic_numbers: Atomic numbers (a,).
            positions: Nuclear positions (a, 3) in angstrom.
            total_charge: Net charge in e.

        Returns:
            Charges (a, n_dcm) in e, whose sum is exact, and their positions
            (a, n_dcm, 3) in angstrom, both in double precision.

        Raises:
            ValueError: It is not a molecule that the network can see.
        """
        numbers, nuclei = self._checked(atomic_numbers, positions, total_charge)
        centred = (nuclei - nuclei.mean(axis=0)).astype(np.float32)
        pairs = pairs_within(centred, self.metadata["cutoff"])
        charges, placed = self._call(
            numbers[None].astype(np.int32),
            centred[None],
            np.array([total_charge], np.float32),
            *padded_pairs(*pairs, len(numbers) - 1),
        )
        displacements = np.asarray(placed[0], np.float64) - centred[:, None]
        exact = with_total_charge(np.asarray(charges[0]).ravel(), total_charge)
        return exact.reshape(charges[0].shape), nuclei[:, None] + displacements

    def _checked(
        self, atomic_numbers: Any, positions: Any, total_charge: float
    ) -> tuple[np.ndarray, np.ndarray]:
        numbers, nuclei = np.asarray(atomic_numbers), np.asarray(positions, np.float64)
        if numbers.dtype.kind not in "iuf":
            raise ValueError(f"expected atomic numbers, found {numbers}")
        if numbers.ndim != 1 or not len(numbers) or nuclei.shape != (len(numbers), 3):
            raise ValueError(
                f"expected atomic numbers (a,) and positions (a, 3) of at least one atom, "
                f"found shapes {numbers.shape} and {nuclei.shape}"
            )
        largest = self.metadata["max_atomic_number"]
        if np.any((numbers < 1) | (numbers > largest) | (numbers != np.rint(numbers))):
            sites = " (0 is a site X: leave it out)" if np.any(numbers == 0) else ""
            raise ValueError(
                f"expected whole atomic numbers from 1 to {largest}{sites}, found {numbers}"
            )
        if not (np.isfinite(nuclei).all() and np.isfinite(total_charge)):
            raise ValueError("expected finite positions and total charge, found NaN or infinity")
        apart = nuclei[:, None] - nuclei
        distance = np.sqrt((apart**2).sum(axis=-1))[np.triu_indices(len(numbers), 1)]
        if len(distance) and distance.min() < 0.2:
            raise ValueError(f"expected atoms apart from each other, two are {distance.min():.3f}")
        self._refuse_another_unit(numbers, apart)
        for unseen in self._unseen(numbers, total_charge):
            warnings.warn(unseen, stacklevel=3)
        return numbers, nuclei

    def _refuse_another_unit(self, numbers: np.ndarray, apart: np.ndarray) -> None:
        """Raises a ValueError where all bonds are as long as if bohr were read as angstrom."""
        radii = np.array(self.metadata.get("covalent_radii") or ())
        if not len(radii) or len(numbers) < 3 or np.isin(numbers, _NOBLE_GASES).any():
            return
        radius = radii[numbers.astype(int)]
        bonds = np.sqrt((apart**2).sum(axis=-1)) / (radius[:, None] + radius)
        np.fill_diagonal(bonds, np.inf)
        nearest = bonds.min(axis=1)
        if nearest.min() > _STRETCHED and nearest.max() < _DISSOCIATED:
            raise ValueError(
                f"all bonds are at least {nearest.min():.2f} times too long: positions must be in "
                "angstrom, and may be in bohr"
            )

    def _unseen(self, numbers: np.ndarray, total_charge: float) -> list[str]:
        found = []
        known, charges = self.metadata["elements"], self.metadata.get("total_charges")
        elements = sorted(set(numbers.tolist()) - set(known or numbers.tolist()))
        if elements:
            names = ", ".join(self.metadata["symbols"][int(number)] for number in elements)
            found.append(f"the model has not seen {names} in training: its charges mean nothing")
        if total_charge not in (charges or [total_charge]):
            found.append(f"the model has not seen a net charge of {total_charge:+g} in training")
        most = self.metadata.get("most_atoms")
        if most is not None and len(numbers) > most:
            found.append(
                f"the model has not seen molecules of {len(numbers)} atoms in training, only of "
                f"at most {most}"
            )
        if self.metadata.get("radicals") is False and (numbers.sum() - total_charge) % 2 == 1:
            found.append(
                "the model has not seen an odd number of electrons in training: the molecule is a "
                "radical, or its net charge is another"
            )
        return found


def load(path: Any) -> ExportedModel:
    """Loads an exported model from its file.

    The file holds a program, so load it only from those whose programs you would run.

    Args:
        path: What ``dcmnet export`` wrote.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not an exported model, or is damaged.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is not a file; give what 'dcmnet export' wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            program = _member(archive, MODEL)
            metadata = _checked_metadata(json.loads(_member(archive, METADATA)))
        return ExportedModel(program, metadata)
    except OSError:
        raise
    # Zip archives, compression, JSON and programs each have errors of their own.
    except Exception as error:
        raise ValueError(
            f"{path} is not an exported model, or is damaged ({type(error).__name__}: {error}); "
            "export it again"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise ValueError(f"{name} is larger than {_MOST_BYTES >> 20} MiB")
    return archive.read(name)


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    """Returns metadata in which what a prediction relies on is there, and of its type."""
    for name, (kind, what) in _NEEDED.items():
        if not isinstance(metadata, dict) or not isinstance(metadata.get(name), kind):
            raise ValueError(f"{METADATA} has no {name}, which is {what}")
    for name, kind in (("elements", int), ("total_charges", float), ("symbols", str)):
        if not all(type(each) is kind for each in metadata.get(name) or ()):
            raise ValueError(f"{METADATA} has {name} that are not of type {kind.__name__}")
    if not 0 < metadata["cutoff"] < float("inf"):
        raise ValueError(f"{METADATA} has a cutoff of {metadata['cutoff']}")
    return metadata


def read_xyz(path: str, symbols: list[str]) -> tuple[list[int], list[list[float]], float | None]:
    """Reads an XYZ file of one molecule.

    Args:
        path: The file.
        symbols: Symbol of each atomic number.

    Returns:
        Atomic numbers, positions, and the net charge where the comment gives one.

    Raises:
        SystemExit: There is more in it, or its net charge is not clear.
    """
    with open(path, encoding="utf-8") as file:
        count = int(file.readline())
        comment = file.readline()
        rows = [file.readline().split() for _ in range(count)]
        if file.read().strip():
            raise SystemExit(
                f"Error: {path}: there is more than one molecule in it; nothing was predicted. "
                "Give a file of each."
            )
    numbers = [symbols.index(row[0]) for row in rows]
    charge = _charge_of(path, comment, _sum_of_initial_charges(comment, rows))
    return numbers, [[float(x) for x in row[1:4]] for row in rows], charge


def _sum_of_initial_charges(comment: str, rows: list[list[str]]) -> str | None:
    """Returns what a column of initial charges sums to, as ASE writes one; None for nothing."""
    properties = _PROPERTIES.search(comment)
    fields = properties.group(1).split(":") if properties else []
    if properties and fields[:6] != ["species", "S", "1", "pos", "R", "3"]:
        raise ValueError("the columns are not symbols, positions and others")
    names, widths = fields[::3], [int(width) for width in fields[2::3]]
    if "initial_charges" not in names:
        return None
    column = sum(widths[: names.index("initial_charges")])
    total = sum(float(row[column]) for row in rows)
    # They are written with so many digits that their sum is off by less.
    whole = total if abs(total - round(total)) > 0.02 else round(total)
    return str(whole) if abs(total) > 1e-3 else None


def _charge_of(path: str, comment: str, initial: str | None) -> float | None:
    """Returns the net charge that a comment line or initial charges give; None if none does."""
    given = [text for _, text in _CHARGE.findall(comment)] + ([initial] if initial else [])
    if not given:
        return None
    try:
        (charge,) = {float(text) for text in given}
    except ValueError:  # no number, or several
        raise SystemExit(
            f"Error: {path}: its net charge is not clear: {', '.join(given)}; nothing was "
            "predicted. Write one, such as charge=-1, in its comment line."
        ) from None
    return charge


def main(arguments: list[str]) -> int:
    """Prints the charges of an XYZ file's molecule: x y z in angstrom and q in e, a line each."""
    if len(arguments) not in (2, 3):
        print("usage: python MODEL FILE.xyz [TOTAL_CHARGE]", file=sys.stderr)
        return 2
    try:
        model = load(arguments[0])
    except (OSError, ValueError) as error:
        print(f"Error: {error}.", file=sys.stderr)
        return 1
    path = arguments[1]
    try:
        numbers, positions, given = read_xyz(path, model.metadata["symbols"])
    except (OSError, ValueError, IndexError):
        return _refused(path, "this is not an XYZ file of one molecule with known elements")
    try:
        total_charge = _net_charge(arguments[2:], given)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            charges, places = model.predict(numbers, positions, total_charge or 0.0)
    except ValueError as error:
        return _refused(path, str(error))
    for warning in caught:
        print(f"Warning: {warning.message}", file=sys.stderr)
    if total_charge is None:
        print("Note: no net charge was given; 0 was assumed.", file=sys.stderr)
    for q, (x, y, z) in zip(charges.ravel(), places.reshape(-1, 3), strict=True):
        print(f"{x:14.8f} {y:14.8f} {z:14.8f} {q:14.8f}")
    return 0


def _net_charge(named: list[str], given: float | None) -> float | None:
    """Returns the net charge that the command or the file gives; None if neither does."""
    if not named:
        return given
    try:
        charge = float(named[0])
    except ValueError:
        raise ValueError(f"the net charge {named[0]!r} is not a number") from None
    if given not in (None, charge):
        raise ValueError(f"the net charge is to be {charge:g}, but its comment says {given:g}")
    return charge


def _refused(path: str, wrong: str) -> int:
    print(f"Error: {path}: {wrong}; nothing was predicted.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
