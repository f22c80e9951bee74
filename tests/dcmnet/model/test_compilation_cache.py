"""Where compiled functions are kept, for whatever loads a model."""

import jax
import pytest

from dcmnet import load_model

DIRECTORY, THRESHOLD = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture(autouse=True)
def as_before():
    before = {name: jax.config.values[name] for name in (DIRECTORY, THRESHOLD)}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_who_loads_a_model_keeps_what_is_compiled(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update(DIRECTORY, None)
    load_model(trained[2])
    assert jax.config.values[DIRECTORY] == str(tmp_path / "dcmnet" / "xla")
    assert jax.config.values[THRESHOLD] == 0


def test_a_place_that_the_user_chose_is_left(trained, tmp_path):
    jax.config.update(DIRECTORY, str(tmp_path))
    load_model(trained[2])
    assert jax.config.values[DIRECTORY] == str(tmp_path)
