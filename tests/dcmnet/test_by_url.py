"""From files to a report with the store at a URL: the numbers of a local store, and no secrets."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("obstore")

import dcmnet.training.run as running
from dcmnet import run_training
from pipeline import ingest, open_store
from pipeline.sample import sample_sources
from tests.commands import run_command
from tests.experiments import SETTINGS, metrics
from tests.object_store import SECRET, objects

pytestmark = pytest.mark.distributed


@pytest.fixture
def experiment(url, tmp_path, monkeypatch):
    """Trained by URL, and interrupted after two of three epochs."""
    train = running.train

    def interrupted(*arguments, on_epoch, **others):
        def each_epoch(record):
            on_epoch(record)
            if record.epoch == 2:
                raise KeyboardInterrupt

        return train(*arguments, on_epoch=each_epoch, **others)

    monkeypatch.chdir(tmp_path)
    ingest(sample_sources(), url)
    with monkeypatch.context() as patch:
        patch.setattr(running, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_training("trial", url, out="experiments", **SETTINGS)
    return "experiments/trial"


def test_the_chain_to_a_report(url, experiment, trained, monkeypatch, capfd):
    for words in (
        ["resume", experiment],
        ["analyze", experiment, "--split", "all"],
        ["predict", experiment, url, "--out", "charges.nc"],
        ["report", experiment],
        ["compare", experiment, f"{experiment}@latest"],
        ["inspect", url],
        ["validate", url],
    ):
        run_command(["dcmnet", *words], monkeypatch)
    assert metrics(experiment) == metrics(trained[2])
    with open_store(url) as tree:
        assert {"trial", "trial-latest"} <= set(tree["results"].children)
        assert np.isfinite(tree["results/trial/esp_rmse"].values).all()
    written = [path for path in Path("experiments").rglob("*") if path.is_file()]
    assert "report.html" in {path.name for path in written}
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert not [key for key, data in objects(url).items() if SECRET.encode() in data]
    assert SECRET not in "".join(capfd.readouterr())
