"""NPZ files that nobody vouches for: headers are checked before anything is allocated."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Column
from pipeline.files import replaced
from store_schema.problems import SourceError

# Deflate cannot do better than 1032:1 (zlib, Technical Details); what claims to is a bomb.
_MAX_DEFLATE_RATIO: Final = 1100
_MAX_HEADER: Final = 10_000
_COPY_BYTES: Final = 2**22
# .ZIP File Format Specification 4.3.7; the last two are the lengths of name and extra field.
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_READABLE_KINDS: Final = "biufUS"
# What zipfile, zlib and numpy's header parser raise at bytes that mean nothing.
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    OSError,
    ArithmeticError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    RuntimeError,  # also: encrypted, a compression zipfile does not know, nested too deep
)


class _Member(NamedTuple):
    info: zipfile.ZipInfo
    column: Column
    fortran_order: bool
    offset: int  # of the data behind the .npy header
    place: int | None  # of the .npy header in the file, where it is stored as it is

    @property
    def by_rows(self) -> bool:
        """Whether rows lie one after the other as plain numbers or text."""
        plain = self.column.dtype.itemsize > 0 and not self.column.dtype.hasobject
        return plain and not self.fortran_order and self.info.file_size > self.offset


class NpzFile:
    """The arrays of one NPZ file; see ``pipeline.adapters.array_file.ArrayFile``.

    Attributes:
        path: The file.
        columns: Header of each array, by key.
        objects: Keys of arrays of Python objects, which are not read.
        attributes: None; NPZ files have only arrays.
    """

    def __init__(self, path: Path, allow_pickle: bool = False) -> None:
        """Reads and checks the headers.

        Args:
            path: The file.
            allow_pickle: Admit object arrays, which can execute code when read.

        Raises:
            SourceError: It is no NPZ file, or an array is not what its header says.
        """
        self.path = path
        # Whoever gets it by pickle may be at work in another folder.
        self._file = path.absolute()
        self._unpacked: Path | None = None
        self.attributes: Mapping[str, str] = {}
        self._members: dict[str, _Member] = {}
        with self._damage_reported(), zipfile.ZipFile(self._file) as archive:
            size = path.stat().st_size
            for info in archive.infolist():
                key = info.filename.removesuffix(".npy")
                if key in self._members:
                    raise ValueError(f"two arrays named {key!r}")
                if info.filename.endswith(".npy"):
                    self._members[key] = self._member(archive, info, size)
        self.objects: tuple[str, ...] = tuple(
            key
            for key, member in self._members.items()
            if member.column.dtype.hasobject and not allow_pickle
        )
        self.columns: Mapping[str, Column] = {
            key: self._column(key) for key in self._members if key not in self.objects
        }

    def _column(self, key: str) -> Column:
        """Header of an array; of objects, that of the array that they make."""
        column = self._members[key].column
        if not column.dtype.hasobject:
            return column
        made = self.read(key)
        return Column(made.shape, made.dtype)

    def read(self, key: str) -> np.ndarray:
        """Reads one array whole; see ``ArrayFile.read``."""
        member = self._members[key]
        with (
            self._damage_reported(key),
            zipfile.ZipFile(self._file) as archive,
            archive.open(member.info) as stream,
        ):
            if member.column.dtype.hasobject:
                return _plain(np.lib.format.read_array(stream, allow_pickle=True))
            stream.read(member.offset)
            return _array(stream.read, member, member.column.shape)

    def rows(self, key: str, n: int, sizes: Iterator[int]) -> Iterator[np.ndarray]:
        """Reads an array in step, as flat rows; see ``ArrayFile.rows``."""
        member = self._members[key]
        width = math.prod(self.columns[key].shape) // n
        if not member.by_rows:
            flat = self.read(key).reshape(n, width)
            start = 0
            for size in sizes:
                yield flat[start : start + size]
                start += size
            return
        if member.place is not None:
            yield from self._mapped(key, member, n, width, sizes)
            return
        with zipfile.ZipFile(self._file) as archive, archive.open(member.info) as stream:
            with self._damage_reported(key):
                stream.read(member.offset)
            for size in sizes:
                with self._damage_reported(key):
                    rows = _array(stream.read, member, (size, width))
                yield rows

    def _mapped(
        self, key: str, member: _Member, n: int, width: int, sizes: Iterator[int]
    ) -> Iterator[np.ndarray]:
        """Maps the rows of a stored array one window after the other, and checks their sum."""
        assert member.place is not None
        start = 0
        with self._file.open("rb") as file, self._damage_reported(key):
            file.seek(member.place)
            checksum = zlib.crc32(file.read(member.offset))
        for size in sizes:
            with self._damage_reported(key):
                rows = self._window(member, start, size, width)
                checksum = zlib.crc32(rows.data, checksum) if size else checksum
                start += size
                if start == n and checksum != member.info.CRC:
                    raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.info.filename!r}")
            yield rows

    def _window(self, member: _Member, start: int, size: int, width: int) -> np.ndarray:
        """Maps some rows of a stored array, for as long as the array lives."""
        assert member.place is not None
        dtype = member.column.dtype
        if not size:
            return np.empty((0, width), dtype)
        offset = member.place + member.offset + start * width * dtype.itemsize
        return np.memmap(self._file, dtype, mode="r", offset=offset, shape=(size, width))

    def pick(self, key: str, n: int, rows: Int[np.ndarray, " row"]) -> np.ndarray:
        """Reads some rows; checksums are left to ``rows``. See ``ArrayFile.pick``."""
        member = self._members[key]
        width = math.prod(self.columns[key].shape) // n
        if self._unpacked is not None and (copy := self._place(key, self._unpacked)).exists():
            mapped = np.load(copy, mmap_mode="r", max_header_size=_MAX_HEADER)
            consecutive = rows[-1] - rows[0] == len(rows) - 1
            chosen = slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else rows
            return np.asarray(mapped.reshape(n, width)[chosen])
        if not member.by_rows:
            return self.read(key).reshape(n, width)[rows]
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        runs = [(int(run[0]), len(run)) for run in np.split(rows, starts[1:])]
        with self._damage_reported(key):
            if member.place is not None:
                parts = [self._window(member, start, size, width) for start, size in runs]
                return np.concatenate(parts)
            bytes_a_row = width * member.column.dtype.itemsize
            with zipfile.ZipFile(self._file) as archive, archive.open(member.info) as stream:
                parts, position = [], -member.offset
                for start, size in runs:
                    _skip(stream.read, start * bytes_a_row - position)
                    parts.append(_array(stream.read, member, (size, width)))
                    position = (start + size) * bytes_a_row
        return np.concatenate(parts)

    def unpack(self, key: str, folder: Path) -> None:
        """Unpacks an array into a folder, from where ``pick`` then reads it in any order.

        The rows of a stored array can be read in any order as they are: only its checksum is
        checked. Done again, it leaves the same file.

        Raises:
            SourceError: The file is damaged.
        """
        member = self._members[key]
        if member.place is not None and member.by_rows:
            self._copy(key, len)
            return
        with replaced(self._place(key, folder)) as partial, partial.open("wb") as file:
            if member.by_rows:
                self._copy(key, file.write)
            else:
                np.save(file, np.ascontiguousarray(self.read(key)))

    def _copy(self, key: str, write: Callable[[bytes], object]) -> None:
        """Hands on the bytes of an array, its header first; the archive checks their sum."""
        with (
            self._damage_reported(key),
            zipfile.ZipFile(self._file) as archive,
            archive.open(self._members[key].info) as stream,
        ):
            while part := stream.read(_COPY_BYTES):
                write(part)

    def unpacked_in(self, folder: Path) -> None:
        """Has ``pick`` read arrays from where ``unpack`` put them."""
        self._unpacked = folder

    def _place(self, key: str, folder: Path) -> Path:
        # Keys may be any text.
        return folder / f"{list(self._members).index(key)}.npy"

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> _Member:
        """Reads the header of an array and holds it against the bytes that are there."""
        with archive.open(info) as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
            elif version == (2, 0):
                header = np.lib.format.read_array_header_2_0(stream, max_header_size=_MAX_HEADER)
            else:
                raise ValueError(f"{info.filename} is in .npy format {version}")
            shape, fortran_order, dtype = header
            offset = stream.tell()
        place = None
        if info.compress_type == zipfile.ZIP_STORED and archive.fp is not None:
            archive.fp.seek(info.header_offset)
            *_, name, extra = _LOCAL_HEADER.unpack(archive.fp.read(_LOCAL_HEADER.size))
            place = info.header_offset + _LOCAL_HEADER.size + name + extra
            if info.file_size != info.compress_size or place + info.file_size > size:
                raise ValueError(f"{info.filename} claims to reach beyond the end of the file")
        if dtype.hasobject:
            pass  # its size is not that of its items
        elif dtype.kind not in _READABLE_KINDS:
            raise ValueError(f"{info.filename} has dtype {dtype}")
        elif (
            min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize != info.file_size - offset
        ):
            raise ValueError(
                f"{info.filename} claims {shape} of {dtype}, "
                f"but holds {info.file_size - offset} bytes"
            )
        if info.file_size > _MAX_DEFLATE_RATIO * max(info.compress_size, 1) or (
            info.compress_size > size
        ):
            raise ValueError(f"{info.filename} claims {info.file_size} bytes in a file of {size}")
        return _Member(info, Column(tuple(shape), dtype), fortran_order, offset, place)

    def refused(self, key: str) -> SourceError:
        """Returns the error that says why an array of objects is not read."""
        return SourceError.of(
            f"{self.path}, {key}",
            wrong="it holds Python objects, which can execute code when they are read",
            consequence="nothing was read",
            remedy="If you trust the file, allow it with --allow-pickle",
        )

    @contextmanager
    def _damage_reported(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise SourceError.of(
                f"{self.path}, {key}" if key else str(self.path),
                wrong=f"this is not a readable NPZ file: {str(error) or type(error).__name__}",
                consequence="nothing was stored",
                remedy="Make or download the file again",
            ) from error


def _array(read: Callable[[int], bytes], member: _Member, shape: tuple[int, ...]) -> np.ndarray:
    """Makes an array of the next bytes that ``read`` gives."""
    dtype = member.column.dtype
    wanted = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while len(data) < wanted:
        part = read(min(wanted - len(data), _COPY_BYTES))
        if not part:
            raise EOFError(f"ends after {len(data)} of {wanted} bytes")
        data += part
    if not dtype.itemsize:
        return np.zeros(shape, dtype=dtype)
    return np.frombuffer(data, dtype=dtype).reshape(
        shape, order="F" if member.fortran_order else "C"
    )


def _skip(read: Callable[[int], bytes], n_bytes: int) -> None:
    """Passes over the next bytes that ``read`` gives."""
    while n_bytes > 0:
        part = read(min(n_bytes, _COPY_BYTES))
        if not part:
            raise EOFError(f"ends {n_bytes} bytes too early")
        n_bytes -= len(part)


def _plain(array: np.ndarray) -> np.ndarray:
    """Turns an array of objects into one of numbers or text.

    Arrays of one per molecule are padded: with NaN, 0 or empty text, by their type.

    Raises:
        ValueError: It holds something else.
    """
    if array.size and all(isinstance(item, np.ndarray | list) for item in array.ravel()):
        return _padded([np.asarray(item) for item in array.ravel()])
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        if all(isinstance(item, str | bytes) for item in array.ravel()):
            return array.astype(str)
        raise ValueError("holds objects that are neither numbers nor text") from None


def _padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks arrays of different lengths.

    Raises:
        ValueError: They differ in more than their lengths, or hold something else than numbers or
            text.
    """
    dtype = np.result_type(*parts)
    shapes = {part.shape[1:] if part.ndim else None for part in parts}
    if len(shapes) > 1 or None in shapes or dtype.kind not in _READABLE_KINDS:
        raise ValueError("holds arrays that differ in more than their lengths")
    (rest,) = shapes
    padding = {"f": np.nan, "U": "", "S": b""}.get(dtype.kind, 0)
    padded = np.full((len(parts), max(map(len, parts)), *(rest or ())), padding, dtype)
    for row, part in zip(padded, parts, strict=True):
        row[: len(part)] = part
    return padded
