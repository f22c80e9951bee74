"""From what the user names to sources: files, folders, globs, and files that belong together."""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.adapters.array_file import ArrayFile
from pipeline.adapters.concatenated import ConcatenatedSource, is_concatenated
from pipeline.adapters.esp_files import ESP_FILES
from pipeline.adapters.formats import RECORDS, SUFFIXES, Opened, open_file
from pipeline.adapters.layout import Names
from pipeline.adapters.padded import PaddedSource, layout_of
from pipeline.adapters.protocol import Source
from pipeline.adapters.records import Records, joined
from pipeline.adapters.records_source import RecordsSource
from pipeline.adapters.single_molecule import MoleculeFiles
from pipeline.adapters.split_by_role import SplitByRoleSource, join_if_same
from pipeline.files import check_utf8
from store_schema.problems import SourceError

_SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
# The points of Psi4's grid_esp.dat, which names them.
_COMPANIONS: Final = ("grid.dat",)
_SET: Final = re.compile(rf"(?:^|[_.-])({'|'.join(_SPLIT_NAMES)})$", re.IGNORECASE)


def discover(
    sources: Iterable[str | Path],
    *,
    allow_pickle: bool = False,
    declared: Mapping[str, str] | None = None,
) -> list[Source]:
    """Opens what the user named.

    Args:
        sources: Files, folders (read with all below them), globs, and ``a.npz+b.npz`` for
            columns of the same molecules.
        allow_pickle: Admit object arrays.
        declared: Meanings of keys whose names do not say them.

    Returns:
        The sources, in the order given; within a folder in the order of names. Files that
        hold columns of the same molecules become one source, whether they are named one by
        one or as a folder; a file that is named twice is read once.

    Raises:
        SourceError: Nothing is there, or a file is not what it should be.
    """
    names = Names(declared)
    by_columns: list[Source] = []
    single: dict[Path, Opened] = {}
    order: dict[Path, int] = {}
    for source in sources:
        text = str(source)
        if "+" in text and not Path(text).exists() and not glob.glob(text):
            paths = [path for name in text.split("+") for path in _files(name.strip())]
            parts = [PaddedSource(_arrays(path, names, allow_pickle), names) for path in paths]
            by_columns.append(SplitByRoleSource(_with_structure_first(parts)))
        else:
            paths = _files(text)
            for path in paths:
                if path.resolve() not in single:
                    single[path.resolve()] = open_file(path, names, allow_pickle)
        for path in paths:
            order.setdefault(path.resolve(), len(order))
    found = [*by_columns, *_group(list(single.values()), names)]
    return sorted(found, key=lambda source: min(order[file.resolve()] for file in source.files))


def split_of(source: Source) -> str:
    """Returns the split that the names of a source's files end in; empty if they do not."""
    names = {
        _SPLIT_NAMES[match[1].lower()] if (match := _SET.search(path.stem)) else ""
        for path in source.files
    }
    return names.pop() if len(names) == 1 else ""


def _arrays(path: Path, names: Names, allow_pickle: bool) -> ArrayFile:
    """Opens a file whose columns are to be joined with those of others."""
    file = open_file(path, names, allow_pickle)
    if isinstance(file, RECORDS):
        raise SourceError.of(
            str(path),
            wrong="this file has the molecules one by one; only files of arrays with all "
            "molecules can be joined by +",
            consequence="nothing was stored",
            remedy="Ingest it as a source of its own",
        )
    return file


def _files(text: str) -> list[Path]:
    """Files that a file, folder or glob names."""
    path = Path(text).expanduser()
    if not text.strip():  # an unset variable of a shell, which pathlib takes for this folder
        files = []
    elif path.is_dir():
        files = _within(path)
    elif path.is_file():
        files = [path]
    else:
        files = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [
            file for match in files for file in (_within(match) if match.is_dir() else [match])
        ]
    if not files:
        raise SourceError.of(
            text or repr(text),
            wrong=(
                "no file of a known kind is in it"
                if text.strip() and path.is_dir()
                else "there is nothing of this name"
            )
            + f"; a source is a file ({', '.join(SUFFIXES)}), a folder or glob of them, "
            "or a.npz+b.npz",
            consequence="nothing was read",
            remedy="Check the path",
        )
    for file in files:
        check_utf8(file)
        if not file.is_file():  # to open a pipe would wait for its writer, forever
            raise SourceError.of(
                str(file),
                wrong="this is not a file but a pipe, a device, a folder or a link that leads "
                "nowhere",
                consequence="nothing was stored",
                remedy="Name the files themselves",
            )
    return files


def _within(folder: Path) -> list[Path]:
    """NPZ files in a folder; else files of ESPs; else those of the one other format.

    Structures of the same molecules often lie in the same folder: a warning names what is left.

    Raises:
        SourceError: There are files of several other formats.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = [path for path in found if path.name not in _COMPANIONS]
    by_format: dict[str, list[Path]] = {}
    for path in found:
        by_format.setdefault(path.suffix.lower(), []).append(path)
    for suffix in (".npz", *ESP_FILES):
        if suffix in by_format:
            others = sorted(by_format.keys() - {suffix})
            if others:
                warnings.warn(
                    f"{folder}: only its {suffix} files are read; files of other formats "
                    f"({', '.join(others)}) are left out, which may have the same molecules",
                    stacklevel=2,
                )
            return by_format[suffix]
    if len(by_format) < 2:
        return found
    raise SourceError.of(
        str(folder),
        wrong=f"the folder has files of several formats, {', '.join(sorted(by_format))}",
        consequence="the same molecules may be in both, so nothing was stored",
        remedy=f"Name those that are meant, such as '{folder}/*{min(by_format)}'",
    )


def _group(files: Sequence[Opened], names: Names) -> list[Source]:
    """Puts files together: molecules of one convention, and columns of the same molecules."""
    sources: list[Source] = []
    padded: list[list[PaddedSource]] = []
    singles: dict[tuple[Path, frozenset[str]], list[ArrayFile]] = {}
    lone: dict[str, list[Records]] = {}
    for file in files:
        if isinstance(file, RECORDS):
            if len(file.kind_of) > 1:
                sources.append(RecordsSource(file, names))
            else:
                lone.setdefault(file.convention, []).append(file)
            continue
        if is_concatenated(file, names):
            sources.append(ConcatenatedSource(file, names))
            continue
        if layout_of(file, names).single:
            singles.setdefault((file.path.parent, frozenset(file.columns)), []).append(file)
            continue
        part = PaddedSource(file, names)
        for group in padded:
            if group[0].file.path.parent == file.path.parent and all(
                join_if_same(other, part) for other in group
            ):
                group.append(part)
                break
        else:
            padded.append([part])
    for group in padded:
        sources.append(
            group[0] if len(group) == 1 else SplitByRoleSource(_with_structure_first(group))
        )
    sources.extend(RecordsSource(joined(group), names) for group in lone.values())
    sources.extend(RecordsSource(MoleculeFiles(group, names), names) for group in singles.values())
    return sources


def _with_structure_first(parts: Sequence[PaddedSource]) -> list[PaddedSource]:
    """The file with most keys leads: its order of molecules and its structure are taken."""
    return sorted(parts, key=lambda part: -len(part.columns))
