"""How all tests run: on the CPU, with shapes checked, and with NaN an error."""

import json
import os
from importlib import import_module
from uuid import uuid4

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax
# One process per core runs the tests; threads of each would only wait for those of the others.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import jax
import numpy as np
import pytest

from tests import typechecking

# What a checked module imports first is compiled anew, as the module is; so others come before.
for _package in (
    *("e3x", "grain", "matplotlib.pyplot", "numba", "optax", "orbax.checkpoint", "pandas"),
    *("pydantic", "rich.console", "rich.progress", "scipy.spatial", "scipy.stats", "tensorboardX"),
    *("typer", "xarray", "zarr"),
):
    import_module(_package)

# Before anything imports the packages: their annotations are checked from here on.
typechecking.install(["store_schema", "pipeline", "dcmnet"])

hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


# What tests compile runs for milliseconds: compiling it in half the time is worth more.
_QUICKLY_COMPILED = (
    "--xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling,xla_cpu_disable_new_fusion_emitters"
)


def pytest_configure(config):
    if config.option.markexpr not in {"benchmark", "gpu"}:  # which measure
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICKLY_COMPILED}".strip()
    # Tests compile the same functions again and again; .pytest_cache keeps them.
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_debug_nans", True)
    # Broadcasting over new axes is written out.
    jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_runtest_setup():
    typechecking.begin_test()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder of programs in which there is none, and nothing in memory.

    What XLA compiled is kept: tests compile the same programs.
    """
    from dcmnet.model import tracing
    from tests.kept_programs import forgotten

    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setattr(tracing, "_FOLDER", tmp_path / "programs")
    forgotten()
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)
    forgotten()


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory):
    """The bundled sample, ingested once. Tests that write into a store take a copy."""
    from pipeline import ingest
    from pipeline.sample import sample_sources

    store = tmp_path_factory.mktemp("sample") / "sample.zarr"
    ingest(sample_sources(), store)
    yield store
    assert not (store / "results").exists(), "a test wrote results into the store of all tests"


@pytest.fixture(scope="session")
def trained(sample_store, tmp_path_factory):
    """An experiment on the sample: its directory, and what `run_training` returned."""
    from dcmnet import run_training
    from tests.experiments import SETTINGS

    out = tmp_path_factory.mktemp("experiments")
    settings = SETTINGS | {"summary_every_n_epochs": 10}
    return run_training("trial", sample_store, out=str(out), **settings)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """A store of a few molecules, with one in quarantine. Tests that change it take a copy."""
    from pipeline import ingest
    from pipeline.sample import sample_sources

    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key][:12].copy() for key in raw.files}
    columns["R"][3, 1] = columns["R"][3, 0]  # two atoms in one place
    folder = tmp_path_factory.mktemp("small")
    np.savez(folder / "a.npz", **columns)
    ingest([folder / "a.npz"], folder / "a.zarr")
    return folder / "a.zarr"


@pytest.fixture(scope="session")
def small_experiment(small_store, tmp_path_factory):
    """An experiment on a copy of that store, with an epoch left to train, and the store."""
    from dcmnet import run_training
    from tests.experiments import SETTINGS, copy

    folder = tmp_path_factory.mktemp("small")
    store = copy(small_store, folder / "b.zarr")
    settings = SETTINGS | {"batch_size": 4, "num_epochs": 2, "save_every_n_epochs": 1}
    _, _, directory = run_training("trial", store, out=str(folder), **settings)
    config = json.loads((directory / "config.json").read_text())
    config["training"]["num_epochs"] = 3
    (directory / "config.json").write_text(json.dumps(config))
    return directory, store


@pytest.fixture(scope="session", params=["s3", "gs"])
def server(request):
    """A real server of objects on loopback: of S3, and Google's emulator of its own storage."""
    from tests.google_store import google_server
    from tests.object_store import s3_server

    with {"s3": s3_server, "gs": google_server}[request.param]() as server:
        yield server


@pytest.fixture
def url(server, monkeypatch):
    """URL of a store that is not there yet, with the environment that reaches it."""
    server.reach(monkeypatch)
    return f"{server.scheme}://bucket/{uuid4().hex}/a.zarr"


@pytest.fixture
def rng():
    return np.random.default_rng(0)
