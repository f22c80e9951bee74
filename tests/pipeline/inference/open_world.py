"""Ingests conventions wider than the tables.

Run it with ``python -m tests.pipeline.inference.open_world 0 2000``.

A user who knows the truth answers what is asked.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline import ingest, open_store
from store_schema.problems import DcmError
from tests.pipeline.inference import convention_table
from tests.pipeline.inference.open_files import Author, Case
from tests.pipeline.inference.open_units import KNOWN
from tests.pipeline.inference.written import mistakes


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        seed: Of its random choices.
        kind: The choices.
        outcome: ``right``, ``asked`` (and right once answered), ``refused`` (also with true
            answers), ``wrong`` (without a question) or ``misled`` (wrong after true answers).
        detail: The question, or what is wrong.
        confidence: Least confidence stated of a unit that was concluded.
    """

    seed: int
    kind: dict[str, str]
    outcome: str
    detail: str
    confidence: float = 1.0

    @property
    def faulty(self) -> bool:
        """Whether the file has a factor of no unit, a turned sign, or a wrong word."""
        odd = any(k.startswith(("factor of", "sign of")) for k in self.kind)
        return odd or self.kind.get("word is", "true") == "wrong"

    @property
    def decidable(self) -> bool:
        """Whether the file shows what is true, so that no question is needed."""
        kind = self.kind
        still = kind.get("F is") and (kind.get("geometries", "") == "minima" or "zero" not in kind)
        anywhere = kind.get("zero", "total") not in ("total", "atoms") and "F is" not in kind
        moved = kind.get("point of D", "origin") != "origin" and kind["ions"] != "none"
        rigid = kind["world"] in ("pairs", "scan") and ("zero" in kind or "F is" in kind)
        named = kind["layout"] != "renamed"
        return named and not (self.faulty or still or anywhere or rigid or moved)

    @property
    def inside(self) -> bool:
        """Whether all units are of the tables before the world was opened."""
        units = [v for k, v in self.kind.items() if k.startswith("unit of")]
        odd = any(k.startswith(("factor of", "sign of")) for k in self.kind)
        zeros = self.kind.get("zero", "total") in ("total", "atoms")
        return not odd and zeros and all(unit in KNOWN for unit in units)


def results(records: xr.Dataset, folder: Path, seeds: Iterable[int]) -> Iterator[Result]:
    """Writes cases and ingests them, answering questions with the truth."""
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        case = Author(records, np.random.default_rng(seed)).write(place)
        yield _tried(seed, case, place)


def _tried(seed: int, case: Case, place: Path) -> Result:
    declared: dict[str, str] = {}
    question = ""
    for attempt in range(8):
        try:
            report = ingest([case.written.source], place / f"{attempt}.zarr", declare=declared)
        except DcmError as error:
            question = question or str(error)
            answers = _answers(str(error), case, declared)
            if not answers:
                return Result(seed, case.written.kind, "refused", question)
            declared |= answers
            left_out = [key for key, meaning in declared.items() if meaning == "unknown"]
            for key in left_out:  # of which nothing else is said
                declared.pop(f"unit.{key}", None)
                declared.pop(f"point.{key}", None)
            continue
        stored = open_store(place / f"{attempt}.zarr").to_dataset()
        wrong = mistakes(case.written, stored)
        sure = [
            record.confidence
            for record in report.schema.sources[0].keys.values()
            if record.unit_from in ("physics", "derived")
        ]
        outcome = ("misled" if declared else "wrong") if wrong else "asked" if declared else "right"
        detail = "; ".join(wrong) + (f" after {declared}: {question}" if declared else "")
        return Result(seed, case.written.kind, outcome, detail, min(sure, default=1.0))
    return Result(seed, case.written.kind, "refused", question)


def _answers(error: str, case: Case, declared: dict[str, str]) -> dict[str, str]:
    """True declarations of what a question asks about."""
    asked = set(re.findall(r"--declare (unit\.[^=\s]+|[^=\s]+)=", error))
    if "KEY" in asked:
        asked |= {key for key, value in case.answers.items() if value in error}
    return {k: v for k, v in case.answers.items() if k in asked and declared.get(k) != v}


def table(found: Iterable[Result]) -> str:
    """The results by kind, in Markdown."""
    order = ("right", "asked", "refused", "wrong", "misled")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in found:
        where = "inside the old tables" if result.inside else "outside the old tables"
        lines = ["**all**", where]
        lines += [] if result.faulty else [f"{where}, without a fault"]
        lines += [f"{where}, decidable"] if result.decidable else []
        lines += [
            f"{kind} {choice}"
            for kind, choice in result.kind.items()
            if kind in ("world", "zero", "layout", "format", "F is", "geometries", "word is")
            or kind.startswith(("unit of", "sign of", "point of"))
        ]
        lines += (
            ["a factor of no unit"] if any(k.startswith("factor of") for k in result.kind) else []
        )
        for line in lines:
            counts[line][result.outcome] += 1
    head = "| kind | " + " | ".join(order) + " |\n|---|" + "---:|" * len(order)
    rows = [
        f"| {line} | " + " | ".join(str(row[name]) for name in order) + " |"
        for line, row in sorted(counts.items())
    ]
    return "\n".join([head, *rows])


def reliability(found: Iterable[Result]) -> str:
    """Stated against observed: of what was settled without a question, how much is right."""
    edges = (0.98, 0.99, 0.995, 0.999, 0.9999, 1.0001)
    settled = [result for result in found if result.outcome in ("right", "wrong")]
    rows = ["| stated | files | right |", "|---|---:|---:|"]
    for low, high in pairwise(edges):
        some = [r for r in settled if low <= r.confidence < high]
        right = sum(r.outcome == "right" for r in some)
        share = f"{100 * right / len(some):.2f} %" if some else "–"
        rows.append(f"| {low:g} to {min(high, 1):g} | {len(some)} | {share} |")
    return "\n".join(rows)


def main(first: int, last: int) -> None:
    """Prints questions and mistakes, then the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = []
        for result in results(convention_table.molecules(folder), folder, range(first, last)):
            found.append(result)
            if result.outcome != "right":
                text = (result.seed, result.outcome, result.detail, result.kind)
                print(*text, file=sys.stderr, flush=True)
    print(table(found), reliability(found), sep="\n\n")


if __name__ == "__main__":
    main(*(int(arg) for arg in sys.argv[1:3]))
