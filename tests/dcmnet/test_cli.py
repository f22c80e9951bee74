"""The command line as people use it: pages on standard output, refusals in one line, exit codes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from dcmnet.cli import app, main
from pipeline.inspection.inspect import StoreInspection
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError
from tests.dcmnet.training.test_train_runner import asked_to_stop, interrupt
from tests.experiments import SETTINGS, copy, metrics
from tests.stores import random_columns, write_store

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
CLASSIC, IONS, ROLES, _ = map(str, sample_sources())


@pytest.fixture
def dcmnet(monkeypatch, capsys):
    """Runs the program with arguments; returns its exit code and what it wrote."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dcmnet", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code
        return SimpleNamespace(code=code or 0, **capsys.readouterr()._asdict())

    return run


def assert_refused(result, *words):
    """A refusal is one line with everything in it, and never a traceback."""
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("Error: ")
    for word in words:
        assert word in line


def test_the_commands_are_those_of_the_interface():
    assert {"ingest", "inspect", "train", "resume", "analyze", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_what_it_does(command, dcmnet):
    result = dcmnet(command, "--help")
    assert result.code == 0
    assert f"dcmnet {command}" in result.out
    (registered,) = [c for c in app.registered_commands if c.callback.__name__ == command]
    assert registered.callback.__doc__.split("\n")[0].split(",")[0] in result.out


def test_help_does_not_wait_for_jax():
    """Help within a moment: what computes is imported by the command that computes."""
    program = (
        "import sys; sys.argv = ['dcmnet', '--help']\n"
        "from dcmnet.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(sorted({'jax', 'xarray', 'grain', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() in ("", "[]")
    assert "ingest" in done.stdout


def test_predicting_an_xyz_file_does_not_wait_for_stores():
    program = (
        "import sys, dcmnet.commands.models, dcmnet.prediction.run\n"
        "sys.exit(sorted({'zarr', 'xarray', 'pandas', 'orbax', 'grain'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"


def test_ingest_and_inspect_say_what_was_read(dcmnet, tmp_path):
    store = tmp_path / "roles.zarr"
    report = dcmnet("ingest", ROLES, "--store", store)
    assert report.code == 0
    assert "43 molecules" in report.out
    assert "split_by_role" in report.out
    assert "molecular_dipole_vector" in report.out
    page = dcmnet("inspect", store)
    assert page.code == 0
    assert "total charge" in page.out
    assert "forces" in page.out
    inspection = StoreInspection.model_validate(json.loads(dcmnet("inspect", store, "--json").out))
    with xr.open_zarr(store) as molecules:
        assert inspection.store_schema.n_molecules == molecules.sizes["molecule"] == 43
        assert sum(inspection.elements.values()) == int(molecules["n_atoms"].sum())
        assert inspection.sizes["n_grid"].maximum == int(molecules["n_grid"].max())
    keys = inspection.store_schema.sources[0].keys
    assert keys["Q"].semantics == "total_charge"
    assert keys["D"].evidence


def test_ingest_takes_columns_declarations_and_more(dcmnet, tmp_path):
    store = tmp_path / "store.zarr"
    columns = f"{ROLES}/energies_forces_dipoles.npz+{ROLES}/grids_esp.npz"
    declared = ("--declare", "D=molecular_dipole_vector", "--declare", "unit.R=angstrom")
    assert dcmnet("ingest", columns, "--store", store, *declared).code == 0
    more = dcmnet("ingest", IONS, "--store", store, "--append")
    assert more.code == 0
    inspection = json.loads(dcmnet("inspect", store, "--json").out)
    first, second = inspection["store_schema"]["sources"]
    assert first["keys"]["D"]["semantics_from"] == "declared"
    assert second["first_molecule"] == 43
    again = dcmnet("ingest", IONS, "--store", store, "--append")
    assert again.code == 0
    assert "already" in " ".join(again.out.split())


def settings():
    return [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


def test_train_resume_and_analyze(dcmnet, trained, sample_store, tmp_path):
    """What the command trains is what the function trains; texts became numbers."""
    store = copy(sample_store, tmp_path / "sample.zarr")
    done = dcmnet("train", store, "--name", "trial", "--out", tmp_path, *settings())
    assert done.code == 0
    assert "epoch 3/3" in done.out
    assert "begins with random parameters" in " ".join(done.out.split())
    assert metrics(tmp_path / "trial") == metrics(trained[2])
    resumed = dcmnet("resume", tmp_path / "trial")
    assert resumed.code == 0
    assert "random" not in resumed.out
    page = dcmnet("analyze", tmp_path / "trial", "--split", "valid")
    assert page.code == 0
    assert "ESP RMSE" in page.out
    assert "fitted charges" in page.out
    summary = json.loads((tmp_path / "trial" / "analysis" / "best_analysis.json").read_text())
    assert f"{summary['molecules']['all']['all']['esp_rmse']['mean']:.3f}" in page.out
    assert_refused(dcmnet("analyze", tmp_path / "trial"), "results/trial", "--overwrite")
    assert dcmnet("analyze", tmp_path / "trial", "--overwrite").code == 0
    with xr.open_datatree(store, engine="zarr") as tree:
        group = tree["results/trial"]
        labels = group["split"].values.tolist()
        assert set(labels) == {"test", ""}
        assert int(np.isfinite(group["esp_rmse"]).sum()) == labels.count("test")


def test_an_experiment_runs_again_from_its_configuration_alone(dcmnet, trained, tmp_path):
    config = trained[2] / "config.json"
    done = dcmnet("train", "--config", config, "--name", "again", "--out", tmp_path)
    assert done.code == 0
    assert metrics(tmp_path / "again") == metrics(trained[2])


def test_a_run_that_sigterm_stopped_can_be_told_by_its_exit_code(
    dcmnet, sample_store, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt(patch, asked_to_stop)
        stopped = dcmnet("train", sample_store, "--name", "cut", "--out", tmp_path, *settings())
    assert stopped.code == 75
    assert f"dcmnet resume {tmp_path / 'cut'}" in stopped.out
    assert not stopped.err
    assert dcmnet("resume", tmp_path / "cut").code == 0


def test_a_refusal_is_one_line(dcmnet, trained, sample_store, rng, tmp_path):
    experiment, nowhere = trained[2], tmp_path / "nowhere"
    assert_refused(dcmnet("inspect", nowhere), "nowhere")
    assert_refused(dcmnet("ingest", nowhere, "--store", tmp_path / "a.zarr"), "nowhere")
    assert_refused(dcmnet("ingest", IONS, "--store", sample_store), "sample.zarr")
    assert_refused(
        dcmnet("ingest", IONS, "--store", tmp_path / "a.zarr", "--declare", "D"), "KEY=VALUE"
    )
    assert_refused(dcmnet("train", nowhere, "--name", "a", "--out", tmp_path), "nowhere")
    assert_refused(
        dcmnet("train", sample_store, "--name", "trial", "--out", experiment.parent), "resume"
    )
    assert_refused(dcmnet("train", sample_store, "--name", "a", "--preset", "fast"), "quick")
    assert_refused(dcmnet("train", sample_store, "--name", "a", "--set", "n_dmc=2"), "n_dcm")
    assert_refused(dcmnet("train", sample_store, "--name", "a", "--config", nowhere), "nowhere")
    assert_refused(dcmnet("resume", nowhere), "nowhere")
    assert_refused(dcmnet("analyze", experiment, "--checkpoint", "epoch_9"), "epoch_9", "epoch_2")
    assert_refused(dcmnet("analyze", experiment, "--split", "tset"), "test")
    assert_refused(dcmnet("compare", experiment, nowhere, "--out", "a.xyz"), "a.xyz", "a.png")
    no_esp = random_columns(rng, [3] * 8, [5] * 8)
    del no_esp["esp"], no_esp["vdw_surface"]
    store = write_store(tmp_path / "no_esp.zarr", no_esp)
    assert_refused(dcmnet("train", store, "--name", "a", "--out", tmp_path), "esp_w=0")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.zarr").exists()


def test_a_damaged_file_is_named(dcmnet, tmp_path):
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    result = dcmnet("ingest", tmp_path / "cut.npz", "--store", tmp_path / "a.zarr")
    assert_refused(result, "cut.npz")


def test_several_problems_are_told_at_once(dcmnet, sample_store):
    result = dcmnet(
        "train", sample_store, "--name", "a", "--set", "n_dmc=2", "--set", "lerning_rate=1"
    )
    assert result.code == 1
    first, second = result.err.splitlines()
    assert first.startswith("Error: ")
    assert "n_dcm" in first
    assert "learning_rate" in second
    assert not second.startswith("Error")


def test_debug_shows_where_an_error_came_from(dcmnet, sample_store):
    for arguments in (["--debug", "train"], ["train", "--debug"]):
        with pytest.raises(ConfigError):
            dcmnet(*arguments, sample_store, "--name", "a", "--set", "n_dmc=2")
    done = subprocess.run(
        [sys.executable, "-m", "dcmnet.cli", "inspect", "nowhere.zarr", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "StoreError" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["no-such-command"],
        ["ingest", "a.npz"],
        ["train", "a.zarr"],
        ["train", "--name", "a"],
        ["ingest", "a.npz", "--store", "a.zarr", "--on-invalid", "ignore"],
        ["ingest", "a.npz", "--store", "a.zarr", "--workers", "0"],
        ["inspect"],
    ],
)
def test_wrong_usage_exits_with_2(dcmnet, arguments):
    result = dcmnet(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Usage" in result.err
