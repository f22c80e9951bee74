"""Arguments that several commands of the command line share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from store_schema.problems import ConfigError

Store = Annotated[str, typer.Argument(metavar="STORE", help="Folder or URL of the store.")]
ExperimentPath = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT", help="Directory of the experiment.")
]
ModelSource = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT|dcm2", help="Directory of an experiment, or a model in the box."
    ),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Declare = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="State the meaning, unit or origin of a key."),
]
Checkpoint = Annotated[
    str, typer.Option(metavar="best|latest|epoch_N", help="Checkpoint of an experiment.")
]
Split = Annotated[str, typer.Option(metavar="train|valid|test|all", help="Molecules to use.")]


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Reads what an option like ``--set`` was given.

    Args:
        texts: ``KEY=VALUE`` each.
        option: Name of the option, for the error.

    Raises:
        ConfigError: A text is not of that form.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise ConfigError.of(
                option,
                wrong=f"{text!r} is not KEY=VALUE",
                consequence="nothing was started",
                remedy=f"Write it like {option} "
                + ("D=molecular_dipole_vector" if option == "--declare" else "model.n_dcm=2"),
            )
        key, value = key.strip(), value.strip()
        if option == "--declare" and found.get(key, value) != value:
            raise ConfigError.of(
                f"{option} {key}",
                wrong=f"it has two values, {found[key]!r} and {value!r}",
                consequence="nothing was started",
                remedy="Declare it once",
            )
        found[key] = value
    return found


def proportions(text: str) -> list[float]:
    """Reads ``--ratio 3:1``.

    Raises:
        ConfigError: It is not numbers above 0 with colons between them.
    """
    try:
        found = [float(number) for number in text.split(":")]
    except ValueError:
        found = []
    if found and all(0 < number < float("inf") for number in found):
        return found
    raise ConfigError.of(
        f"--ratio {text}",
        wrong="this is not a number above 0 for each store, such as 3:1",
        consequence="nothing was started",
        remedy="Write the numbers in the order of the stores, with colons between them",
    )
