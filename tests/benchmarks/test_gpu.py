"""Training on a card: how fast, how busy, what it takes; figures for docs/benchmarks.md.

``DCMNET_CARD=cpu`` tries it on the processor, with few sizes.
"""

import os

import numpy as np
import pytest

from tests.benchmarks import device_speed
from tests.benchmarks.published_training import FOLDER
from tests.on_device import CARD, CPU, has_card, on
from tests.stores import random_columns, write_store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not has_card(), reason="there is no card"),
]
TRIAL = CARD == CPU
FEATURES = (16,) if TRIAL else (16, 32, 64)
BATCHES = (16,) if TRIAL else (16, 64, 128, 512, 2048)
MOLECULES = 200 if TRIAL else 16_384


def shown(value, form):
    return "-" if value is None else form.format(value)


def test_steps(capsys):
    rows = [on(CARD, device_speed.steps_of, F, B) for F in FEATURES for B in BATCHES]
    with capsys.disabled():
        print("\nfeatures  batch  ms/step  molecules/s  kernels  idle  transfer ms  peak MB")
        for row in rows:
            print(
                f"{row.features:8}  {row.batch:5}  {row.ms:7.2f}  {row.molecules_per_second:11,.0f}"
                f"  {shown(row.kernels, '{:.0f}'):>7}  {shown(row.idle, '{:.0%}'):>4}"
                f"  {row.transfer_ms:11.2f}  {shown(row.peak_mb, '{:,.0f}'):>7}"
            )
    # Of a step at the largest batch a card computes longer than it waits.
    assert all(row.idle is None or row.idle < 0.5 for row in rows if row.batch == max(BATCHES))


@pytest.mark.skipif(FOLDER is None, reason="DCMNET_PUBLISHED names no published implementation")
def test_steps_of_the_published_implementation(capsys):
    found = {F: on(CARD, device_speed.published_of, F) for F in FEATURES}
    assert all(ms > 0 for ms in found.values())
    with capsys.disabled():
        print("\npublished, a molecule per step: features, ms/step, molecules/s")
        for features, ms in found.items():
            print(f"{features:8}  {ms:7.2f}  {1e3 / ms:11,.0f}")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Molecules of QM9's sizes, any values."""
    rng = np.random.default_rng(0)
    columns = random_columns(rng, rng.integers(15, 22, MOLECULES), np.full(MOLECULES, 1008), 0)
    return write_store(tmp_path_factory.mktemp("stores") / "many.zarr", columns)


def test_a_run_keeps_the_card_fed(store, capsys):
    batch = 16 if TRIAL else 512
    fed = on(CARD, device_speed.feeding, str(store), batch)
    speed, waits, padding = on(CARD, device_speed.run_of, str(store), FEATURES[-1], batch)
    with capsys.disabled():
        print(
            f"\nrun_training, {FEATURES[-1]} features, batch {batch}: {speed:,.0f} molecules/s, "
            f"input wait {waits:.1%}, padding {padding:.1%}; the loader and {os.cpu_count()} cores "
            f"bring {fed:,.0f} molecules/s"
        )
    assert waits < 0.2
