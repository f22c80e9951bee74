"""The same batches from other formats, each read the fastest way it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import grain
import numpy as np
import zarr

from pipeline.loader.batch import BatchShape

# One record a molecule in all of them: fields in this order, unpadded.
ATOM_FIELDS = {"atomic_numbers": 1, "positions": 3, "monopoles": 1}
GRID_FIELDS = {"esp": 1, "vdw_surface": 3}
MOLECULE_FIELDS = {"total_charge": 1, "dipole": 3, "quadrupole": 9}

Columns = dict[str, np.ndarray]
Batches = Sequence[tuple[np.ndarray, BatchShape]]


def record(columns: Columns, i: int) -> bytes:
    """Returns a molecule as numbers of four bytes: its two sizes, then every field."""
    A, G = int(columns["n_atoms"][i]), int(columns["n_grid"][i])
    parts = [np.array([A, G], np.int32)]
    parts += [columns[name][i, :A] for name in ATOM_FIELDS]
    parts += [columns[name][i] for name in MOLECULE_FIELDS]
    parts += [columns[name][i, :G] for name in GRID_FIELDS]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def empty_batch(n: int, shape: BatchShape) -> Columns:
    def zeros(length, width):
        return np.zeros((n, length * width), np.float32)

    batch = {name: zeros(shape.atoms, width) for name, width in ATOM_FIELDS.items()}
    batch["atomic_numbers"] = batch["atomic_numbers"].view(np.int32)
    batch |= {name: zeros(shape.grid_points, width) for name, width in GRID_FIELDS.items()}
    return batch | {name: zeros(1, width) for name, width in MOLECULE_FIELDS.items()}


def finish(batch: Columns, n_atoms: np.ndarray, n_grid: np.ndarray, shape: BatchShape) -> Columns:
    """Adds the masks, and gives the fields their dimensions."""
    n = len(n_atoms)
    for name in ("positions", "vdw_surface"):
        batch[name] = batch[name].reshape(n, -1, 3)
    batch["quadrupole"] = batch["quadrupole"].reshape(n, 3, 3)
    batch["total_charge"] = batch["total_charge"].reshape(n)
    batch["atom_mask"] = np.arange(shape.atoms) < n_atoms[:, None]
    batch["grid_mask"] = np.arange(shape.grid_points) < n_grid[:, None]
    return batch


def pad_records(records: Sequence[bytes | memoryview], shape: BatchShape) -> Columns:
    """Makes a batch of records: one copy a molecule and field."""
    batch = empty_batch(len(records), shape)
    sizes = np.empty((len(records), 2), np.int32)
    for i, data in enumerate(records):
        values = np.frombuffer(data, np.float32)
        A, G = sizes[i] = values[:2].view(np.int32)
        start = 2
        for fields, length in ((ATOM_FIELDS, A), (MOLECULE_FIELDS, 1), (GRID_FIELDS, G)):
            for name, width in fields.items():
                stop = start + length * width
                target = batch[name].view(np.float32)
                target[i, : length * width] = values[start:stop]
                start = stop
    return finish(batch, sizes[:, 0], sizes[:, 1], shape)


class ZarrPython:
    """Random rows of the store through zarr-python's orthogonal indexing."""

    def __init__(self, store: Path) -> None:
        group = zarr.open_group(store, mode="r")
        self._arrays = {name: group[name] for name in ("n_atoms", "n_grid", *_ALL)}

    def batches(self, wanted: Batches) -> Iterator[Columns]:
        for rows, shape in wanted:
            width = dict.fromkeys(ATOM_FIELDS, shape.atoms) | dict.fromkeys(
                GRID_FIELDS, shape.grid_points
            )
            batch = {}
            for name, array in self._arrays.items():
                cut = (slice(width[name]),) if name in width else ()
                batch[name] = np.nan_to_num(array.oindex[(rows, *cut)])
            n_atoms, n_grid = batch.pop("n_atoms"), batch.pop("n_grid")
            yield finish(batch, n_atoms, n_grid, shape)


class Lmdb:
    """Raw records in LMDB, seen in its memory map without a copy."""

    def __init__(self, path: Path, columns: Columns) -> None:
        import lmdb

        n = len(columns["n_atoms"])
        self._environment = lmdb.open(str(path), map_size=n * 64 * 2**10, lock=False)
        with self._environment.begin(write=True) as transaction:
            for i in range(n):
                transaction.put(i.to_bytes(4, "big"), record(columns, i), append=True)

    def batches(self, wanted: Batches) -> Iterator[Columns]:
        with self._environment.begin(buffers=True) as transaction:
            for rows, shape in wanted:
                yield pad_records(
                    [transaction.get(row.to_bytes(4, "big")) for row in rows.tolist()], shape
                )


class ArrayRecord:
    """Uncompressed records in ArrayRecord, read many at a call, by Grain's threads."""

    def __init__(self, path: Path, columns: Columns) -> None:
        from array_record.python import array_record_module

        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for i in range(len(columns["n_atoms"])):
            writer.write(record(columns, i))
        writer.close()
        self._source = grain.sources.ArrayRecordDataSource(str(path))

    def batches(self, wanted: Batches) -> Iterator[Columns]:
        def read(batch):
            rows, shape = batch
            return pad_records(self._source.__getitems__(rows.tolist()), shape)

        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
        return iter(grain.MapDataset.source(list(wanted)).map(read).to_iter_dataset(options))


class Atompack:
    """atompack, lz4, `get_molecules_flat`: atoms and grid points are atoms of one record.

    That call joins what every atom has; the ESP and its grid come as atoms without an
    element, which is how a grid of any length takes its fastest way.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        import atompack

        database = atompack.Database(str(path), compression="lz4")
        for i in range(len(columns["n_atoms"])):
            A, G = int(columns["n_atoms"][i]), int(columns["n_grid"][i])
            molecule = atompack.Molecule.from_arrays(
                np.concatenate([columns["positions"][i, :A], columns["vdw_surface"][i, :G]]),
                np.concatenate([columns["atomic_numbers"][i, :A], np.zeros(G)]).astype(np.uint8),
            )
            values = np.concatenate([columns["monopoles"][i, :A], columns["esp"][i, :G]])
            molecule.set_property("value", values, scope="atom")
            whole = [np.ravel(columns[name][i]) for name in MOLECULE_FIELDS]
            molecule.set_property("whole", np.concatenate(whole), scope="molecule")
            database.add_molecule(molecule)
        database.flush()
        self._database = atompack.Database.open(str(path))
        self._n_atoms = columns["n_atoms"]

    def batches(self, wanted: Batches) -> Iterator[Columns]:
        for rows, shape in wanted:
            flat = self._database.get_molecules_flat(rows.tolist())
            n_atoms = self._n_atoms[rows]
            lengths = flat["n_atoms"].astype(np.int64)
            batch = empty_batch(len(rows), shape)
            positions, values = flat["positions"], flat["atom_properties"]["value"]
            numbers = flat["atomic_numbers"]
            starts = np.cumsum(lengths) - lengths
            for i, (start, A, length) in enumerate(
                zip(starts.tolist(), n_atoms.tolist(), lengths.tolist(), strict=True)
            ):
                grid, stop, G = start + A, start + length, length - A
                batch["atomic_numbers"][i, :A] = numbers[start:grid]
                batch["positions"][i, : 3 * A] = positions[start:grid].reshape(-1)
                batch["monopoles"][i, :A] = values[start:grid]
                batch["esp"][i, :G] = values[grid:stop]
                batch["vdw_surface"][i, : 3 * G] = positions[grid:stop].reshape(-1)
            start, whole = 0, flat["properties"]["whole"].reshape(len(rows), -1)
            for name, width in MOLECULE_FIELDS.items():
                batch[name] = whole[:, start : start + width]
                start += width
            yield finish(batch, n_atoms, lengths - n_atoms, shape)


_ALL = (*ATOM_FIELDS, *GRID_FIELDS, *MOLECULE_FIELDS)
