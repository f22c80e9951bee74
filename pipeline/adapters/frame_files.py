"""Files of frames, read by ASE one frame at a time, in any order."""

from __future__ import annotations

import io
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from ase.data import chemical_symbols

if TYPE_CHECKING:
    import ase
    from ase.db.row import AtomsRow

_UNNAMED: Final = "columns after the positions"
# In which ASE's calculators leave what they computed (ase.units).
_ASE_UNITS: Final = {
    "energy": "eV",
    "forces": "eV/angstrom",
    "dipole": "e*angstrom",
    "charges": "e",
}


class Frame(NamedTuple):
    """A molecule as ASE has it.

    Attributes:
        atoms: Atoms, their arrays, and what was computed of them.
        info: What the file says of it, apart from arrays.
        unread: What it has that was not read, with the reason.
    """

    atoms: ase.Atoms
    info: Mapping[str, Any]
    unread: Mapping[str, str] = MappingProxyType({})


class FrameFile(Protocol):
    """A file of frames.

    Attributes:
        units: Units that the file, or its format, names, by key.
    """

    units: Mapping[str, str]

    def __len__(self) -> int:
        """Returns the number of frames."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Reads all frames in order."""
        ...

    def frame(self, index: int) -> Frame:
        """Reads one frame."""
        ...


class XyzFile:
    """XYZ, plain or extended; see ``FrameFile``."""

    def __init__(self, path: Path) -> None:
        """Finds where frames begin.

        Raises:
            ValueError: A frame has no count of atoms, or fewer lines than it says.
        """
        self._path = path
        self.units: Mapping[str, str] = {}
        starts = []
        with path.open("rb") as file:
            place = 0
            while line := file.readline():
                if line.strip():
                    starts.append(place)
                    _pass_over(file, _count(line) + 1, frame=len(starts) - 1)
                place = file.tell()
        self._starts = np.array([*starts, place], np.int64)

    def __len__(self) -> int:
        """Returns the number of frames."""
        return len(self._starts) - 1

    def frames(self) -> Iterator[Frame]:
        """Reads all frames in order; see ``FrameFile``."""
        return map(self.frame, range(len(self)))

    def frame(self, index: int) -> Frame:
        """Reads one frame; see ``FrameFile``."""
        import ase.io

        with self._path.open("rb") as file:
            file.seek(int(self._starts[index]))
            content = file.read(int(self._starts[index + 1] - self._starts[index]))
        text = _with_symbols(content.decode("utf-8-sig"))
        try:
            atoms = next(iter(ase.io.iread(io.StringIO(text), index=0, format="extxyz")))
        except KeyError as error:  # of its table of elements
            raise ValueError(f"{error}, which is no symbol of an element") from error
        _, comment, *rows = text.split("\n", 3)
        info = {key: value for key, value in atoms.info.items() if _is_said(key, comment)}
        columns = len(rows[0].split()) if rows else 4
        if columns > 4 and "Properties" not in comment:
            return Frame(atoms, info, {_UNNAMED: "no Properties say what they are"})
        return Frame(atoms, info)


def charge_value(key: str, value: Any) -> float:
    """Returns a net charge that a file gives.

    Raises:
        ValueError: It is no number; a word without a value is True to ASE.
    """
    with suppress(TypeError, ValueError):
        if not isinstance(value, bool | np.bool_):
            return float(value)
    raise ValueError(f"{key}={value}, which is no net charge in e, such as {key}=-1")


def _is_said(key: str, comment: str) -> bool:
    """Whether a comment gives a key a value; ASE takes any other word of it to be true."""
    return re.search(rf"{re.escape(key)}[\"']?\s*=", comment) is not None


def _with_symbols(text: str) -> str:
    """A frame whose rows begin with symbols, where they begin with atomic numbers."""
    count, comment, *rows = text.split("\n")
    properties = re.search(r'(?i)properties\s*=\s*"?([^\s"]+)', comment)
    if properties and not properties[1].startswith("species:"):
        return text
    parts = [row.strip().split(None, 1) for row in rows]
    first = [part[0] for part in parts if part]
    counted = [str(number) for number in range(1, len(first) + 1)]
    if not all(map(str.isdecimal, first)) or (len(first) > 1 and first == counted):
        return text  # symbols, or atoms that are counted
    if max(map(int, first), default=0) >= len(chemical_symbols):
        return text
    named = [" ".join([chemical_symbols[int(part[0])], *part[1:]]) for part in parts if part]
    return "\n".join([count, comment, *named, ""])


def _count(line: bytes) -> int:
    text = line.decode("utf-8-sig", errors="replace").strip()
    if not text.isdigit():
        raise ValueError(f"{text[:40]!r} where the number of atoms should be")
    return int(text)


def _pass_over(file: IO[bytes], n_lines: int, frame: int) -> None:
    for done in range(n_lines):
        if not file.readline():
            raise ValueError(f"the file ends after {done} of {n_lines} lines of frame {frame}")


class TrajFile:
    """A trajectory of ASE; see ``FrameFile``."""

    def __init__(self, path: Path) -> None:
        """Opens the file, and again where this is unpickled."""
        from ase.io.trajectory import TrajectoryReader

        self._path = path
        self._reader = TrajectoryReader(path)
        calculator = self._reader[0].calc if len(self._reader) else None
        computed = {} if calculator is None else calculator.results
        self.units: Mapping[str, str] = {k: u for k, u in _ASE_UNITS.items() if k in computed}

    def __reduce__(self) -> tuple[type[TrajFile], tuple[Path]]:
        return TrajFile, (self._path,)

    def __len__(self) -> int:
        """Returns the number of frames."""
        return len(self._reader)

    def frames(self) -> Iterator[Frame]:
        """Reads all frames in order; see ``FrameFile``."""
        return map(self.frame, range(len(self)))

    def frame(self, index: int) -> Frame:
        """Reads one frame; see ``FrameFile``."""
        atoms = self._reader[index]
        return Frame(atoms, atoms.info)


class DatabaseFile:
    """A database of ASE, also with the units of SchNetPack; see ``FrameFile``."""

    def __init__(self, path: Path) -> None:
        """Opens the file, and again where this is unpickled.

        Raises:
            ValueError: It is an SQLite file of something else.
        """
        import ase.db

        self._path = path
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as check:
            # ASE would make its tables in a database of something else.
            if not check.execute("SELECT 1 FROM sqlite_master WHERE name = 'systems'").fetchone():
                raise ValueError("an SQLite database that ASE has not made")
        self._rows = ase.db.connect(path, type="db")
        self._ids = [row.id for row in self._rows.select(include_data=False)]
        first = next(self.frames(), None)
        calculator = first.atoms.calc if first else None
        computed = {} if calculator is None else calculator.results
        said = self._rows.metadata
        self.units: Mapping[str, str] = {
            **{key: unit for key, unit in _ASE_UNITS.items() if key in computed},
            **said.get("_property_unit_dict", {}),
        }
        if "_distance_unit" in said:
            self.units = {"positions": said["_distance_unit"], **self.units}

    def __reduce__(self) -> tuple[type[DatabaseFile], tuple[Path]]:
        return DatabaseFile, (self._path,)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._ids)

    def frames(self) -> Iterator[Frame]:
        """Reads all rows in order; see ``FrameFile``."""
        return map(_of_row, self._rows.select())

    def frame(self, index: int) -> Frame:
        """Reads one row; see ``FrameFile``."""
        return _of_row(self._rows.get(id=self._ids[index]))


def _of_row(row: AtomsRow) -> Frame:
    return Frame(row.toatoms(), {**row.key_value_pairs, **row.data})


# Name of the convention, and reader, by suffix.
FRAME_FILES: Final[dict[str, tuple[str, Callable[[Path], FrameFile]]]] = {
    ".xyz": ("xyz", XyzFile),
    ".extxyz": ("xyz", XyzFile),
    ".traj": ("ase_trajectory", TrajFile),
    ".db": ("ase_database", DatabaseFile),
}
