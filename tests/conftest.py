"""How all tests run: on the CPU, with shapes checked, and with NaN an error."""

import os
from uuid import uuid4

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

from tests.typechecking import checked

# Before anything imports the packages: their annotations are checked from here on.
PACKAGES = ["store_schema", "pipeline", "dcmnet"]
jaxtyping.install_import_hook(PACKAGES, f"{checked.__module__}.{checked.__name__}")

hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


def pytest_configure(config):
    # Tests compile the same functions again and again; .pytest_cache keeps them.
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_debug_nans", True)


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory):
    """The bundled sample, ingested once. Tests that write into a store take a copy."""
    from pipeline import ingest
    from pipeline.sample import sample_sources

    store = tmp_path_factory.mktemp("sample") / "sample.zarr"
    ingest(sample_sources(), store)
    return store


@pytest.fixture(scope="session")
def trained(sample_store, tmp_path_factory):
    """An experiment on the sample: its directory, and what `run_training` returned."""
    from dcmnet import run_training
    from tests.experiments import SETTINGS

    out = tmp_path_factory.mktemp("experiments")
    return run_training("trial", sample_store, out=str(out), **SETTINGS)


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
