"""Ingests files in a process of its own, which the library of a format may crash."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline import ingest
from store_schema.problems import DcmError

ROOT = Path(__file__).resolve().parents[3]


def in_a_process(paths: Sequence[Path], seconds: float = 300.0) -> list[str]:
    """What became of each file: stored, refused, or the error that it should not have been.

    Files after one that crashed the process have no outcome.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.adapters.ingest_all", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return [line for line in ended.stdout.splitlines() if line.startswith(_PREFIX)]


_PREFIX = "outcome: "
STORED, REFUSED = f"{_PREFIX}stored", f"{_PREFIX}refused"


def _main(paths: Sequence[str]) -> None:
    for path in paths:
        try:
            ingest([path], f"{path}.zarr")
        except DcmError:
            print(REFUSED, flush=True)
        except BaseException:
            print(_PREFIX + repr(traceback.format_exc()), flush=True)
        else:
            print(STORED, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
