"""What a run reports to people and programs: an epoch table and ``metrics.jsonl``."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.files import write_text
from store_schema.documents import parse_json, read_text, validated
from store_schema.problems import CheckpointError

# Rows of the epoch table: metric, label, unit.
_ROWS = (
    ("loss", "loss", ""),
    ("loss_esp", "  of the ESP", ""),
    ("loss_field", "  of the field", ""),
    ("loss_monopoles", "  of monopoles", ""),
    ("loss_dipole", "  of dipoles", ""),
    ("loss_quadrupole", "  of quadrupoles", ""),
    ("esp_rmse", "ESP RMSE", "kcal/mol/e"),
    ("esp_mae", "ESP MAE", "kcal/mol/e"),
    ("field_mae", "field MAE", "kcal/mol/e/Å"),
    ("monopole_mae", "monopole MAE", "e"),
    ("dipole_mae", "dipole MAE", "D"),
    ("displacement_mean", "displacement", "Å"),
)
# What is shown of the validation of further stores.
_OF_OTHERS = ("loss", "esp_rmse", "monopole_mae")


class EpochRecord(BaseModel):
    """One line of ``metrics.jsonl``.

    Attributes:
        epoch: Counted from 1.
        train: Metrics of the training molecules, as the parameters went along.
        valid: Metrics of the validation molecules, with the averaged parameters.
        valid_of_others: The same of each further store, by its path.
        seconds: Wall time of the epoch, validation included.
        molecules_per_second: Training molecules per second, compilation left out.
        input_wait_fraction: Share of the training time spent waiting for batches.
        padding_waste: Share of grid points and atoms processed that were padding.
        compile_seconds: Time spent compiling.
        learning_rate: At the end of the epoch.
        gradient_norm: Mean over the updates, before clipping.
        updates: Updates since the start of the run.
        best: Whether this is the best epoch so far.
    """

    # JSON has no NaN; as text it is read back, where null would not be.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    epoch: int
    train: dict[str, float]
    valid: dict[str, float]
    seconds: float
    molecules_per_second: float
    input_wait_fraction: float
    padding_waste: float
    compile_seconds: float
    learning_rate: float
    gradient_norm: float
    updates: int
    best: bool
    valid_of_others: dict[str, dict[str, float]] = {}


_RESTORE = "Restore the file, or delete it to resume without its history"


class MetricsFile:
    """``metrics.jsonl``: one line per epoch, never two for the same one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: EpochRecord) -> None:
        """Writes a line and sees it to the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_until(self, epoch: int) -> None:
        """Drops lines after an epoch, and a line cut short by a crash, before a run is resumed."""
        kept = [record.model_dump_json() for record in self.read() if record.epoch <= epoch]
        write_text(self.path, "".join(line + "\n" for line in kept))

    def read(self) -> list[EpochRecord]:
        """Returns all whole lines.

        Raises:
            CheckpointError: A line that is whole is not an epoch.
        """
        try:
            lines = read_text(self.path).splitlines()
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise self._damaged(str(error)) from error
        records = []
        for number, line in enumerate(lines, 1):
            try:
                fields = parse_json(line)
            except ValueError as error:
                if number < len(lines):
                    raise self._damaged(f"{error} in line {number}") from error
                break  # cut short by a crash
            record = validated(
                EpochRecord,
                fields,
                f"{self.path}, line {number}",
                expected="an epoch as training writes it",
                error=CheckpointError,
                consequence="the history of the run cannot be read",
                remedy=_RESTORE,
            )
            records.append(record)
        return records

    def _damaged(self, received: str) -> CheckpointError:
        return CheckpointError.of(
            str(self.path),
            wrong=f"its lines are not JSON, one per epoch: {received}",
            consequence="the history of the run cannot be read",
            remedy=_RESTORE,
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _percent(part: float) -> str:
    return f"{100 * part:+.1f}" if abs(part) < 1e4 else f"{100 * part:+.1e}"


def epoch_table(record: EpochRecord) -> Table:
    """Returns the table of an epoch: train, valid, difference and % difference.

    The ESP RMSE is the mean over molecules, the ESP MAE that over all points.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True)
    for name in ("train", "valid", "difference", "% diff."):
        table.add_column(name, justify="right", min_width=10, no_wrap=True)
    for name, label, unit in _ROWS:
        train, valid = record.train.get(name), record.valid.get(name)
        if train is None and valid is None:
            continue
        difference = None if train is None or valid is None else valid - train
        percent = _percent(difference / abs(train)) if difference and train else ""
        table.add_row(label, unit, _number(train), _number(valid), _number(difference), percent)
    return table


def print_epoch(record: EpochRecord, num_epochs: int, console: Console) -> None:
    """Prints what an epoch came to, in lines that fit 80 columns."""
    best = " · [green]best so far[/]" if record.best else ""
    console.print(
        f"[bold]epoch {record.epoch}/{num_epochs}[/] · {record.seconds:.1f} s · "
        f"{record.molecules_per_second:,.0f} molecules/s{best}",
        highlight=False,
    )
    console.print(
        f"learning rate {record.learning_rate:.2e} · gradient norm {record.gradient_norm:.3g} · "
        f"input wait {record.input_wait_fraction:.1%} · padding {record.padding_waste:.1%}",
        style="dim",
        highlight=False,
    )
    console.print(epoch_table(record))
    for store, metrics in record.valid_of_others.items():
        found = [
            f"{label} {_number(metrics[name])} {unit}".strip()
            for name, label, unit in _ROWS
            if name in _OF_OTHERS and name in metrics
        ]
        console.print(escape(f"valid, {store}: {' · '.join(found)}"), soft_wrap=True)


def print_outcome(best: float, directory: Path, console: Console) -> None:
    """Prints what a run came to, and where it lies."""
    records = [r for r in MetricsFile(directory / "metrics.jsonl").read() if r.best]
    metrics = records[-1].valid or records[-1].train if records else {}
    molecules = "validation" if not records or records[-1].valid else "training"
    what = "ESP RMSE" if "esp_rmse" in metrics else "loss"
    unit = " kcal/mol/e" if "esp_rmse" in metrics else ""
    outcome = f"best {molecules} {what} {best:.3f}{unit} · experiment {directory}"
    console.print(escape(outcome), soft_wrap=True)
