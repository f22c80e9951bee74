"""Damaged and hostile files of every format: one error, or a store; nothing else is touched."""

from __future__ import annotations

import ase.db
import ase.io
import h5py
import numpy as np
import pytest

from pipeline import ingest
from pipeline.adapters import discover
from pipeline.sample import sample_sources
from store_schema.problems import SourceError
from tests.hostile import mutate
from tests.pipeline.adapters.ingest_all import REFUSED, STORED, in_a_process
from tests.pipeline.adapters.written_formats import HDF5, XYZ, extended_xyz, flat_hdf5

FEW, MANY = 5, 300
FORMATS = [*HDF5, *XYZ, "database"]


@pytest.fixture(scope="module")
def columns():
    with np.load(sample_sources()[0]) as raw:
        return {key: raw[key][:4].copy() for key in ("Z", "R", "mono")}


def written(name, folder, columns):
    counts = (columns["Z"] > 0).sum(axis=1)
    if name != "database":
        return {**HDF5, **XYZ}[name](folder / "a", columns, counts)
    with ase.db.connect(folder / "a.db") as rows:
        for atoms in ase.io.read(extended_xyz(folder / "a", columns, counts), ":"):
            rows.write(atoms, data={"mono": atoms.arrays.pop("mono")})
    return folder / "a.db"


def try_all(name, folder, columns, seeds):
    whole = written(name, folder, columns)
    paths, done = [], []
    for seed in seeds:
        (place := folder / f"{seed}").mkdir()
        paths.append(place / whole.name)
        paths[-1].write_bytes(whole.read_bytes())
        done.append(f"seed {seed}: {mutate(place, np.random.default_rng(seed))}")
    check_outcomes(paths, done)


def check_outcomes(paths, done):
    """Each file is stored or refused, and none crashes the process."""
    outcomes = in_a_process(paths)
    for said, outcome in zip(done, outcomes, strict=False):
        assert outcome in (STORED, REFUSED), f"{said}; {outcome}"
    assert len(outcomes) == len(done), f"{done[len(outcomes)]}: the process died"


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_of_any_format_is_stored_or_one_error(name, columns, tmp_path):
    try_all(name, tmp_path, columns, range(FEW))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FORMATS)
def test_many_mutated_files_of_any_format_are_stored_or_one_error(name, columns, tmp_path):
    try_all(name, tmp_path, columns, range(FEW, FEW + MANY))


@pytest.fixture
def secret(columns, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["R"] = columns["R"]
    return tmp_path / "secret.h5"


def virtual(file, secret, columns):
    layout = h5py.VirtualLayout(columns["R"].shape, columns["R"].dtype)
    layout[:] = h5py.VirtualSource(secret, "R", columns["R"].shape)
    file.create_virtual_dataset("R", layout)


def external_values(file, secret, columns):
    size = columns["R"].nbytes
    raw = secret.with_suffix(".raw")
    raw.write_bytes(columns["R"].tobytes())
    file.create_dataset("R", columns["R"].shape, columns["R"].dtype, external=[(str(raw), 0, size)])


def external_link(file, secret, columns):
    file["R"] = h5py.ExternalLink(secret, "R")


def soft_link_through_an_external_one(file, secret, columns):
    file["elsewhere"] = h5py.ExternalLink(secret, "/")
    file["R"] = h5py.SoftLink("/elsewhere/R")


@pytest.mark.parametrize(
    "point", [virtual, external_values, external_link, soft_link_through_an_external_one]
)
def test_values_in_another_file_are_not_read(point, secret, columns, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["Z"] = columns["Z"]
        point(file, secret, columns)
    with pytest.raises(SourceError, match=r"in another file|positions \(R\)"):
        ingest([tmp_path / "a.h5"], tmp_path / "a.zarr")


def test_values_that_were_never_written_are_not_zeros(columns, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["Z"], file["R"] = columns["Z"], columns["R"]
        file.create_dataset("mono", columns["mono"].shape, chunks=True, dtype="f8")
    with pytest.raises(SourceError, match="bytes only 0 are there"):
        ingest([tmp_path / "a.h5"], tmp_path / "a.zarr")


def test_an_absurd_size_is_an_error(columns, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("Z", (10**12, 4), "i8", chunks=(1000, 4))
        file.create_dataset("R", (10**12, 4, 3), "f8", chunks=(1000, 4, 3))
    with pytest.raises(SourceError, match="are there"):
        ingest([tmp_path / "a.h5"], tmp_path / "a.zarr")


def test_groups_that_hold_themselves_are_read_once(columns, tmp_path):
    path = HDF5["HDF5, a group per molecule"](tmp_path / "a", columns, [4] * 4)
    with h5py.File(path, "a") as file:
        file["part0000/molecule000000/again"] = file["part0000"]
        file["part0000/once more"] = file["part0000/molecule000000"]
        file["root"] = file["/"]
    (source,) = discover([path])
    assert source.layout.n_molecules == len(columns["Z"])


def test_groups_without_end_are_an_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("/".join("a" * 100))
    with pytest.raises(SourceError, match="deep"):
        discover([tmp_path / "a.h5"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("999999999999\nwater\nO 0 0 0\n", "ends after"),
        ("-3\nwater\nO 0 0 0\n", "number of atoms"),
        ("1\nwater\nQq 0 0 0\n", "symbol"),
        ("1\nwater\nO 0 0\n", "frame 0"),
        ("1\nwater\nO 0 0 zero\n", "frame 0"),
        ("", "it has none"),
    ],
)
def test_a_wrong_frame_is_named(text, said, tmp_path):
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(SourceError, match=said):
        discover([tmp_path / "a.xyz"])


def test_a_file_that_is_none_of_its_format_is_an_error(tmp_path):
    for suffix in (".npz", ".h5", ".xyz", ".traj", ".db"):
        (tmp_path / f"a{suffix}").write_bytes(b"\x93 none of this \0\xff" * 40)
        with pytest.raises(SourceError):
            discover([tmp_path / f"a{suffix}"])


def test_units_that_differ_between_groups_are_an_error(columns, tmp_path):
    path = HDF5["HDF5, a group per molecule"](tmp_path / "a", columns, [4] * 4)
    with h5py.File(path, "a") as file:
        for name, unit in (("molecule000000", "angstrom"), ("molecule000001", "bohr")):
            file[f"part0000/{name}/R"].attrs["units"] = unit
    with pytest.raises(SourceError, match="'angstrom' in the groups before"):
        discover([path])


def test_an_unread_dataset_is_refused_only_where_it_is_needed(columns, tmp_path):
    path = flat_hdf5(tmp_path / "a", columns, None)
    with h5py.File(path, "a") as file:
        file.create_dataset("ragged", (4,), h5py.vlen_dtype(np.float64))
    report = ingest([path], tmp_path / "a.zarr")
    assert any("ragged is not stored" in warning for warning in report.warnings)
    with h5py.File(path, "a") as file:
        file.create_dataset("esp", (4,), h5py.vlen_dtype(np.float64))
    with pytest.raises(SourceError, match="neither numbers nor text"):
        ingest([path], tmp_path / "b.zarr")
