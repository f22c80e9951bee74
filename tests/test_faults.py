"""Faults of machines: what is left behind is the old or the new, and one line says which."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from functools import partial

import pytest

from dcmnet import run_training
from dcmnet.console.refusal import refuse_politely
from pipeline import ingest
from pipeline.files import replaced, write_text
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.documents import parse_json, read_text
from store_schema.problems import StoreError

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
    from dcmnet.model import compilation

    monkeypatch.setattr(compilation.jax, "config", _Config())
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none-such")
    compilation._note.cache_clear()
    for _ in range(2):
        compilation.set_up_compilation()
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


ODD = os.fsdecode(b"a \xff")


@pytest.mark.parametrize("odd", ["source", "store", "folder", "experiments"])
def test_a_name_that_is_no_utf_8_is_one_line(odd, small_store, tmp_path, monkeypatch):
    (tmp_path / ODD).mkdir()
    source = sample_sources()[0]
    if odd == "source":
        source = shutil.copy(source, tmp_path / f"{ODD}.npz")
    monkeypatch.chdir(tmp_path / ODD if odd == "folder" else tmp_path)
    store = f"{ODD}.zarr" if odd == "store" else "a.zarr"
    run = partial(ingest, [source], store)
    if odd == "experiments":
        run = partial(run_training, "t", small_store, out=str(tmp_path / ODD))
    with pytest.raises(StoreError, match="UTF-8"):
        run()
    assert not list(tmp_path.glob("*.zarr"))


def test_blanks_and_brackets_are_names_like_others(tmp_path):
    source = shutil.copy(sample_sources()[0], tmp_path / "a [1] b*.npz")
    store = tmp_path / "s [x] 'y'" / "a b.zarr"
    assert ingest([source], store).n_molecules == validate_store(str(store)).n_molecules


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser mounts disks")
@pytest.mark.parametrize("size", ["300k", "1m"])
def test_a_small_disk_that_fills_leaves_nothing(small_disk, size, capsys):
    disk = small_disk(size)
    with pytest.raises(SystemExit):
        refuse_politely(lambda: ingest([sample_sources()[0]], disk / "a.zarr"))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"Error: {disk}")
    assert "No space left on device" in line
    assert "is whole" in line
    assert not list(disk.iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser mounts disks")
def test_an_append_that_fills_a_disk_leaves_the_old_store(small_disk, small_store, capsys):
    disk = small_disk("20m")
    shutil.copytree(small_store, disk / "a.zarr")
    used = shutil.disk_usage(disk).used
    remount(disk, f"{used // 1024 + 200}k")
    with pytest.raises(SystemExit):
        refuse_politely(lambda: ingest([sample_sources()[0]], disk / "a.zarr", append=True))
    assert "No space left on device" in capsys.readouterr().err
    validation = validate_store(str(disk / "a.zarr"))
    assert not validation.problems
    assert validation.n_molecules == validate_store(str(small_store)).n_molecules


@pytest.fixture
def small_disk(tmp_path):
    """Mounts disks of some size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(size):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this system mounts no disks")
        return folder

    yield mounted
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def remount(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
