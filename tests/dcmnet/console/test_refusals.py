"""What users do wrong, and what they write that looks like something else."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from dcmnet.config import ExperimentConfig
from dcmnet.console.refusal import refuse_politely
from dcmnet.experiment.directory import load_model
from dcmnet.train_runner import make_config, run_training
from pipeline import ingest, open_store
from pipeline.files import exclusive
from pipeline.inspection.inspect import inspect_store
from pipeline.inspection.pages import print_inspection, print_report
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError, SourceError, StoreError
from tests.experiments import SETTINGS


def test_brackets_in_names_and_ids_are_text(tmp_path):
    """Trap: SMILES read as markup of the terminal."""
    with np.load(sample_sources()[1]) as file:
        arrays = dict(file)
    arrays["ids"] = np.array([f"[/C]{name}" for name in arrays["ids"]])
    arrays["[x]"] = np.zeros(len(arrays["ids"]))
    np.savez(tmp_path / "m[b].npz", **arrays)
    store = tmp_path / "s[red].zarr"
    report = ingest([tmp_path / "m[b].npz"], store)
    page = io.StringIO()
    console = Console(file=page, width=200)
    print_report(report, store, console)
    print_inspection(inspect_store(store), console)
    assert "m[b].npz" in page.getvalue()
    assert "s[red].zarr" in page.getvalue()
    assert str(open_store(store)["molecule_id"].values[0]).startswith("[/C]")


@pytest.mark.parametrize(
    ("numbers", "charge", "named"),
    [
        ([300, 1], 0.0, "300"),
        ([8.5, 1], 0.0, "8.5"),
        ([0, 1], 0.0, "whole numbers"),
        ([8, 1], float("nan"), "net charge is nan"),
        ([], 0.0, "has no atom"),
    ],
)
def test_a_molecule_that_cannot_be_predicted_is_refused(trained, numbers, charge, named):
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    with pytest.raises(SourceError, match=named):
        load_model(trained[2]).predict(numbers, positions, total_charge=charge)


def test_a_run_has_its_experiment_for_itself(sample_store, tmp_path):
    """Trap: two runs that delete each other's checkpoints."""
    directory = tmp_path / "one"
    directory.mkdir()
    with (
        exclusive(directory, wait=False),
        pytest.raises(StoreError, match="another process is writing here"),
    ):
        run_training("one", sample_store, out=str(tmp_path), **SETTINGS)
    assert not (directory / "config.json").exists()


def test_a_run_shorter_than_the_warm_up_of_its_preset_goes_without():
    assert make_config(None, "quick", {"num_epochs": 2}).training.warmup_epochs == 0
    with pytest.raises(ConfigError, match="warmup_epochs"):
        make_config(None, "quick", {"num_epochs": 2, "warmup_epochs": 5})


@pytest.mark.parametrize("field", ["cutoff", "learning_rate", "grad_clip_norm"])
@pytest.mark.parametrize("value", ["Infinity", "NaN"])
def test_numbers_that_are_none_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        ExperimentConfig().with_fields({field: value})


@pytest.mark.parametrize("store", ["", "."])
def test_a_store_needs_a_name(store):
    with pytest.raises(StoreError, match="path of a folder"):
        ingest([sample_sources()[1]], store)


def test_damaged_metadata_is_named(sample_store, tmp_path):
    (tmp_path / "zarr.json").write_text("")
    with pytest.raises(StoreError, match="Zarr metadata"):
        inspect_store(tmp_path)


def test_a_fault_of_the_program_is_one_line_too(monkeypatch, capsys):
    def fail():
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("sys.argv", ["dcmnet"])
    with pytest.raises(SystemExit, match="1"):
        refuse_politely(fail)
    told = capsys.readouterr().err
    assert told == (
        "Error: this should not happen: RuntimeError: out of memory. See where with --debug.\n"
    )
    monkeypatch.setattr("sys.argv", ["dcmnet", "--debug"])
    with pytest.raises(RuntimeError):
        refuse_politely(fail)


@pytest.mark.parametrize(
    ("exit_", "code"), [(SystemExit(143), 143), (KeyboardInterrupt(), 130)], ids=["TERM", "INT"]
)
def test_a_signal_inside_an_import_stops_the_command(exit_, code, monkeypatch, capsys):
    """C extensions raise an ImportError from it."""

    def import_it():
        try:
            raise exit_
        except BaseException as signalled:
            raise ImportError("initialization failed") from signalled

    monkeypatch.setattr("sys.argv", ["dcmnet"])
    with pytest.raises(SystemExit) as ended:
        refuse_politely(import_it)
    assert ended.value.code == code
    assert "nothing is half written" in capsys.readouterr().err


def test_sigterm_waits_for_an_import_to_end(tmp_path):
    """An exception that is raised while a C extension is imported can crash it."""
    (tmp_path / "late.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGTERM)\nprint('imported', flush=True)\n"
    )
    program = "\n".join(
        [
            "import time",
            "from dcmnet.console.refusal import refuse_politely",
            "def run():",
            "    import late",
            "    time.sleep(60)",
            "    print('never')",
            "refuse_politely(run)",
        ]
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (143, "imported\n"), ended.stderr
