"""Published parameters: read without running code, and predicting as published."""

import os
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmnet.config import ModelConfig
from dcmnet.experiment.directory import load_model
from dcmnet.model import create_model
from dcmnet.model.published import read_published
from pipeline.loader import make_batch
from store_schema.problems import CheckpointError
from tests.molecules import SmallNetwork

PUBLISHED = Path(__file__).parents[4] / "shared" / "published_model"
FIELDS = ("atomic_numbers", "positions", "charges", "charge_positions")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published model is not at hand")
@pytest.mark.parametrize("n_dcm", [2, 3, 4])
def test_published_predictions_are_reproduced(n_dcm):
    """Twelve molecules in one padded batch, as they were predicted one by one."""
    config, params = read_published(PUBLISHED / f"dcm{n_dcm}_params.pkl")
    assert config == ModelConfig(n_dcm=n_dcm, max_atomic_number=config.max_atomic_number)
    assert config.max_atomic_number == 17
    with np.load(PUBLISHED / f"dcm{n_dcm}_predictions.npz") as file:
        expected = [{name: file[f"{i}/{name}"] for name in FIELDS} for i in range(12)]
    batch = make_batch([{name: m[name] for name in FIELDS[:2]} for m in expected])
    network = create_model(config)
    charges, positions = jax.jit(network.apply, static_argnums=2)(params, batch, False)
    for i, molecule in enumerate(expected):
        n_atoms = len(molecule["atomic_numbers"])
        np.testing.assert_allclose(charges[i, :n_atoms], molecule["charges"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            positions[i, :n_atoms], molecule["charge_positions"], rtol=0, atol=1e-5
        )


@pytest.fixture(scope="module")
def model():
    return SmallNetwork.make(n_dcm=3, max_degree=2, max_atomic_number=17)


def as_published(params):
    """The flat tree of the published code, with the dense layer of the head counted on."""
    tree = params["params"]
    head = dict(tree["charge_head"])
    dense = head.pop("Dense_0")
    return {"params": {**tree["message_passing"], **head, "Dense_4": dense}}


def written(tree, tmp_path):
    path = tmp_path / "params.pkl"
    path.write_bytes(tree if isinstance(tree, bytes) else pickle.dumps(tree))
    return path


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_what_was_pickled_is_read(model, tmp_path, array):
    """JAX still pickles arrays as it did then, so that this file is like the published ones."""
    path = written(jax.tree.map(array, as_published(model.params)), tmp_path)
    config, params = read_published(path)
    assert create_model(config) == model.network
    assert jax.tree.structure(params) == jax.tree.structure(model.params)
    jax.tree.map(np.testing.assert_array_equal, params, model.params)


def test_a_published_file_predicts(model, tmp_path):
    path = written(as_published(model.params), tmp_path)
    charges, positions = load_model(path).predict([8, 1], [[0, 0, 0], [0, 0, 0.97]], -1)
    assert (charges.shape, positions.shape) == ((2, 3), (2, 3, 3))
    np.testing.assert_allclose(charges.astype(float).sum(), -1, atol=1e-6)


class Calls:
    """Pickled, it is a call that runs on loading."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function", [os.system, eval, exec, __import__, os.mkdir], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {"params": {"Embed_0": [c]}}])
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, function, wrap):
    monkeypatch.chdir(tmp_path)
    argument = {os.system: "mkdir ran", os.mkdir: "ran"}.get(function, "os.mkdir('ran')")
    path = written(wrap(Calls(function, argument)), tmp_path)
    with pytest.raises(CheckpointError, match="not an array"):
        read_published(path)
    assert not (tmp_path / "ran").exists()


def test_objects_inside_arrays_are_refused(tmp_path):
    harmless = {"params": {"Embed_0": {"embedding": np.array([object], dtype=object)}}}
    with pytest.raises(CheckpointError):
        read_published(written(harmless, tmp_path))


def test_every_truncation_is_refused(model, tmp_path):
    whole = pickle.dumps(as_published(model.params))
    for length in np.linspace(0, len(whole) - 1, 25).astype(int):
        with pytest.raises(CheckpointError):
            read_published(written(whole[:length], tmp_path))


def endless():
    tree = {}
    tree["params"] = tree
    return tree


def nested(depth):
    """The pickle of dictionaries in dictionaries, deeper than pickle itself would write."""
    key = b"X\x06\x00\x00\x00params"
    return pickle.PROTO + b"\x02}" + (key + b"}") * depth + b"s" * depth + b"."


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param({}, id="nothing"),
        pytest.param([], id="list"),
        pytest.param(np.zeros(3), id="array"),
        pytest.param({"params": {}}, id="no parameters"),
        pytest.param({"params": "text"}, id="text"),
        pytest.param({"params": np.zeros(3)}, id="array of parameters"),
        pytest.param({"params": {"Embed_0": {"embedding": np.arange(72)}}}, id="integers"),
        pytest.param({"params": {"Embed_0": {"embedding": np.zeros((18, 4))}}}, id="shape"),
        pytest.param({"params": {"Embed_0": {"embedding": np.zeros((18, 1, 1, 4))}}}, id="rest"),
        pytest.param({"params": {"Embed_0": {"embedding": {"a": np.zeros(3)}}}}, id="deeper"),
        pytest.param(Calls(np.ndarray, (2**60,)), id="bomb"),
        pytest.param(nested(100_000), id="nested"),
        pytest.param(endless(), id="endless"),
    ],
)
def test_anything_else_is_refused(tmp_path, tree):
    with pytest.raises(CheckpointError):
        read_published(written(tree, tmp_path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pkl"):
        read_published(tmp_path / "absent.pkl")
