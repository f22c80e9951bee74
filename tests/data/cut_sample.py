"""Cuts the bundled sample out of the reference data: ``cut_sample.py REFERENCE TARGET``.

Rows are taken whole. Grid coordinates are rounded to 2^-13 Å and potentials to 2^-21
hartree/e (in kcal/mol/e: 2^-12), a thousandth of what a model can learn, because deflate
then halves the files.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

_LIGHT = [0, 1, 6, 7, 8, 9]


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Rounds to multiples of 2^-bits; padding stays as it is."""
    with np.errstate(invalid="ignore"):
        return np.round(values * 2.0**bits).astype(np.float64).astype(np.float32) / np.float32(
            2.0**bits
        )


def cut(source: Path, target: Path, rows: np.ndarray, esp_bits: int = 21) -> None:
    """Writes some rows of a padded file."""
    with np.load(source) as raw:
        columns = {key: raw[key][rows] for key in raw.files}
    for key, values in columns.items():
        if key in ("vdw_surface", "esp_grid", "vdw_grid"):
            columns[key] = rounded(values, 13)
        elif key == "esp":
            columns[key] = rounded(values, esp_bits)
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **columns)


def families(ids: np.ndarray, chosen: np.ndarray, n: int) -> np.ndarray:
    """Rows of the first families of conformers, whole, until there are ``n``."""
    names = np.array([name.split("/")[0] for name in ids])
    rows: list[int] = []
    for family in dict.fromkeys(names[chosen]):
        if len(rows) >= n:
            break
        rows += list(np.flatnonzero((names == family) & chosen))
    return np.array(sorted(rows))


def main(reference: Path, target: Path) -> None:
    """Cuts all four parts."""
    with np.load(reference / "qm_classic.npz") as raw:
        light = np.isin(raw["Z"], _LIGHT).all(axis=1)
        rows = families(raw["id"], light, 80)
    cut(reference / "qm_classic.npz", target / "classic.npz", rows)
    with np.load(reference / "ions_kcal.npz") as raw:
        light = np.isin(raw["atomic_numbers"], _LIGHT).all(axis=1)
        rows = families(raw["ids"], light, 60)
    cut(reference / "ions_kcal.npz", target / "ions.npz", rows, esp_bits=12)
    with np.load(reference / "split_by_role" / "energies_forces_dipoles.npz") as raw:
        light = np.isin(raw["Z"], _LIGHT).all(axis=1)
        charged = families(raw["id"], light & (raw["Q"] != 0), 12)
        neutral = families(raw["id"], light & (raw["Q"] == 0), 32)
        rows = np.sort(np.concatenate([charged, neutral]))
    for name in ("energies_forces_dipoles.npz", "grids_esp.npz"):
        cut(reference / "split_by_role" / name, target / "split_by_role" / name, rows)
    singles = sorted((reference / "one_file_per_molecule").glob("*.npz"))[:8]
    for path in singles:
        (target / "one_file_per_molecule").mkdir(exist_ok=True)
        shutil.copyfile(path, target / "one_file_per_molecule" / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
