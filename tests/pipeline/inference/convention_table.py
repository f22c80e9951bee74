"""How often random conventions are settled.

Run it with ``python -m tests.pipeline.inference.convention_table``.

Prints the table of ``docs/inference.md``, from the reference data if they are beside the
repository and from the bundled sample otherwise.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from pipeline import ingest, open_store
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError
from tests.pipeline.inference.conventions import Writer
from tests.pipeline.inference.lone_ions import with_lone_ions
from tests.pipeline.inference.written import mistakes

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data"
# What the table is broken down by, and how a line is called.
KINDS = {
    "files": "files",
    "atoms": "atoms per molecule",
    "ESP": "ESP",
    "unit of R": "positions in",
    "unit of grid": "grid in",
    "unit of esp": "ESP in",
    "other grid": "a second grid that is another",
    "D": "dipole",
    "unit of D": "dipole in",
    "point of D": "dipole about",
    "point of D shown": "point of ions' dipoles shown",
    "Q": "Q",
    "Q is": "quadrupole",
    "unit of Q": "quadrupole in",
    "E": "energy",
    "unit of E": "energy in",
    "F": "forces",
    "unit of F": "forces in",
    "gradient beside": "a gradient beside",
    "lone ions": "ions of one atom",
    "Dxyz in": "Dxyz in",
    "n_grid": "n_grid",
    "grid padding": "grid padded with",
    "atomic dipoles": "atomic dipoles",
    "unit of dip": "atomic dipoles in",
    "polar": "polarizability",
    "unit of polar": "polarizability in",
}


class Outcome(NamedTuple):
    """What became of one convention.

    Attributes:
        seed: Of its random choices.
        kind: The choices.
        result: ``settled``, ``asked`` or ``wrong``.
        detail: The question, or what is wrong.
    """

    seed: int
    kind: dict[str, str]
    result: str
    detail: str

    @property
    def shown(self) -> bool:
        """Whether the file shows what is asked: neither forces alone, nor ions' dipoles alone."""
        forces_alone = self.kind.get("F", "none") != "none" and self.kind.get("E") == "none"
        return not forces_alone and self.kind.get("point of D shown") != "hardly"


def molecules(folder: Path) -> xr.Dataset:
    """All records that conventions are drawn from, in memory."""
    sources = [REFERENCE] if REFERENCE.exists() else sample_sources()
    ingest(sources, folder / "records.zarr")
    records = open_store(folder / "records.zarr").to_dataset().load()
    return with_lone_ions(records, np.random.default_rng(0))


def outcomes(records: xr.Dataset, folder: Path, seeds: Iterable[int]) -> Iterator[Outcome]:
    """Writes conventions and ingests them."""
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        written = Writer(records, np.random.default_rng(seed)).write(place)
        try:
            ingest([written.source], folder / f"{seed}.zarr")
        except AmbiguityError as question:
            yield Outcome(seed, written.kind, "asked", str(question))
            continue
        stored = open_store(folder / f"{seed}.zarr").to_dataset()
        wrong = mistakes(written, stored)
        yield Outcome(seed, written.kind, "wrong" if wrong else "settled", "; ".join(wrong))


def table(found: Iterable[Outcome]) -> str:
    """The results by kind, in Markdown."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for outcome in found:
        total[outcome.result] += 1
        shown[outcome.result] += outcome.shown
        for kind, choice in outcome.kind.items():
            if kind in KINDS:
                counts[KINDS[kind], choice][outcome.result] += 1
    order = list(KINDS.values())
    lines = ["| kind | settled | asked | wrong |", "|---|---:|---:|---:|", _line("**all**", total)]
    lines.append(_line("neither forces alone, nor dipoles of ions without an ESP", shown))
    for (kind, choice), row in sorted(counts.items(), key=lambda i: (order.index(i[0][0]), i[0])):
        lines.append(_line(f"{kind} {choice}", row))
    return "\n".join(lines)


def _line(name: str, row: Counter[str]) -> str:
    return f"| {name} | {row['settled']} | {row['asked']} | {row['wrong']} |"


def main(n: int) -> None:
    """Prints questions and mistakes, then the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = []
        for outcome in outcomes(molecules(folder), folder, range(n)):
            found.append(outcome)
            if outcome.result != "settled":
                print(outcome.seed, outcome.result, outcome.detail, outcome.kind, file=sys.stderr)
    print(table(found))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
