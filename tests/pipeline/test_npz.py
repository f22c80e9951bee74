"""NPZ files that nobody vouches for."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ingest
from pipeline.adapters.npz import NpzFile
from pipeline.sample import sample_sources
from store_schema.problems import DcmError, SourceError

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
    np.testing.assert_array_equal(file.spilled("values", 23), values.reshape(23, 12))


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_objects_are_refused_and_nothing_is_executed(tmp_path):
    np.savez(tmp_path / "a.npz", Z=np.array([Bomb()], dtype=object))
    with pytest.raises(SourceError, match="--allow-pickle"):
        NpzFile(tmp_path / "a.npz")
    assert pickle.dumps(Bomb())


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
        b"{'descr': 'O8', 'fortran_order': False, 'shape': (1,), }",
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


WHOLE = SINGLE.read_bytes()


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=0, max_size=6
    ),
    st.one_of(st.none(), st.integers(0, len(WHOLE))),
)
def test_a_mutated_file_is_right_or_one_error(tmp_path_factory, flips, length):
    folder = tmp_path_factory.mktemp("mutated")
    raw = bytearray(WHOLE)
    for place, value in flips:
        raw[place] = value
    (folder / "a.npz").write_bytes(raw[:length])
    try:
        report = ingest([folder / "a.npz"], folder / "a.zarr")
    except DcmError:
        assert [path.name for path in folder.iterdir()] == ["a.npz"]
    else:
        assert report.n_molecules + report.n_quarantined == 1
        assert (folder / "a.zarr" / "zarr.json").exists()


def test_a_missing_or_empty_source_is_one_error(tmp_path):
    for source in (tmp_path / "none.npz", tmp_path, tmp_path / "*.npz"):
        with pytest.raises(SourceError, match="nothing to ingest"):
            ingest([source], tmp_path / "a.zarr")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(SourceError, match="atomic numbers"):
        ingest([tmp_path / "other.npz"], tmp_path / "a.zarr")
    (tmp_path / "other.npz").write_bytes(io.BytesIO(b"not a zip").getvalue())
    with pytest.raises(SourceError, match="readable NPZ"):
        ingest([tmp_path / "other.npz"], tmp_path / "a.zarr")
