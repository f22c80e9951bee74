"""What the keys of a source were taken to mean, and the record that is kept of it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.adapters.columns import Block
from pipeline.adapters.protocol import Source
from pipeline.declarations import Declarations, Sibling
from pipeline.inference.hypothesis import Conclusion, Hypothesis, settle
from pipeline.structure import storable
from store_schema import SEMANTICS, KeyRecord, Variable
from store_schema.problems import AmbiguityError


@dataclass(frozen=True)
class Reading:
    """How one key becomes one variable.

    Attributes:
        key: Key in the source.
        semantics: What it means.
        factor: What its values are multiplied by.
        order: Columns of its values in the order of the store; empty where they are in it.
        about_center: A dipole about the centre of mass.
    """

    key: str
    semantics: str
    factor: float = 1.0
    order: tuple[int, ...] = ()
    about_center: bool = False


@dataclass(frozen=True)
class Interpretation:
    """What the keys of a source mean.

    Attributes:
        readings: Reading of each variable of the store that the source brings.
        kept: Variable under which each unknown key is kept.
        records: What is written into the schema, by key.
        warnings: What the user should know.
        total_charge: Declared net charge of molecules that have none.
        derives_charge: The net charge is derived from the ESP or the monopoles.
    """

    readings: Mapping[str, Reading]
    kept: Mapping[str, Variable]
    records: Mapping[str, KeyRecord]
    warnings: tuple[str, ...]
    total_charge: float | None
    derives_charge: bool

    def as_siblings(self, place: str) -> dict[str, Sibling]:
        """Returns what keys mean here, for files of the same keys; ``place`` names this one."""
        return {
            reading.key: Sibling(
                place, reading.semantics, reading.factor, reading.order, reading.about_center
            )
            for reading in self.readings.values()
        }


# Values beyond this are padding, which repeats of a key may fill differently.
_PADDING = 500.0


class Interpreter:
    """Settles one key after the other; each may use what was settled before."""

    def __init__(self, source: Source, sample: Block, declarations: Declarations) -> None:
        self.source, self.declarations = source, declarations
        self.columns = {key: storable(values) for key, values in sample.columns.items()}
        self.n = sample.n_molecules
        self.readings: dict[str, Reading] = {}
        self.records: dict[str, KeyRecord] = {}
        self.warnings: list[str] = []
        self.keys: dict[str, list[str]] = {}
        for key, fits in source.layout.fits.items():
            declared = declarations.semantics.get(key)
            meanings = [declared] if declared else sorted({f.semantics for f in fits})
            for meaning in meanings:
                self.keys.setdefault(meaning, []).append(key)

    @property
    def whole(self) -> bool:
        """Whether the sample is the whole source."""
        return self.n == self.source.layout.n_molecules

    def next_key(self, semantics: str, after: Container[str] = ()) -> str | None:
        """Returns the next unsettled key, not among some, that means this and nothing else."""
        for key in self.keys.get(semantics, []):
            declared = self.declarations.semantics.get(key)
            allowed = {declared} if declared else self.meanings(key)
            if key not in self.records and key not in after and allowed == {semantics}:
                return key
        return None

    def meanings(self, key: str) -> set[str]:
        """Returns what a key can mean by its shape."""
        return {fit.semantics for fit in self.source.layout.fits[key]}

    def missing(self, semantics: str) -> None:
        """Sets keys aside that are missing in every molecule; there is nothing to settle."""
        if not self.whole:
            return  # the rest may have values
        for key in self.keys.get(semantics, []):
            values = self.columns[key]
            if values.dtype.kind == "f" and not np.isfinite(values).any():
                record = self._record(key, semantics, "")
                evidence = ("it is missing in every molecule",)
                self.records[key] = record.model_copy(update={"evidence": evidence})
                self.warnings.append(f"{key} is missing in every molecule")

    def take(self, key: str, hypotheses: Sequence[Hypothesis]) -> Conclusion:
        """Settles a key and records it.

        The unit of nothing makes no difference, and is that of the store.
        """
        values = self.columns[key]
        meanings = {hypothesis.semantics for hypothesis in hypotheses}
        nothing = values.dtype.kind in "biuf" and not np.nan_to_num(values).any()
        if self.whole and nothing and len(meanings) == 1:
            evidence = "it is zero in every molecule, so that its unit makes no difference"
            alike = [replace(h, misfit=0.0, evidence=evidence) for h in hypotheses]
            told = self.declarations.unit(key, *meanings) is not None
            hypotheses = alike if told else [h for h in alike if h.factor == 1]
        conclusion = settle(self.source.place, key, hypotheses, self.declarations)
        best = conclusion.hypothesis
        stored = SEMANTICS[best.semantics].stored_as
        if stored in self.readings:
            self._repeat(key, best, stored)
            return conclusion
        self.readings[stored] = Reading(
            key, best.semantics, best.factor, best.order, best.about_center
        )
        self.records[key] = self._record(key, best.semantics, stored).model_copy(
            update={
                "unit": best.unit,
                "semantics_from": conclusion.semantics_from,
                "unit_from": conclusion.unit_from,
                "confidence": round(conclusion.confidence, 6),
                "evidence": (best.evidence,) if best.evidence else (),
            }
        )
        return conclusion

    def leave(self, key: str, semantics: str, evidence: str) -> None:
        """Records a key that is not stored, and why."""
        record = self._record(key, semantics, "")
        self.records[key] = record.model_copy(update={"evidence": (evidence,)})
        self.warnings.append(f"{key} is not stored: {evidence}")

    def take_plain(self, semantics: str) -> None:
        """Takes the keys whose meaning needs no evidence; the first is stored."""
        while (key := self.next_key(semantics)) is not None:
            if semantics in self.readings:
                self._repeat(key, Hypothesis(semantics, "", 0.0, ""), semantics)
            else:
                self.readings[semantics] = Reading(key, semantics)
                self.records[key] = self._record(key, semantics, semantics)

    def _repeat(self, key: str, best: Hypothesis, stored: str) -> None:
        """Records a second key of the same meaning; it must say the same."""
        first = self.readings[stored]
        ours, theirs = self.columns[first.key], self.columns[key].reshape(-1)
        same = bool((ours.reshape(-1) == theirs).all())
        if not same and ours.dtype.kind != "U":
            left = ours.astype(np.float64).reshape(-1) * first.factor
            right = theirs.astype(np.float64) * best.factor
            inside = np.abs(left) < _PADDING
            same = np.allclose(left[inside], right[inside], rtol=1e-4, atol=1e-5, equal_nan=True)
        if not same:
            raise AmbiguityError.of(
                f"{self.source.place}, {first.key} and {key}",
                expected=f"the same {stored} under both keys",
                received="values that differ",
                consequence="only one can be stored",
                remedy="Remove one of them from the file",
            )
        record = self._record(key, best.semantics, "")
        self.records[key] = record.model_copy(
            update={"unit": best.unit, "evidence": (f"the same values as {first.key}",)}
        )

    def _record(self, key: str, semantics: str, stored_as: str) -> KeyRecord:
        column = self.source.columns[key]
        declared = key in self.declarations.semantics
        return KeyRecord(
            semantics=semantics,
            stored_as=stored_as,
            shape=column.shape,
            dtype=column.dtype.str.lstrip("<>|="),
            semantics_from="declared" if declared else "alias",
        )

    def scaled(self, stored: str) -> np.ndarray | None:
        """Values of a variable that is settled, in canonical units."""
        reading = self.readings.get(stored)
        if reading is None:
            return None
        return self.columns[reading.key].astype(np.float64) * reading.factor
