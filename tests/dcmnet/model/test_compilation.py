"""How functions are compiled, and where they are kept, for whatever loads a model."""

import os

import jax
import pytest

from dcmnet import load_model
from dcmnet.model.compilation import set_up_compilation
from dcmnet.training.processes import joining
from dcmnet.training.processes.agreement import Processes

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


@pytest.mark.parametrize("flags", ["", "--xla_force_host_platform_device_count=4"])
def test_flags_of_the_user_are_added_to_once(monkeypatch, flags):
    monkeypatch.setenv("XLA_FLAGS", flags)
    for _ in range(2):
        set_up_compilation()
    own = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
    assert os.environ["XLA_FLAGS"].split() == [*flags.split(), own]


def test_a_run_sets_it_up_before_it_looks_at_devices(monkeypatch):
    """XLA reads its flags then, once."""
    monkeypatch.setenv("XLA_FLAGS", "")
    seen = []

    def look():
        seen.append(os.environ["XLA_FLAGS"])
        return Processes()

    monkeypatch.setattr(joining, "Processes", look)
    with joining.joined():
        pass
    assert ["loop_unrolling" in flags for flags in seen] == [True]


def test_options_that_the_user_chose_are_left(monkeypatch):
    chosen = "--xla_backend_extra_options=xla_cpu_optimize_for_size"
    monkeypatch.setenv("XLA_FLAGS", chosen)
    set_up_compilation()
    assert os.environ["XLA_FLAGS"] == chosen
