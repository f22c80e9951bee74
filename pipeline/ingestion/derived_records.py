"""Records of what no key of a source gave: the net charge, and ESPs of multipoles."""

from __future__ import annotations

from pipeline.inference.interpretation import Interpretation
from pipeline.ingestion.derived_esp import DerivedTally
from store_schema import KeyRecord


def charge_record(interpretation: Interpretation, n_present: int) -> dict[str, KeyRecord]:
    """Returns how the net charge came about where no key gave it, under the variable's own name.

    Args:
        interpretation: What the keys of the source mean.
        n_present: Molecules that have one.
    """
    declared = interpretation.total_charge is not None
    if not n_present:
        return {}
    evidence = "charges that explain the ESP, or else the monopoles, sum to whole numbers"
    return {
        "total_charge": KeyRecord(
            semantics="total_charge",
            stored_as="total_charge",
            unit="e",
            semantics_from="declared" if declared else "derived",
            unit_from="declared" if declared else "derived",
            evidence=() if declared else (evidence,),
            n_present=n_present,
        )
    }


def derived_records(derived: DerivedTally) -> dict[str, KeyRecord]:
    """Returns what ESPs were evaluated from, and how far they are from those of the source.

    Args:
        derived: How many were.
    """
    count = derived.origins.total()
    said = ", ".join(f"{n} from {origin}" for origin, n in derived.origins.items())
    evidence = [f"evaluated on shells around the molecules: {said}"] if said else []
    meant = {
        "ESP of multipoles": ("esp", "hartree/e", (*evidence, *filter(None, [derived.apart]))),
        "its points": ("vdw_surface", "angstrom", ()),
    }
    return {
        key: KeyRecord(
            semantics=variable,
            stored_as=variable if count else "",
            unit=unit,
            semantics_from="derived",
            unit_from="derived",
            evidence=tuple(text),
            n_present=count,
        )
        for key, (variable, unit, text) in meant.items()
    }
