"""Stores for tests of whatever reads them: random molecules of given sizes."""

import numpy as np

from pipeline.store.molecules import StoreWriter
from store_schema import VARIABLES, SourceRecord, StoreSchema
from store_schema.names import ATOM, AXES, GRID_POINT, Variable

NAMES = (
    "molecule_id",
    "n_atoms",
    "n_grid",
    "atomic_numbers",
    "positions",
    "total_charge",
    "monopoles",
    "esp",
    "vdw_surface",
    "dipole",
    "quadrupole",
)
SPLIT = Variable("split", ("molecule",), "str", "none", "kept")


def random_columns(rng, n_atoms, n_grid, missing=0.2):
    """Returns padded columns of molecules of these sizes; targets are missing now and then."""
    n, A, G = len(n_atoms), max(n_atoms, default=1), max(n_grid, default=1)
    atom = np.arange(A) < np.asarray(n_atoms)[:, None]
    point = np.arange(G) < np.asarray(n_grid)[:, None]

    def values(*shape):
        return rng.normal(size=(n, *shape)).astype(np.float32)

    columns = {
        "n_atoms": np.asarray(n_atoms, np.int32),
        "n_grid": np.asarray(n_grid, np.int32),
        "atomic_numbers": np.where(atom, rng.integers(1, 18, (n, A)), 0).astype(np.int32),
        "positions": np.where(atom[..., None], values(A, 3) * 2, np.nan),
        "monopoles": np.where(atom, values(A), np.nan),
        "esp": np.where(point, values(G), np.nan),
        "vdw_surface": np.where(point[..., None], values(G, 3) * 4, np.nan),
        "total_charge": rng.integers(-1, 2, n).astype(np.float32),
        "dipole": values(3),
        "quadrupole": values(3, 3),
    }
    for name in ("total_charge", "monopoles", "esp", "dipole", "quadrupole"):
        columns[name][rng.random(n) < missing] = np.nan
    return columns


def write_store(path, columns, ids=None, split=None, append=False):
    """Writes columns as a store of one source; `append` adds another source."""
    n = len(columns["n_atoms"])
    columns = dict(columns)
    names = list(ids) if ids is not None else [f"C{i}/0" for i in range(n)]
    columns["molecule_id"] = np.array(names, dtype=object)
    variables = [VARIABLES[name] for name in NAMES if name in columns]
    if split is not None:
        columns["split"] = np.array(list(split), dtype=object)
        variables.append(SPLIT)
    sizes = {
        ATOM: columns["positions"].shape[1],
        GRID_POINT: columns["vdw_surface"].shape[1] if "vdw_surface" in columns else 0,
        **AXES,
    }
    with StoreWriter(path, variables, sizes, append=append) as writer:
        writer.write(n, columns)
        record = SourceRecord(convention="test", files=(), n_molecules=writer.n_molecules, keys={})
        writer.commit(
            StoreSchema(
                n_molecules=writer.n_molecules,
                max_atoms=writer.lengths[ATOM],
                max_grid=writer.lengths.get(GRID_POINT, 0),
                variables=tuple(variable.name for variable in writer.variables),
                units={v.name: v.unit for v in writer.variables if v.unit},
                sources=(record,),
                created_by="tests",
            )
        )
    return path
