"""How the spread of an ensemble is made an error to expect, and how far that is to be trusted."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

_DIGITS = 3


class Calibration(BaseModel):
    """What spreads were measured to mean on molecules with a reference.

    Attributes:
        factor: What a spread is multiplied by to give the error to expect.
        n_molecules: Molecules that it was measured on.
        correlation: Rank correlation of expected and actual errors there; None of one molecule.
        within_twice: Share of them whose error is below twice the expected one.
        limit: Largest expected error but for 5 % of them, kcal/mol/e: what is beyond was hardly
            ever tested. None where it is not on record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    factor: float = Field(gt=0)
    n_molecules: int
    correlation: float | None
    within_twice: float
    limit: float | None = None

    @property
    def in_words(self) -> str:
        """How far it is to be trusted, as a sentence."""
        related = "not defined" if self.correlation is None else f"{self.correlation:.2f}"
        molecules = "molecule" if self.n_molecules == 1 else "molecules"
        return (
            f"On {self.n_molecules:,} {molecules} the median error was {self.factor:.2f} times the "
            f"spread. {self.within_twice:.0%} of the errors were below {2 * self.factor:.1f} times "
            f"the spread. The rank correlation of spread and error was {related}."
        )


def calibrated(
    errors: Float[np.ndarray, " molecule"], spreads: Float[np.ndarray, " molecule"]
) -> Calibration | None:
    """Measures what the spread of an ensemble means.

    Args:
        errors: ESP RMSE of each molecule, kcal/mol/e.
        spreads: Spread of the ensemble there, uncalibrated, kcal/mol/e.

    Returns:
        The calibration, whose factor is the median of error / spread; None where no molecule
        has both, or members do not differ.
    """
    from scipy.stats import spearmanr  # which takes a third of a second to import

    known = np.isfinite(errors) & np.isfinite(spreads) & (spreads > 0) & (errors > 0)
    errors, spreads = errors[known], spreads[known]
    if not errors.size:
        return None
    factor = float(np.median(errors / spreads))
    varied = np.ptp(errors) > 0 and np.ptp(spreads) > 0
    return Calibration(
        factor=round(factor, _DIGITS) or factor,
        n_molecules=errors.size,
        correlation=round(float(spearmanr(errors, spreads).statistic), _DIGITS) if varied else None,
        within_twice=round(float(np.mean(errors <= 2 * factor * spreads)), _DIGITS),
        limit=round(float(np.percentile(factor * spreads, 95)), _DIGITS),
    )
