"""Stores of random molecules, written block by block, and what they must hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pipeline import open_store
from pipeline.store.molecules import StoreWriter
from store_schema import VARIABLES, SourceRecord, StoreSchema
from store_schema.names import ATOM, GRID_POINT, XYZ, Variable

NAMES = (
    "molecule_id",
    "n_atoms",
    "n_grid",
    "atomic_numbers",
    "positions",
    "monopoles",
    "esp",
    "vdw_surface",
    "energy",
)
KEPT = Variable("occupation", ("molecule", "occupation_1"), "float64", "none", "kept")


def molecules(seed: int, n: int, atoms: int, grid: int) -> dict[str, np.ndarray]:
    """Padded arrays of random molecules, as ingest hands them to the writer."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.integers(1, atoms, n, endpoint=True).astype(np.int32)
    n_grid = rng.integers(1, grid, n, endpoint=True).astype(np.int32)
    no_atom = np.arange(atoms) >= n_atoms[:, None]
    no_point = np.arange(grid) >= n_grid[:, None]
    values: dict[str, np.ndarray] = {
        "molecule_id": np.array([f"{seed}é/{i}" for i in range(n)], dtype=object),
        "n_atoms": n_atoms,
        "n_grid": n_grid,
        "atomic_numbers": np.where(no_atom, 0, rng.integers(1, 18, (n, atoms))).astype(np.int32),
        "positions": rng.normal(size=(n, atoms, 3)).astype(np.float32),
        "monopoles": rng.normal(size=(n, atoms)).astype(np.float32),
        "esp": rng.normal(size=(n, grid)).astype(np.float32),
        "vdw_surface": rng.normal(size=(n, grid, 3)).astype(np.float32),
        "energy": rng.normal(size=n),
    }
    for name in ("positions", "monopoles"):
        values[name][no_atom] = np.nan
    for name in ("esp", "vdw_surface"):
        values[name][no_point] = np.nan
    return values


def schema(n: int, lengths: dict[str, int], n_quarantined: int = 0) -> StoreSchema:
    source = SourceRecord(convention="test", files=(), n_molecules=n, keys={})
    return StoreSchema(
        n_molecules=n,
        n_quarantined=n_quarantined,
        max_atoms=lengths.get(ATOM, 0),
        max_grid=lengths.get(GRID_POINT, 0),
        variables=NAMES,
        units={},
        sources=(source,),
        created_by="test",
    )


def write(
    store: Path, values: dict[str, np.ndarray], block: int = 50, append: bool = False, **options
) -> None:
    n = len(values["n_atoms"])
    sizes = {ATOM: values["positions"].shape[1], GRID_POINT: values["esp"].shape[1], XYZ: 3}
    variables = [VARIABLES[name] for name in values]
    with StoreWriter(store, variables, sizes, append=append, **options) as writer:
        for start in range(0, n, block):
            rows = slice(start, min(start + block, n))
            writer.write(rows.stop - start, {k: v[rows] for k, v in values.items()})
        writer.commit(schema(writer.n_molecules, writer.lengths))


def assert_holds(store: Path, *expected: dict[str, np.ndarray]) -> None:
    """The store holds these molecules one after the other, padded with what is missing."""
    dataset = open_store(store).to_dataset()
    row = 0
    for values in expected:
        for name, array in values.items():
            stored = dataset[name].to_numpy()[row : row + len(array)]
            inside = tuple(map(slice, array.shape))
            np.testing.assert_array_equal(stored[inside], array, err_msg=name)
            padding = np.ones(stored.shape, dtype=bool)
            padding[inside] = False
            if stored.dtype.kind == "f":
                assert np.isnan(stored[padding]).all()
            elif stored.dtype.kind == "i":
                assert not stored[padding].any()
        row += len(values["n_atoms"])
    assert dataset.sizes["molecule"] == row


def digest(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
