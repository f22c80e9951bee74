"""Faults of machines: what is left behind is the old or the new, and one line says which."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from dcmnet.console.refusal import refuse_politely
from pipeline.files import replaced, write_text
from store_schema.documents import parse_json, read_text

DCMNET = [sys.executable, "-m", "dcmnet.cli"]


def run(*words, **environment):
    return subprocess.run(
        [*DCMNET, *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def test_a_terminal_without_letters_gets_others(sample_store):
    ended = run("inspect", sample_store, LANG="C", LC_ALL="C", PYTHONUTF8="0")
    assert ended.returncode == 0
    assert "molecules" in ended.stdout
    assert not ended.stderr


def test_output_that_nobody_reads_is_no_error(sample_store):
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*DCMNET, "inspect", str(sample_store)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    os.close(writing)
    assert not ended.stderr


def test_a_figure_needs_no_backend_of_the_users(sample_store, tmp_path):
    ended = run(
        *("inspect", sample_store),
        MPLBACKEND="none-such",
        MPLCONFIGDIR=str(tmp_path / "none"),
        HOME=str(tmp_path / "none"),
    )
    assert ended.returncode == 0
    assert not ended.stderr


def test_a_cache_that_cannot_be_written_is_noted_once(capsys, monkeypatch):
    from dcmnet.model import compilation_cache

    monkeypatch.setattr(compilation_cache.jax, "config", _Config())
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none-such")
    compilation_cache._note.cache_clear()
    for _ in range(2):
        compilation_cache.use_compilation_cache()
    assert capsys.readouterr().err.count("cannot be written") == 1


class _Config:
    """JAX's configuration, without a cache."""

    values = {"jax_compilation_cache_dir": None}  # noqa: RUF012 - as JAX has it


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, capsys):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fill():
        with replaced(path) as partial:
            partial.write_text("ne")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SystemExit):
        refuse_politely(fill)
    line = capsys.readouterr().err
    assert str(path) in line
    assert "is whole" in line
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"regular|directory"):
        read_text(path)


@pytest.mark.parametrize("text", ["[" * 10**6, "{", "\ufeff", "nul", '{"a": '])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
