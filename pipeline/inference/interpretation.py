"""What the keys of a source were taken to mean, and the record that is kept of it."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.adapters.columns import Block
from pipeline.adapters.protocol import Source
from pipeline.chemistry.arrays import storable
from pipeline.chemistry.centers import ORIGIN
from pipeline.inference.declarations import Declarations, Sibling
from pipeline.inference.hypothesis import Hypothesis, certain
from pipeline.inference.joint import Others, Weighed, alone, together
from pipeline.inference.questions import CONFIDENT, Conclusion, Said, conclude
from pipeline.inference.words import Words
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
        about: Point that a dipole is about.
    """

    key: str
    semantics: str
    factor: float = 1.0
    order: tuple[int, ...] = ()
    about: str = ORIGIN


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
        declared: Variables whose unit the user declared; molecules are not doubted again.
        drop_inside: Grid points inside atoms are left out.
        esp_points: Points of the ESP that is evaluated from multipoles where there is none; 0
            for none.
    """

    readings: Mapping[str, Reading]
    kept: Mapping[str, Variable]
    records: Mapping[str, KeyRecord]
    warnings: tuple[str, ...]
    total_charge: float | None
    derives_charge: bool
    declared: frozenset[str] = frozenset()
    drop_inside: bool = False
    esp_points: int = 0

    def brings(self) -> set[str]:
        """Returns the variables of the store that there are, but for those of all stores."""
        derived = ("esp", "vdw_surface") if self.esp_points else ()
        return {*self.readings, "total_charge", *derived}

    def as_siblings(self, place: str) -> dict[str, Sibling]:
        """Returns what keys mean here, for files of the same keys; ``place`` names this one."""
        return {
            reading.key: Sibling(
                place, reading.semantics, reading.factor, reading.order, reading.about
            )
            for reading in self.readings.values()
        }


def _never_meet(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether no molecule has a value of both."""
    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        return False
    rows = np.isfinite(ours.reshape(len(ours), -1)).any(axis=1)
    others = np.isfinite(theirs.reshape(len(ours), -1)).any(axis=1)
    return not (rows & others).any()


# Values beyond this are padding, which repeats of a key may fill differently.
_PADDING = 500.0
# Moments below this are rounding in any unit, but for those in SI units, which are smaller still.
_NOTHING, _SI = 2e-4, 1e-22
_MOMENTS = (
    *("dipole", "dipole_magnitude", "quadrupole"),
    *("atomic_dipoles", "atomic_quadrupoles", "atomic_octupoles"),
)


class Interpreter:
    """Keys of a source as they are settled: readings, records, and what the user should know."""

    def __init__(
        self,
        source: Source,
        sample: Block,
        declarations: Declarations,
        only: Sequence[str] = (),
    ) -> None:
        self.source, self.declarations, self.only = source, declarations, frozenset(only)
        self.columns = {key: storable(values) for key, values in sample.columns.items()}
        self.n = sample.n_molecules
        self.readings: dict[str, Reading] = {}
        self.records: dict[str, KeyRecord] = {}
        self.warnings: list[str] = []
        self.declared: set[str] = set()
        self.words = Words(source.metadata)
        self.keys: dict[str, list[str]] = {}
        for key, fits in source.layout.fits.items():
            declared = declarations.semantics.get(key)
            meanings = [declared] if declared else sorted({f.semantics for f in fits})
            for meaning in meanings if self.is_asked(key) else ():
                self.keys.setdefault(meaning, []).append(key)

    def is_asked(self, key: str) -> bool:
        """Whether a key may bring a variable that is asked for."""
        stored = {SEMANTICS[name].stored_as for name in self.allowed(key)}
        return not self.only or bool(stored & self.only)

    @property
    def whole(self) -> bool:
        """Whether the sample is the whole source."""
        return self.n == self.source.layout.n_molecules

    def next_key(self, semantics: str, after: Container[str] = ()) -> str | None:
        """Returns the next unsettled key, not among some, that means this and nothing else."""
        for key in self.keys.get(semantics, []):
            if key not in self.records and key not in after and self.allowed(key) == {semantics}:
                return key
        return None

    def next_of(self, semantics: Collection[str], after: Container[str]) -> str | None:
        """Returns the next unsettled key, not among some, that can only mean some of these."""
        for key in dict.fromkeys(key for name in semantics for key in self.keys.get(name, [])):
            if key not in self.records and key not in after and self.allowed(key) <= {*semantics}:
                return key
        return None

    def allowed(self, key: str) -> set[str]:
        """Returns what a key can mean: as declared, or else by its shape."""
        declared = self.declarations.semantics.get(key)
        return {declared} if declared else self.meanings(key)

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

    def said(self, key: str) -> Said:
        """What is said of a key, apart from its values."""
        declarations = self.declarations
        sibling = declarations.siblings.get(key)
        return Said(
            f"{self.source.place}, {key}",
            key,
            declarations,
            {
                semantics: word
                for semantics in self.allowed(key)
                if (word := self.words.of(key, semantics)) is not None
            },
            None if key in declarations.semantics else sibling,
        )

    def weighed_as(
        self, key: str, hypotheses: Sequence[Hypothesis], *, alone: bool = False
    ) -> list[Hypothesis]:
        """Readings of a key with what is said of it.

        The unit of nothing makes no difference, and is that of the store.

        Args:
            key: The key.
            hypotheses: Its readings.
            alone: Leave out what another file of the folder says.
        """
        if self.is_nothing(key):
            evidence = "it is zero in every molecule, so that its unit makes no difference"
            hypotheses = [
                h
                for semantics in dict.fromkeys(h.semantics for h in hypotheses)
                for h in certain(semantics, evidence, self.declarations.unit(key, semantics))
            ][:1]
        said = self.said(key)
        return (replace(said, sibling=None) if alone else said).restricted(hypotheses)

    def is_nothing(self, key: str) -> bool:
        """Whether the values of a key are zero in every molecule of the source."""
        if not self.whole or self.columns[key].dtype.kind in "US":
            return False
        largest = float(np.abs(np.nan_to_num(self.columns[key].astype(np.float64))).max(initial=0))
        moment = all(SEMANTICS[name].stored_as in _MOMENTS for name in self.allowed(key))
        return largest == 0 or (moment and _SI < largest <= _NOTHING)

    def take(self, key: str, hypotheses: Sequence[Hypothesis]) -> Conclusion:
        """Settles a key by itself, and records it."""
        return self.record(key, alone(self.weighed_as(key, hypotheses)))

    def record(self, key: str, weighed: Sequence[Weighed]) -> Conclusion:
        """Takes the most probable reading of a key, if it is one to take, and records it.

        Raises:
            AmbiguityError: Several readings are left, or none fits.
            ConfigError: Evidence contradicts a declaration.
        """
        self._check_words(key)
        conclusion = conclude(self.said(key), weighed)
        best = conclusion.hypothesis
        stored = SEMANTICS[best.semantics].stored_as
        if stored in self.readings:
            self._repeat(key, best, stored)
            return conclusion
        self.readings[stored] = Reading(key, best.semantics, best.factor, best.order, best.about)
        if best.unit and conclusion.unit_from in ("declared", "forced"):
            self.declared.add(stored)
        self.records[key] = self._record(key, best.semantics, stored).model_copy(
            update={
                "unit": best.unit or "",
                "semantics_from": conclusion.semantics_from,
                "unit_from": conclusion.unit_from,
                "confidence": round(conclusion.confidence, 6),
                "evidence": (best.evidence,) if best.evidence else (),
            }
        )
        return conclusion

    def _check_words(self, key: str) -> None:
        """Raises an AmbiguityError where the file names a unit that is not known."""
        for semantics in sorted(self.allowed(key)):
            unread = self.words.unread(key, semantics)
            if unread and self.declarations.unit(key, semantics) is None:
                raise AmbiguityError.of(
                    f"{self.source.place}, {key}",
                    wrong="the file names a unit that is not a known one of "
                    f"{SEMANTICS[semantics].quantity}: {unread}",
                    consequence="its values may be in any other, so nothing was stored",
                    remedy=f"Say its unit with --declare unit.{key}=UNIT, or convert the values",
                )

    def record_together(self, first: str, own: Sequence[Hypothesis], others: Others) -> None:
        """Settles keys of which all others are held against one, and records them.

        Args:
            first: That key; empty if there is none.
            own: Its readings.
            others: Readings of the others, given one of the first.
        """
        found = {key: weighed for key, weighed in together(first, own, others).items() if weighed}
        unsure = alone(own)[0].probability < CONFIDENT
        others_text = " and ".join(key for key in found if key != first)
        for key, weighed in found.items():
            best, probability = weighed[0]
            settled = best.unit is not None and probability > CONFIDENT
            if key == first and unsure and others_text and settled:
                text = f"{best.evidence}; with {others_text} it makes sense in this unit alone"
                weighed[0] = Weighed(replace(best, evidence=text), probability)
            if key:
                self.record(key, weighed)

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
                self.records[key] = self._record(key, semantics, SEMANTICS[semantics].stored_as)

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
                wrong=(
                    f"both are {stored}, but the values "
                    + (
                        "belong to different molecules, perhaps in different units"
                        if _never_meet(ours, theirs)
                        else "differ"
                    )
                ),
                consequence="only one can be stored",
                remedy=f"Say which is not the {stored} with --declare {first.key}=unknown or "
                f"--declare {key}=unknown",
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
