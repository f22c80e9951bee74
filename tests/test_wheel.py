"""A wheel that is built here, installed where there is nothing, runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUIET = ("--quiet", "--disable-pip-version-check")


def run(*words, **options):
    ended = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, check=False, **options
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_built_wheel_runs_the_demo_in_an_empty_environment(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", *QUIET, "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("dcm_store-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", *QUIET, "-c", ROOT / "requirements.lock", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said = run(python.parent / "dcmnet", "demo", cwd=elsewhere, env=clean)
    assert list(elsewhere.rglob("report.html"))
    assert "kcal/mol/e" in said
