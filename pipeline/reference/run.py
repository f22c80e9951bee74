"""From structures to reference data: resumable by molecule, and whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.files import exclusive, usable_place
from pipeline.reference.calculation import Method
from pipeline.reference.density_functional import DensityFunctional
from pipeline.reference.gather import gather
from pipeline.reference.parts import Task, task_of
from pipeline.reference.pool import calculated
from pipeline.reference.tight_binding import TightBinding
from pipeline.structures import Geometry, read_structures
from store_schema.extras import extra
from store_schema.problems import ConfigError, SourceError, StoreError

_TIGHT_BINDING: Final = ("xtb", "gfn2-xtb")


# What keys mean, where a store is made at once.
@dataclasses.dataclass
class ReferenceReport:
    """What was calculated.

    Attributes:
        out: Where it is.
        level: Name of the level of theory.
        n_molecules: Molecules in it.
        n_resumed: Those that were calculated by a run before.
        failures: Reason by molecule, of those that are not in it.
        n_without_charge: Molecules of which nothing says the net charge, taken as 0.
        n_repeated: Molecules that were named before, at the same geometry.
    """

    out: str
    level: str
    n_molecules: int = 0
    n_resumed: int = 0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    n_without_charge: int = 0
    n_repeated: int = 0


def reference(
    structures: Iterable[str | Path],
    out: str | Path,
    *,
    level: str = "PBE0/def2-TZVP",
    n_points: int = 1500,
    conformers: int = 1,
    displace: float = 0.0,
    forces: bool = False,
    field: bool = False,
    total_charge: int | None = None,
    workers: int | None = None,
    memory: int = 2000,
    progress: bool = False,
) -> ReferenceReport:
    """Calculates reference data of structures.

    Each molecule is kept in the folder ``OUT.parts`` as it is done, from which the same call
    resumes; it goes once all are.

    Args:
        structures: Files or SMILES; see ``pipeline.structures.read_structures``.
        out: An ``.npz`` file, or a store.
        level: ``FUNCTIONAL/BASIS`` of PySCF, or ``xtb``.
        n_points: Points of each ESP, on shells of 1.4 to 2.0 van der Waals radii.
        conformers: Geometries of each molecule.
        displace: Standard deviation in Å by which atoms are moved at random.
        forces: Whether forces are calculated, too.
        field: Whether the electric field on the grid is, too, as the slope of the ESP.
        total_charge: Net charge in e of structures that do not say theirs.
        workers: Processes; one per core by default.
        memory: What each process may take, in MiB.
        progress: Show a progress bar.

    Returns:
        What was done, and what failed and why.

    Raises:
        SourceError: A source is none, or no molecule could be calculated.
        ConfigError: The level means nothing, or a package of the extra is missing.
        StoreError: There is something at ``out`` already, or no place for it.
    """
    method = method_of(level, memory)
    place = _vacant(out)
    folder = place.with_name(f"{place.name}.parts")
    report = ReferenceReport(str(out), method.level)
    # Before anything is made: a source that is none stops it.
    geometries = list(_geometries(structures, conformers, displace, total_charge, report))
    with usable_place(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder, wait=False):
        tasks = [
            task_of(geometry, folder, method, n_points, forces=forces, field=field)
            for geometry in geometries
        ]
        report.n_repeated = len(tasks) - len({task.file for task in tasks})
        tasks = list({task.file: task for task in tasks}.values())
        todo = [task for task in tasks if not task.file.exists()]
        report.n_resumed = len(tasks) - len(todo)
        with _bar(len(tasks), report.n_resumed, progress) as bar:
            for task, reason in calculated(todo, method, workers or os.cpu_count() or 1):
                if reason:
                    report.failures[task.geometry.place] = reason
                bar.advance(bar.task_ids[0])
        done = [task for task in tasks if task.file.exists()]
        if not any(folder.iterdir()):
            folder.rmdir()
        _check_done(done, report)
        report.n_molecules = len(done)
        _publish(done, place, folder, report)
    shutil.rmtree(folder)
    return report


def method_of(level: str, memory: int = 2000) -> Method:
    """Returns a level of theory by its name.

    Args:
        level: ``FUNCTIONAL/BASIS`` or ``xtb``.
        memory: What a calculation may take, in MiB.

    Raises:
        ConfigError: It is neither, or a package of the extra is missing.
    """
    with extra("reference", "dcmnet reference"):
        import pyscf  # noqa: F401
        import tblite  # noqa: F401
    if level.lower() in _TIGHT_BINDING:
        return TightBinding()
    functional, slash, basis = level.partition("/")
    if not (functional and slash and basis) or not _are_known(functional, basis):
        raise ConfigError.of(
            f"--level {level}",
            wrong="this is no level; a level is FUNCTIONAL/BASIS as PySCF names them, such as "
            "PBE0/def2-TZVP, or xtb",
            consequence="nothing was calculated",
            remedy="Correct it",
        )
    return DensityFunctional(functional, basis, memory)


def _are_known(functional: str, basis: str) -> bool:
    from pyscf import gto
    from pyscf.dft import libxc

    try:
        libxc.parse_xc(functional)
        gto.basis.load(basis, "H")
    except (KeyError, ValueError, RuntimeError):
        return False
    return True


def _vacant(out: str | Path) -> Path:
    """The local path by which a result is prepared.

    Raises:
        StoreError: There is something at ``out`` already, or it is of no kind that is written.
    """
    if "://" in str(out):  # which says itself whether it is there, once it is written
        return Path(str(out).rstrip("/").rsplit("/", 1)[-1])
    path = Path(out).expanduser()
    if path.exists():
        raise StoreError.of(
            str(out),
            wrong="there is something of this name already",
            consequence="nothing was calculated",
            remedy="Name another, or remove it",
        )
    if path.suffix[1:].isalpha() and path.suffix.lower() not in (".npz", ".zarr"):
        raise StoreError.of(
            str(out),
            wrong=f"{path.suffix} is neither a store nor an NPZ file",
            consequence="nothing was calculated",
            remedy="Name one that ends in .zarr or .npz",
        )
    return path


def _geometries(
    structures: Iterable[str | Path],
    conformers: int,
    displace: float,
    total_charge: int | None,
    report: ReferenceReport,
) -> Iterator[Geometry]:
    """Structures as they are calculated: moved, and with a net charge."""

    def skipped(error: SourceError) -> None:
        problem = error.problems[0]
        report.failures[problem.place] = problem.wrong

    for source in structures:
        for index, geometry in enumerate(read_structures(source, conformers, skipped)):
            if geometry.charge is None and total_charge is None:
                report.n_without_charge += 1
            charge = total_charge if geometry.charge is None else geometry.charge
            if geometry.charge is not None and total_charge not in (None, geometry.charge):
                report.failures[geometry.place] = (
                    f"its net charge is {geometry.charge}, where {total_charge} was given"
                )
                continue
            rng = np.random.default_rng([index, len(geometry.numbers)])
            moved = geometry.positions + displace * rng.normal(size=geometry.positions.shape)
            yield geometry._replace(positions=moved, charge=charge or 0)


def _check_done(done: list[Task], report: ReferenceReport) -> None:
    """Raises a SourceError where nothing was calculated."""
    if done:
        return
    place, reason = next(iter(report.failures.items()), ("", "there are no structures"))
    raise SourceError.of(
        place or report.out,
        wrong=f"no molecule can be calculated: {reason}",
        consequence="no molecule was calculated, and nothing was written",
        remedy="Correct the structures",
    )


def _publish(done: list[Task], place: Path, folder: Path, report: ReferenceReport) -> None:
    """Writes what is done to its place; what ingest sets aside is reported, too."""
    files, level = [task.file for task in done], report.level
    if place.suffix.lower() == ".npz":
        gather(files, place, level)
        return
    from pipeline.ingestion.run import ingest

    gathered = folder / "reference.npz"
    gather(files, gathered, level)
    stored = ingest([gathered], report.out)
    report.n_molecules = stored.n_molecules
    for reason, count in stored.reasons.items():
        report.failures[f"{count} in quarantine"] = reason


@contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Progress]:
    columns = (TextColumn("molecules"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown) as bar:
        bar.add_task("molecules", total=total, completed=done)
        yield bar
