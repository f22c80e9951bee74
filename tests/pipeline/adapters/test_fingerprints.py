"""Fingerprints of files: what they say, and that nobody waits for those not needed."""

import hashlib
import os

import pytest

from pipeline.adapters.fingerprints import fingerprints


def test_they_say_name_size_and_digest_of_every_file_of_a_source(tmp_path):
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    for path in paths:
        path.write_bytes(os.urandom(3000))
    sources = [tuple(paths[:2]), (paths[2],)]
    with fingerprints(sources) as prints:
        for source in reversed(sources):
            assert [(f.name, f.size, f.sha256) for f in prints.of(source)] == [
                (path.name, 3000, hashlib.sha256(path.read_bytes()).hexdigest()) for path in source
            ]


def test_a_file_that_went_away_is_told_to_who_asks_for_it(tmp_path):
    with fingerprints([(tmp_path / "gone.npz",)]) as prints, pytest.raises(FileNotFoundError):
        prints.of((tmp_path / "gone.npz",))
