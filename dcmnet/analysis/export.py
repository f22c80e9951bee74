"""Files of an analysis, in the formats that other programs read; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr

from pipeline.files import replaced, write_text
from pipeline.store.layout import MOLECULES_PER_BLOCK
from store_schema.names import MOLECULE, RESULTS_GROUP
from store_schema.problems import ConfigError

# JSON holds the statistics, NetCDF the results group with its molecules, and the others
# the table of molecules. Pickles are written for those who use them, and never read.
Format = Literal["json", "csv", "parquet", "pkl", "netcdf"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

# Of the molecules, what makes a results group readable without the store.
_IDENTITY: Final = (
    "molecule_id",
    "n_atoms",
    "n_grid",
    "atomic_numbers",
    "positions",
    "total_charge",
)


def parse_formats(text: str) -> tuple[Format, ...]:
    """Reads a list of formats, such as ``csv,parquet``.

    Raises:
        ConfigError: A format is unknown.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise ConfigError.of(
            "--export",
            wrong=f"{text!r} names no formats; there are {', '.join(FORMATS)}, with commas between",
            consequence="nothing was started",
            remedy="Write it like --export csv,parquet",
        )
    return tuple(name for name in FORMATS if name in names)


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Writes a document and returns where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(document, indent=2) + "\n")
    return path


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Writes a table as the suffix says (``.csv``, ``.parquet``, ``.pkl``) and returns where."""
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda partial: table.to_csv(partial, index=table.index.name is not None),
        ".parquet": table.to_parquet,
        ".pkl": table.to_pickle,
    }
    with replaced(path) as partial:
        writers[path.suffix](partial)
    return path


def write_netcdf(path: Path, tree: xr.DataTree, name: str) -> Path:
    """Writes a results group and its molecules as NetCDF 4, block by block.

    Args:
        path: The file.
        tree: The store.
        name: Name of the results group; only molecules it analysed are written.

    Returns:
        The file.
    """
    results = tree[f"{RESULTS_GROUP}/{name}"].to_dataset()
    molecules = tree.to_dataset()
    columns = {name: molecules[name].variable for name in _IDENTITY if name in molecules}
    columns |= {str(name): array for name, array in results.variables.items()}
    rows = np.flatnonzero(results["split"].values != "")
    sizes = {**molecules.sizes, **results.sizes, MOLECULE: rows.size}

    with replaced(path) as partial, netCDF4.Dataset(partial, "w") as file:
        file.setncatts(
            {
                str(key): value if isinstance(value, str | int | float) else json.dumps(value)
                for key, value in results.attrs.items()
            }
        )
        for dim in {str(dim) for array in columns.values() for dim in array.dims}:
            file.createDimension(dim, sizes[dim])
        for column, array in columns.items():
            _write_variable(file, column, array, rows)

    return path


def _write_variable(file: netCDF4.Dataset, name: str, array: xr.Variable, rows: np.ndarray) -> None:
    is_text = array.dtype.kind not in "iufb"
    kind = str if is_text else f"{array.dtype.kind}{array.dtype.itemsize}"
    variable = file.createVariable(
        name,
        kind,
        tuple(map(str, array.dims)),
        zlib=not is_text,
        fill_value=np.nan if array.dtype.kind == "f" else None,
    )
    variable.setncatts({k: v for k, v in array.attrs.items() if k in ("units", "description")})
    for start, block in _blocks(array, rows):
        variable[start : start + len(block)] = block.astype(object) if is_text else block


def _blocks(array: xr.Variable, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the rows of an array in blocks of the store's chunks, with where each belongs."""
    for first in range(0, array.sizes[MOLECULE], MOLECULES_PER_BLOCK):
        start, stop = np.searchsorted(rows, (first, first + MOLECULES_PER_BLOCK))
        if stop > start:
            block = array.isel({MOLECULE: slice(first, first + MOLECULES_PER_BLOCK)}).values
            yield int(start), block[rows[start:stop] - first]


def write_formats(
    folder: Path, formats: Sequence[Format], tree: xr.DataTree, name: str, table: pd.DataFrame
) -> list[Path]:
    """Writes what an analysis does not write anyway: Parquet, pickle and NetCDF."""
    written = [
        write_table(folder / f"predictions.{suffix}", table)
        for suffix in ("parquet", "pkl")
        if suffix in formats
    ]
    if "netcdf" in formats:
        written.append(write_netcdf(folder / "predictions.nc", tree, name))
    return written
