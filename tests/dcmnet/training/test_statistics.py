"""Statistics of a run against numpy in float64 on the valid entries, nothing else."""

import jax
import numpy as np
import pytest
import scipy.constants

from dcmnet.config import TrainingConfig
from dcmnet.model.observables import Observables
from dcmnet.training.losses import molecule_losses
from dcmnet.training.statistics import Accumulator, batch_statistics
from pipeline.loader import BatchShape, make_batch
from tests.molecules import random_molecule, without

SHAPE = BatchShape(molecules=4, atoms=8, grid_points=30, pairs=300)
CONFIG = TrainingConfig(dipole_w=1.0, quadrupole_w=1.0)
DEBYE = 1e-21 / scipy.constants.c / scipy.constants.e / scipy.constants.angstrom
KCAL = scipy.constants.value("Hartree energy") * scipy.constants.N_A / 4184


@jax.jit
def statistics(prediction, batch):
    terms = molecule_losses(prediction, batch, CONFIG)
    return batch_statistics(prediction, batch, terms), terms


@pytest.fixture(scope="module")
def epoch():
    """Three batches, the last one partly empty, targets missing here and there."""
    rng = np.random.default_rng(4)
    molecules = [
        random_molecule(rng, int(rng.integers(1, 9)), int(rng.integers(1, 31))) for _ in range(10)
    ]
    molecules[1] = without(molecules[1], "monopoles", "dipole")
    molecules[5] = without(molecules[5], "esp")
    batches = [make_batch(molecules[i : i + 4], SHAPE) for i in (0, 4, 8)]
    B, A, G, _ = SHAPE
    sizes = {"esp": (B, G), "monopoles": (B, A), "dipole": (B, 3), "quadrupole": (B, 3, 3)}
    sizes |= {"charges": (B, A, 2), "displacements": (B, A, 2, 3), "electric_field": (B, 0, 3)}
    predictions = [
        Observables(**{n: rng.normal(size=s).astype(np.float32) for n, s in sizes.items()})
        for _ in batches
    ]
    return molecules, batches, predictions


def gathered(epoch, order=(0, 1, 2)):
    _, batches, predictions = epoch
    accumulator = Accumulator()
    for i in order:
        accumulator.add([statistics(predictions[i], batches[i])[0]])
    return accumulator


def errors_of(epoch, name, factor):
    """Errors of all valid entries of all molecules that have the target, in double precision."""
    molecules, _, predictions = epoch
    found = []
    for i, molecule in enumerate(molecules):
        if name in molecule:
            reference = np.asarray(molecule[name], np.float32).astype(float)
            value = getattr(predictions[i // 4], name)[i % 4].astype(float)
            found.append(factor * (value[: len(reference)] - reference))
    return found


@pytest.mark.parametrize(
    ("metric", "name", "factor"),
    [("esp", "esp", KCAL), ("monopole", "monopoles", 1.0), ("dipole", "dipole", 1 / DEBYE)],
)
def test_errors_equal_numpy(epoch, metric, name, factor):
    """The traps of errors averaged over padding, and of metrics that were never computed."""
    errors = np.concatenate(errors_of(epoch, name, factor))
    metrics = gathered(epoch).metrics()
    rmse = "esp_rmse_points" if metric == "esp" else f"{metric}_rmse"
    expected = {
        f"{metric}_mae": np.abs(errors).mean(),
        rmse: np.sqrt((errors**2).mean()),
        f"{metric}_mean": errors.mean(),
        f"{metric}_std": errors.std(),
        f"{metric}_min": errors.min(),
        f"{metric}_max": errors.max(),
    }
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key


def test_esp_rmse_is_the_mean_over_molecules(epoch):
    rmse = [np.sqrt((e**2).mean()) for e in errors_of(epoch, "esp", KCAL)]
    assert gathered(epoch).metrics()["esp_rmse"] == pytest.approx(np.mean(rmse), rel=1e-5)


def test_displacements_are_those_of_real_atoms(epoch):
    _, batches, predictions = epoch
    lengths = np.concatenate(
        [
            np.linalg.norm(p.displacements.astype(float), axis=-1)[b.atom_mask].ravel()
            for b, p in zip(batches, predictions, strict=True)
        ]
    )
    metrics = gathered(epoch).metrics()
    assert metrics["displacement_mean"] == pytest.approx(lengths.mean(), rel=1e-5)
    assert metrics["displacement_max"] == pytest.approx(lengths.max(), rel=1e-5)


def test_losses_are_means_over_molecules_not_over_batches(epoch):
    """The trap of the last partial batch: its two molecules weigh as any two others."""
    _, batches, predictions = epoch
    rows = [
        sum(np.asarray(term, float) for term in statistics(p, b)[1].values())[b.molecule_mask]
        for b, p in zip(batches, predictions, strict=True)
    ]
    metrics = gathered(epoch).metrics()
    assert sum(map(len, rows)) == 10
    assert metrics["loss"] == pytest.approx(np.concatenate(rows).mean(), rel=1e-5)
    terms = [metrics[f"loss_{name}"] for name in ("esp", "monopoles", "dipole", "quadrupole")]
    assert metrics["loss"] == pytest.approx(sum(terms), rel=1e-5)


def test_order_of_batches_does_not_matter(epoch):
    assert gathered(epoch, (2, 0, 1)).metrics() == pytest.approx(gathered(epoch).metrics())


def test_a_checkpoint_of_the_sums_goes_on_exactly(epoch):
    _, batches, predictions = epoch
    saved = gathered(epoch, (0, 1)).state()
    again = Accumulator()
    again.restore(saved)
    again.add([statistics(predictions[2], batches[2])[0]])
    assert again.metrics() == gathered(epoch).metrics()


def test_what_has_no_reference_is_not_reported(epoch):
    molecules, _, predictions = epoch
    batch = make_batch([without(m, "monopoles", "esp") for m in molecules[:4]], SHAPE)
    accumulator = Accumulator()
    accumulator.add([statistics(predictions[0], batch)[0]])
    metrics = accumulator.metrics()
    assert not [name for name in metrics if name.startswith(("monopole", "esp"))]
    assert "dipole_mae" in metrics
    assert Accumulator().metrics() == {}
