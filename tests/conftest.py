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


@pytest.fixture(scope="session")
def s3():
    """Address of a real S3 server on loopback, which has a bucket of the name ``bucket``."""
    from tests.object_store import s3_server

    with s3_server() as address:
        yield address


@pytest.fixture
def url(s3, monkeypatch):
    """URL of a store that is not there yet, with the environment that reaches it."""
    from tests.object_store import environment

    for name, value in environment(s3).items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid4().hex}/a.zarr"


@pytest.fixture
def rng():
    return np.random.default_rng(0)
