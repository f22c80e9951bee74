"""Several devices: the same training as on one, molecules dealt, sums added up."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmnet import load_model, run_training
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.training.processes.devices import deal
from dcmnet.training.statistics import added_across, sums_of
from pipeline.loader import make_batch
from tests.dcmnet.training.test_train_runner import interrupt, killed_between_batches
from tests.experiments import SETTINGS, metrics
from tests.molecules import random_molecule, seeds

# Neither batches nor the last of them divide by four.
FIELDS = {**SETTINGS, "batch_size": 6, "num_epochs": 2, "learning_rate": 1e-3}
ON_FOUR = """
import sys
import jax
from dcmnet.train_runner import resume
assert jax.local_device_count() == 4
resume(sys.argv[1])
"""


@given(seeds, st.integers(1, 7), st.integers(1, 5))
def test_dealt_molecules_and_pairs_are_those_of_the_batch(seed, n_molecules, devices):
    rng = np.random.default_rng(seed)
    batch = make_batch([random_molecule(rng, int(n), 4) for n in rng.integers(1, 6, n_molecules)])
    dealt = deal(batch, devices)
    each, atoms = dealt.atomic_numbers.shape[1:]
    assert each == -(-n_molecules // devices)
    for name in set(batch._fields) - {"pair_dst", "pair_src", "pair_mask"}:
        joined = getattr(dealt, name).reshape(devices * each, *getattr(batch, name).shape[1:])
        np.testing.assert_array_equal(joined[:n_molecules], getattr(batch, name))
    assert not dealt.molecule_mask.reshape(-1)[n_molecules:].any()
    assert (dealt.molecule_index.reshape(-1)[n_molecules:] == -1).all()
    found = []
    for device in range(devices):
        mask, dst, src = (getattr(dealt, f"pair_{end}")[device] for end in ("mask", "dst", "src"))
        assert (np.diff(dst) >= 0).all(), "segment sums rely on it"
        assert max(dst.max(), src.max()) < each * atoms
        found.append(np.stack([dst, src])[:, mask] + device * each * atoms)
    expected = np.stack([batch.pair_dst, batch.pair_src])[:, batch.pair_mask]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)


def test_statistics_of_devices_are_those_of_all_values(rng):
    values = jnp.asarray(rng.normal(size=(3, 20)), jnp.float32)
    mask = jnp.asarray(rng.random((3, 20)) < 0.5)
    parts = jax.vmap(lambda v, m: added_across({"x": sums_of(v, m)}, "device"), axis_name="device")(
        values, mask
    )
    expected = np.broadcast_to(sums_of(values, mask), (3, 6))
    np.testing.assert_allclose(parts["x"], expected, rtol=1e-6)


@pytest.fixture(scope="module")
def runs(sample_store, tmp_path_factory, pytestconfig):
    """A run on one device, and one begun on one and resumed on four."""
    out = tmp_path_factory.mktemp("devices")
    run_training("one", sample_store, out=str(out), **FIELDS)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, killed_between_batches)
        with pytest.raises(KeyboardInterrupt):
            run_training("four", sample_store, out=str(out), **FIELDS)
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
        "JAX_COMPILATION_CACHE_DIR": str(pytestconfig.cache.mkdir("xla")),
    }
    arguments = [sys.executable, "-c", ON_FOUR, str(out / "four")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(one=out / "one", four=out / "four")


@pytest.mark.slow
def test_four_devices_train_what_one_does(runs):
    """The second epoch, more than 20 updates, is that of one device though four made it."""
    expected, found = (load_model(run, "latest").params for run in (runs.one, runs.four))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), found, expected)
    ((_, one), (first, four)) = metrics(runs.one), metrics(runs.four)
    assert four["updates"] == one["updates"] >= first["updates"] + 20
    for part in ("train", "valid"):
        assert four[part] == pytest.approx(one[part], rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_four_devices_is_restored_on_one(runs):
    with Checkpoints(runs.four / "checkpoints", read_only=True) as checkpoints:
        params, _ = checkpoints.restore_model("best", load_model(runs.one).params)
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(params)} == {1}
