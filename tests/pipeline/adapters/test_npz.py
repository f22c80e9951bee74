"""NPZ files that nobody vouches for."""

from __future__ import annotations

import contextlib
import io
import pickle
import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmnet.cli import main
from pipeline import ingest, read_schema
from pipeline.adapters import discover
from pipeline.adapters.array_file import spilled
from pipeline.adapters.npz import NpzFile
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.problems import DcmError, SourceError

# What is odd in a file is refused or set aside knowingly, not by numbers that go wrong.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

CLASSIC = sample_sources()[0]
SINGLE = sample_sources()[3] / "000_esp_pyscf.npz"


def member(header: bytes, data: bytes = b"") -> bytes:
    padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


def archive(path: Path, members: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_of_numpy(tmp_path, rng, compressed, order):
    values = np.asarray(rng.normal(size=(23, 4, 3)), order=order)
    texts = np.array([f"molecule {i}" for i in range(23)])
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", values=values, texts=texts)
    file = NpzFile(tmp_path / "a.npz")
    np.testing.assert_array_equal(file.read("values"), values)
    rows = list(file.rows("values", 23, iter([10, 10, 3])))
    np.testing.assert_array_equal(np.concatenate(rows), values.reshape(23, 12))
    np.testing.assert_array_equal(
        np.concatenate(list(file.rows("texts", 23, iter([23])))).ravel(), texts
    )
    np.testing.assert_array_equal(spilled(file, "values", 23), values.reshape(23, 12))


class Bomb:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def test_objects_are_refused_and_nothing_is_executed(tmp_path):
    bomb = Bomb(tmp_path / "executed")
    np.savez(tmp_path / "a.npz", Z=np.array([bomb], dtype=object))
    with pytest.raises(SourceError, match="--allow-pickle"):
        discover([tmp_path / "a.npz"])
    assert not bomb.place.exists()
    pickle.loads(pickle.dumps(bomb)).close()
    assert bomb.place.exists()  # it would have


def test_objects_that_are_no_data_are_left_out_unread(tmp_path):
    bomb = Bomb(tmp_path / "executed")
    with np.load(CLASSIC) as raw:
        columns = {key: raw[key][:3] for key in raw.files}
    np.savez(tmp_path / "a.npz", **columns, about=np.array({"by": bomb}, dtype=object))
    (source,) = discover([tmp_path / "a.npz"])
    assert "about" not in source.columns
    assert "Python objects" in source.layout.ignored["about"]
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    assert any("about is not stored" in warning for warning in report.warnings)
    assert not bomb.place.exists()


def test_objects_that_are_numbers_can_be_allowed(tmp_path):
    np.savez(
        tmp_path / "a.npz", E=np.array([1.5, None], dtype=object), s=np.array(["a"], dtype=object)
    )
    file = NpzFile(tmp_path / "a.npz", allow_pickle=True)
    np.testing.assert_array_equal(file.read("E"), [1.5, np.nan])
    assert list(file.read("s")) == ["a"]


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**30,), }",
        b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
        b"__import__('os').abort()",
        b"(" * 500,
    ],
)
def test_a_header_that_claims_too_much_is_an_error(tmp_path, header):
    path = archive(tmp_path / "a.npz", {"R.npy": member(header, b"\0" * 16)})
    with pytest.raises(SourceError):
        NpzFile(path)


def test_a_zip_bomb_is_an_error(tmp_path):
    shape = 4 * 10**6
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % shape
    path = archive(tmp_path / "a.npz", {"R.npy": member(header, b"\0" * shape)})
    assert NpzFile(path).columns["R"].shape == (shape,)  # deflate can do a thousandfold
    raw = bytearray(path.read_bytes())
    central = raw.rfind(b"PK\x01\x02")
    raw[central + 24 : central + 28] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(SourceError):
        NpzFile(path)


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path):
    raw = bytearray(SINGLE.read_bytes())
    with zipfile.ZipFile(SINGLE) as file:
        info = file.getinfo("esp.npy")
    raw[info.header_offset + info.file_size // 2] ^= 0x10
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(SourceError, match="esp"):
        ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    assert not list(tmp_path.glob("*.zarr"))


PADDED = sample_sources()[0]


def small_padded() -> bytes:
    with np.load(PADDED) as raw, io.BytesIO() as file:
        np.savez_compressed(file, **{key: raw[key][:5] for key in raw.files})
        return file.getvalue()


WHOLE = (SINGLE.read_bytes(), small_padded())


def right_or_one_error(folder: Path, *, by_command: bool) -> None:
    """What must come of any file: a sound store, or one refusal that leaves nothing."""
    store = folder / "a.zarr"
    refused = commanded(folder / "a.npz", store) if by_command else called(folder / "a.npz", store)
    if refused:
        assert [path.name for path in folder.iterdir()] == ["a.npz"]
    else:
        assert read_schema(store).n_molecules > 0
        assert validate_store(store).problems == ()


def called(source: Path, store: Path) -> bool:
    """Ingests in this program; says whether it was refused."""
    try:
        ingest([source], store)
    except DcmError:
        return True
    return False


def commanded(source: Path, store: Path) -> bool:
    """Ingests by the command; says whether it was refused, which must take one line."""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["dcmnet", "ingest", str(source), "--store", str(store)]
    with (
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    said = err.getvalue()
    if not ended.value.code:
        assert said == ""
        return False
    assert ended.value.code == 1
    first, *others = said.splitlines()
    assert first.startswith("Error: ")
    assert "should not happen" not in first
    assert all(line.startswith("       ") for line in others)  # more problems of the same kind
    return True


FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


def flipped_bytes(tmp_path_factory, which, flips, end, by_command):
    folder = tmp_path_factory.mktemp("mutated")
    raw = bytearray(WHOLE[which])
    for place, value in flips:
        raw[int(place * len(raw))] = value
    (folder / "a.npz").write_bytes(raw if end is None else raw[: int(end * len(raw))])
    right_or_one_error(folder, by_command=by_command)
    shutil.rmtree(folder)


ODD_VALUES = (np.nan, np.inf, -np.inf, 0, -1, 1e300, 1e6, 255)
ODD_TYPES = ("f2", "f4", "i1", "u8", "?", "U3", "S2", "c8", "M8[s]")


KEYS = (
    ("Z", "R", "esp", "esp_grid", "dipole", "quadrupole"),
    ("Z", "R", "N", "mono", "esp", "vdw_surface", "n_grid", "D", "Dxyz", "com", "id"),
)
KINDS = ("value", "nothing", "all", "type", "cut", "repeat", "axes", "missing", "twin", "bomb")


@st.composite
def changes(draw, which):
    """A change of one array: its values, type, length, number of axes, or name."""
    key, kind = draw(st.sampled_from(KEYS[which])), draw(st.sampled_from(KINDS))
    return key, kind, draw(st.integers(0, 2**16)), draw(st.sampled_from(ODD_VALUES))


def changed(columns, change, folder):
    key, kind, number, value = change
    array = columns.get(key)
    if array is None or array.dtype.kind not in "biuf":
        return columns
    if kind == "value" and array.size:
        array = array.astype(np.float64)
        array.flat[number % array.size] = value
    elif kind == "nothing":
        array = np.zeros_like(array)
    elif kind == "all":
        array = np.full(array.shape, value)
    elif kind == "bomb":
        array = np.array([Bomb(folder / "executed")], dtype=object)
    elif kind == "type":
        plain = np.nan_to_num(array.astype(np.float64))
        array = plain.astype(ODD_TYPES[number % len(ODD_TYPES)])
    elif kind == "cut" and array.ndim:
        array = array[: number % (len(array) + 1)]
    elif kind == "repeat" and array.ndim:
        array = np.concatenate([array] * (1 + number % 3))
    elif kind == "axes":
        array = (array[None], array[..., None], array.ravel(), array.T)[number % 4]
    elif kind == "missing":
        return {k: v for k, v in columns.items() if k != key}
    elif kind == "twin":
        return {**columns, key.swapcase(): array}
    return {**columns, key: array}


def changed_arrays(tmp_path_factory, which, drawn, by_command):
    folder = tmp_path_factory.mktemp("changed")
    with np.load(io.BytesIO(WHOLE[which])) as raw:
        columns = {key: raw[key] for key in raw.files}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for change in drawn:
            columns = changed(columns, change, folder)
    np.savez(folder / "a.npz", **columns)
    right_or_one_error(folder, by_command=by_command)
    shutil.rmtree(folder)


MUTATED = given(
    st.integers(0, 1),
    FLIPS,
    st.one_of(st.none(), st.none(), st.floats(0, 1, exclude_max=True)),
    st.booleans(),
)
CHANGED = given(
    st.integers(0, 1).flatmap(
        lambda which: st.tuples(st.just(which), st.lists(changes(which), min_size=1, max_size=3))
    ),
    st.booleans(),
)
QUIET = [HealthCheck.too_slow]


@settings(max_examples=8, suppress_health_check=QUIET)
@MUTATED
def test_a_mutated_file_is_right_or_one_error(tmp_path_factory, which, flips, end, by_command):
    flipped_bytes(tmp_path_factory, which, flips, end, by_command)


@settings(max_examples=12, suppress_health_check=QUIET)
@CHANGED
def test_changed_arrays_are_right_or_one_error(tmp_path_factory, drawn, by_command):
    changed_arrays(tmp_path_factory, *drawn, by_command)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=QUIET)
@MUTATED
def test_a_thousand_mutated_files(tmp_path_factory, which, flips, end, by_command):
    flipped_bytes(tmp_path_factory, which, flips, end, by_command)


@pytest.mark.slow
@settings(max_examples=1200, suppress_health_check=QUIET)
@CHANGED
def test_a_thousand_changed_files(tmp_path_factory, drawn, by_command):
    changed_arrays(tmp_path_factory, *drawn, by_command)


def test_a_missing_or_empty_source_is_one_error(tmp_path):
    for source in (tmp_path / "none.npz", tmp_path, tmp_path / "*.npz"):
        with pytest.raises(SourceError, match="nothing was read"):
            ingest([source], tmp_path / "a.zarr")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(SourceError, match="atomic numbers"):
        ingest([tmp_path / "other.npz"], tmp_path / "a.zarr")
    (tmp_path / "other.npz").write_bytes(io.BytesIO(b"not a zip").getvalue())
    with pytest.raises(SourceError, match="readable NPZ"):
        ingest([tmp_path / "other.npz"], tmp_path / "a.zarr")


@pytest.mark.parametrize("as_lists", [False, True])
def test_arrays_of_each_molecule_are_padded(tmp_path, as_lists):
    """As ``np.array(list_of_arrays, dtype=object)`` leaves them in a file."""
    rng = np.random.default_rng(0)
    sizes = (3, 1, 5)
    parts = {
        "R": [rng.normal(size=(n, 3)) for n in sizes],
        "Z": [rng.integers(1, 9, n) for n in sizes],
        "symbols": [np.array(["H", "He"])[rng.integers(0, 2, n)] for n in sizes],
    }
    arrays = {}
    for key, of_each in parts.items():
        arrays[key] = np.empty(3, dtype=object)
        arrays[key][:] = [part.tolist() for part in of_each] if as_lists else of_each
    np.savez(tmp_path / "a.npz", **arrays)
    file = NpzFile(tmp_path / "a.npz", allow_pickle=True)
    assert file.columns["R"].shape == (3, 5, 3)
    for key, padding in (("R", np.nan), ("Z", 0), ("symbols", "")):
        read = file.read(key)
        np.testing.assert_array_equal(file.pick(key, 3, np.array([0, 2])), read.reshape(3, -1)[::2])
        for row, part in zip(read, parts[key], strict=True):
            np.testing.assert_array_equal(row[: len(part)], part)
            np.testing.assert_array_equal(row[len(part) :], np.full_like(row[len(part) :], padding))


@pytest.mark.parametrize(
    "parts", [[np.ones((2, 3)), np.ones((2, 4))], [np.ones(2), np.float64(1.0)], [[1, [2]], [3]]]
)
def test_arrays_that_differ_in_more_than_length_are_refused(tmp_path, parts):
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    np.savez(tmp_path / "a.npz", a=array)
    with pytest.raises(SourceError):
        NpzFile(tmp_path / "a.npz", allow_pickle=True)
