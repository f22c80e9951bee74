"""Finished calculations as compact files, whose grids are made again from their seeds.

``python -m recipes.parts pack reference.npz.parts recipes/reference/000.npz``
``python -m recipes.parts unpack recipes/reference/*.npz --out reference.npz``
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.shells import shell_points
from pipeline.reference.gather import gather
from pipeline.reference.parts import task_of
from pipeline.reference.run import method_of
from pipeline.structures import Geometry

# Arrays with a row per atom, and with one per molecule; their types in the file.
_PER_ATOM: Final[dict[str, type[np.generic]]] = {"Z": np.uint8, "R": np.float64, "mono": np.float32}
_PER_MOLECULE: Final[dict[str, type[np.generic]]] = {
    **{"total_charge": np.int8, "esp": np.float32, "dipole": np.float32},
    **{"quadrupole": np.float32, "E": np.float64},
}
# Å by which a grid may differ from the one that was used, for the rounding of other machines.
_SAME: Final = 1e-6


def pack(folder: Path, out: Path, level: str) -> int:
    """Writes finished calculations into one file, but those that others of its folder have.

    Args:
        folder: What ``dcmnet reference`` keeps while it works.
        out: The file.
        level: Level of theory.

    Returns:
        How many are in it.

    Raises:
        ValueError: There is none that is new.
    """
    others = [path for path in out.absolute().parent.glob("*.npz") if path.name != out.name]
    before = {one for path in others for one in _known(path, level)}
    found = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    found = [one for one in found if _identity(one["id"], _grid_sum(one)) not in before]
    if not found:
        raise ValueError(f"{folder}: there is no calculation that {out.parent} does not have")
    columns: dict[str, np.ndarray] = {
        "id": np.array([str(one["id"]) for one in found]),
        "level": np.array(level),
        "n_atoms": np.array([len(one["Z"]) for one in found], np.uint16),
        "grid_sum": np.stack([_grid_sum(one) for one in found]),
    }
    for key, kind in _PER_ATOM.items():
        columns[key] = np.concatenate([one[key] for one in found]).astype(kind)
    for key, kind in _PER_MOLECULE.items():
        if all(key in one for one in found):  # GFN2-xTB has no quadrupole
            columns[key] = np.stack([one[key] for one in found]).astype(kind)
    np.savez_compressed(out, **cast("dict[str, Any]", columns))
    for _ in unpacked(out):  # its grids are those that were calculated
        pass
    return len(found)


def _known(path: Path, level: str) -> list[tuple[str, ...]]:
    with np.load(path) as raw:
        if not {"id", "level"} <= set(raw.files) or str(raw["level"]) != level:
            return []
        return [_identity(*one) for one in zip(raw["id"], raw["grid_sum"], strict=True)]


def _identity(name: np.ndarray, grid_sum: np.ndarray) -> tuple[str, ...]:
    """Geometries of one name differ in their grids."""
    return str(name), *(f"{x:.3f}" for x in grid_sum)


def _grid_sum(one: Mapping[str, np.ndarray]) -> Float[np.ndarray, " 3"]:
    return np.asarray(one["vdw_surface"].sum(axis=0))


def unpacked(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yields the calculations of a file, with their grids.

    Raises:
        ValueError: A grid comes out as another than was calculated.
    """
    with np.load(path) as raw:
        columns = {key: raw[key] for key in raw.files}
    method = method_of(str(columns["level"]))
    ends = np.cumsum(columns["n_atoms"].astype(np.int64))
    n_points = columns["esp"].shape[1]
    for row, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        name, charge = str(columns["id"][row]), int(columns["total_charge"][row])
        numbers = columns["Z"][start:end].astype(np.int64)
        geometry = Geometry(str(path), name, numbers, columns["R"][start:end], charge)
        # A SMILES says its multiplicity, an XYZ file does not, and the seed is of both.
        tasks = (
            task_of(geometry._replace(multiplicity=said), Path(), method, n_points)
            for said in (None, 1)
        )
        grids = (
            shell_points(numbers, geometry.positions, n_points, np.random.default_rng(task.seed))
            for task in tasks
        )
        total, most = columns["grid_sum"][row], _SAME * n_points
        grid = next((g for g in grids if np.allclose(g.sum(axis=0), total, atol=most)), None)
        if grid is None:
            raise ValueError(f"{path}: the grid of {name} is not the one that was calculated")
        yield {
            "id": np.array(name),
            "vdw_surface": grid,
            **{key: columns[key][start:end] for key in _PER_ATOM},
            **{key: columns[key][row] for key in _PER_MOLECULE if key in columns},
            "Z": numbers,
        }


def unpack(paths: Sequence[Path], out: Path) -> int:
    """Writes the calculations of files of one level into an NPZ file that ``ingest`` reads.

    Returns:
        How many are in it.
    """
    levels = {str(np.load(path)["level"]) for path in paths}
    if len(levels) != 1:
        raise ValueError(f"expected files of one level of theory, found {sorted(levels)}")
    with tempfile.TemporaryDirectory() as folder:
        files: list[Path] = []
        for path in paths:
            for one in unpacked(path):
                files.append(Path(folder) / f"{len(files):06d}.npz")
                np.savez(files[-1], **cast("dict[str, Any]", one))
        gather(files, out, levels.pop())
    return len(files)


def main() -> None:
    """Packs or unpacks, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("out", type=Path)
    packing.add_argument("--level", default="PBE0/def2-TZVP")
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("paths", type=Path, nargs="+")
    unpacking.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if asked.command == "pack":
        done = pack(asked.folder, asked.out, asked.level)
    else:
        done = unpack(asked.paths, asked.out)
    print(f"{done:,} molecules")


if __name__ == "__main__":
    main()
