"""Files that declare themselves what ``--declare`` does."""

import json

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.inference.declarations import DECLARE
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, ConfigError

CLASSIC, *_ = sample_sources()


def written(folder, text, name="a"):
    """A file whose dipoles nothing else says the unit of."""
    with np.load(CLASSIC) as raw:
        columns = {key: raw[key][:2].copy() for key in ("id", "Z", "R", "N", "Dxyz")}
    if text is not None:
        columns[DECLARE] = np.array(text)
    np.savez(folder / f"{name}.npz", **columns)
    return folder / f"{name}.npz"


def test_they_are_asked_nothing(tmp_path):
    with pytest.raises(AmbiguityError):
        ingest([written(tmp_path, None)], tmp_path / "a.zarr")
    said = json.dumps({"unit.Dxyz": "debye", "level_of_theory": "HF/STO-3G"})
    file = written(tmp_path, said)
    report = ingest([file], tmp_path / "a.zarr")
    (source,) = report.schema.sources
    assert source.keys["Dxyz"].unit == "debye"
    assert source.keys["Dxyz"].unit_from == "declared"
    assert source.level_of_theory == "HF/STO-3G"
    assert source.declared == json.loads(said)
    with np.load(file) as raw:
        expected = raw["Dxyz"] * 0.20819434
    found = open_store(tmp_path / "a.zarr")["dipole"].values
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_user_has_the_last_word(tmp_path):
    file = written(tmp_path, json.dumps({"unit.Dxyz": "debye"}))
    report = ingest([file], tmp_path / "a.zarr", declare={"unit.Dxyz": "e*angstrom"})
    assert report.schema.sources[0].keys["Dxyz"].unit == "e*angstrom"


@pytest.mark.parametrize("text", ["unit.Dxyz=debye", "[1, 2]", '{"unit.Dxyz": 3}'])
def test_what_is_no_declaration_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="no JSON object"):
        ingest([written(tmp_path, text)], tmp_path / "a.zarr")


def test_a_declaration_about_no_key_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no key 'Dxy'"):
        ingest([written(tmp_path, '{"unit.Dxy": "debye"}')], tmp_path / "a.zarr")


def test_each_file_declares_for_itself(tmp_path):
    one = written(tmp_path, json.dumps({"unit.Dxyz": "debye"}))
    (tmp_path / "b").mkdir()
    other = written(tmp_path / "b", json.dumps({"unit.Dxyz": "e*angstrom"}))
    report = ingest([one, other], tmp_path / "a.zarr")
    assert [s.keys["Dxyz"].unit for s in report.schema.sources] == ["debye", "e*angstrom"]
