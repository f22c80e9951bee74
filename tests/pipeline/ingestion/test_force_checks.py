"""Forces of single molecules that no molecule standing alone has are set aside."""

import numpy as np
import pytest

from pipeline import ingest
from pipeline.sample import sample_sources

FAULTS = {
    "zero": (np.zeros_like, "all zero"),
    "no value": (lambda forces: np.full_like(forces, -999.0), "hartree/Å, not to 0"),
    "turned": (lambda forces: forces[:, [1, 2, 0]], "its forces turn it"),
    "lost": (
        lambda forces: np.where(np.arange(len(forces))[:, None] == 1, np.nan, forces),
        "have no force",
    ),
}


@pytest.mark.parametrize("declare", [{}, {"F": "forces", "unit.F": "hartree/angstrom"}])
@pytest.mark.parametrize("fault", FAULTS)
def test_they_are_set_aside_and_the_others_are_not(tmp_path, fault, declare):
    _, _, roles, _ = sample_sources()
    with np.load(roles / "energies_forces_dipoles.npz") as raw:
        columns = {key: raw[key].copy() for key in ("Z", "R", "E", "F", "N")}
    change, reason = FAULTS[fault]
    size = np.linalg.norm(np.nan_to_num(columns["F"]), axis=(1, 2))
    row = int(np.argmax(size))
    columns["F"][row] = change(columns["F"][row])
    np.savez(tmp_path / "a.npz", **columns, F_unit=np.array("hartree/angstrom"))
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr", declare=declare)
    if declare and fault == "turned":  # as in a crystal: users have said that they are forces
        assert report.n_quarantined == 0
        return
    assert report.n_quarantined == 1
    assert reason in next(iter(report.reasons))
