"""One line or one command: an experiment from its configuration to its checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from dcmnet.config import ExperimentConfig
from dcmnet.console.refusal import refuse_politely
from dcmnet.experiment.directory import Experiment, model_config
from dcmnet.experiment.metrics import print_outcome
from dcmnet.model import Parameters
from dcmnet.presets import PRESETS
from dcmnet.pretrained import DEFAULT
from dcmnet.tracking.tensorboard import ScalarWriter
from dcmnet.tracking.tracked_run import settings_of
from dcmnet.tracking.trackers import make_trackers
from dcmnet.training.followers import Follower
from dcmnet.training.processes.joining import joined
from dcmnet.training.run import Run, refuse_existing, run_to_end
from pipeline import Store, ingest
from pipeline.files import check_utf8
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError

# Name of the bundled sample's store.
_SAMPLE: Final = "sample.zarr"
# The preset that needs a model to start from.
_OF_ANOTHER: Final = "finetune"
# Names under which a caller sets the warm-up.
_WARMUP = {"warmup_epochs", "training.warmup_epochs"}


def make_config(
    config: ExperimentConfig | None, preset: str | None, fields: Mapping[str, object]
) -> ExperimentConfig:
    """Returns a configuration from a base, a preset and single fields, in that order.

    Without a base, the network is that of ``init_from``, where that is among the fields, but
    for what the fields set of it.

    Args:
        config: The base; the defaults where left out.
        preset: ``quick``, ``quality``, or ``finetune`` with ``init_from``.
        fields: Any field of ``ExperimentConfig``, by short or dotted name.

    Raises:
        ConfigError: A preset or field is unknown, or a value out of bounds.
        CheckpointError: There is no model at ``init_from``.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError.of(
            "preset",
            wrong=f"{preset!r} is not {' or '.join(PRESETS)}",
            consequence="nothing was started",
            remedy="Name one of those",
        )
    chosen = dict(PRESETS[preset]) if preset else {}
    source = fields.get("init_from")
    if preset == _OF_ANOTHER and not (source or (config and config.init_from)):
        raise ConfigError.of(
            f"preset {preset}",
            wrong=f"no model to start from is named, such as --init-from {DEFAULT}",
            consequence="nothing was started",
            remedy="Name one, or train from the start with another preset",
        )
    if source and config is None:
        adopted = model_config(str(source)).model_dump()
        chosen |= {f"model.{name}": value for name, value in adopted.items()}
    try:
        return (config or ExperimentConfig()).with_fields({**chosen, **fields})
    except ConfigError:
        # A run shorter than the preset's warm-up goes without, unless one was asked for.
        if "training.warmup_epochs" not in chosen or fields.keys() & _WARMUP:
            raise
        chosen["training.warmup_epochs"] = 0
        return (config or ExperimentConfig()).with_fields({**chosen, **fields})


def run_training(
    name: str = "dcmnet",
    store: str | Path | Sequence[str | Path] | None = None,
    *,
    config: ExperimentConfig | None = None,
    preset: str | None = None,
    console: Console | None = None,
    writer: ScalarWriter | None = None,
    verbose: bool = False,
    followers: Sequence[Follower] = (),
    resume: bool = False,
    ratio: Sequence[float] | None = None,
    **fields: object,
) -> tuple[Parameters, float, Path]:
    """Trains a network on a store.

    Args:
        name: Name of the experiment.
        store: Path of the store, or of several, whose batches are mixed by ``ratio``, the first
            of which decides which epoch is best; the bundled sample is ingested and used
            without one.
        config: Configuration to start from.
        preset: ``quick``, ``quality``, or ``finetune`` with ``init_from``.
        console: Where tables go; standard output by default.
        writer: Where TensorBoard's numbers go; files in the experiment by default.
        verbose: Print a table of all parameters first.
        followers: Objects that follow the run, and may end it after an epoch.
        resume: Resume where the experiment exists, as jobs do that are started again.
        ratio: Batches of each store, in proportion; as many of each by default.
        **fields: Any field of ``ExperimentConfig``, such as ``n_dcm=2``,
            ``batch_size=16``, ``cutoff=4.0`` or ``out="experiments"``.

    Returns:
        Parameters of the best epoch, its validation ESP RMSE in kcal/mol/e (the loss
        where there is no ESP), and the directory of the experiment.

    Raises:
        ConfigError: The configuration is not valid, or the experiment exists already, with
            ``resume`` that of another configuration.
        TrainingError: The store has nothing to train on, or the loss is not finite.
        StoreError: The store is missing or not valid.
        SystemExit: SIGTERM asked to stop; everything is saved, the exit code is ``STOPPED``.
    """
    chosen = make_config(config, preset, {"name": name, **fields})
    check_utf8(Path(chosen.out).absolute())
    experiment = Experiment(Path(chosen.out) / chosen.name)
    console = console or Console()
    all_followers = [*make_trackers(experiment, chosen.track, console, writer), *followers]
    with joined() as processes:
        # As the first sees it: file systems show others later what it writes.
        resumes = bool(processes.first(resume and experiment.config_path.exists()))
        sample = Path(chosen.out) / _SAMPLE
        with processes.together():
            if processes.is_first and not resumes:
                refuse_existing(experiment)
            if processes.is_first and store is None and not chosen.data.store:
                _make_sample(sample)
        stores: dict[str, object] = {} if ratio is None else {"data.ratio": list(ratio)}
        if store is not None or not chosen.data.store:
            first, *more = _addresses(store or sample)
            stores |= {"data.store": first, "data.more_stores": more}
        chosen = chosen.with_fields(stores)
        with processes.together():
            if processes.is_first and resumes:
                _refuse_another(experiment, chosen)
        run = Run(experiment, chosen, console, all_followers, processes)
        return run_to_end(run, resume=resumes, verbose=verbose)


def resume(
    directory: str | Path,
    console: Console | None = None,
    followers: Sequence[Follower] = (),
) -> tuple[Parameters, float, Path]:
    """Resumes an experiment from its latest checkpoint, exactly where it stood.

    Args:
        directory: Directory of the experiment.
        console: Where tables go; standard output by default.
        followers: Objects that follow the run, and may end it after an epoch.

    Returns:
        As ``run_training``.

    Raises:
        ConfigError: The directory holds no valid experiment.
        CheckpointError: It has no latest checkpoint, or one that does not fit.
        SystemExit: As ``run_training``.
    """
    experiment = Experiment(directory)
    console = console or Console()
    with joined() as processes:
        with processes.together():
            config = experiment.config()
            all_followers = [*make_trackers(experiment, config.track, console), *followers]
        run = Run(experiment, config, console, all_followers, processes)
        return run_to_end(run, resume=True)


def _addresses(store: str | Path | Sequence[str | Path]) -> list[str]:
    several = [store] if isinstance(store, str | Path) else list(store)
    return [str(Store.at(each).address) for each in several]


def _refuse_another(experiment: Experiment, config: ExperimentConfig) -> None:
    """Refuses to resume with other settings than the experiment's."""
    own, asked = settings_of(experiment.config()), settings_of(config)
    # The same folder may be reached by another path.
    others = [name for name in asked if name != "out" and asked[name] != own[name]]
    if others:
        raise ConfigError.of(
            str(experiment.directory),
            wrong="the experiment has another " + ", ".join(others),
            consequence="nothing was started",
            remedy="Give the settings it began with, resume with 'dcmnet resume', or start another "
            f"from its parameters with --init-from {experiment.directory}",
        )


def _make_sample(store: Path) -> None:
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        ingest(sample_sources(), store)


def fields_of(arguments: Sequence[str]) -> dict[str, object]:
    """Reads ``--num-epochs 100 --use-ema --no-use-lr-schedule`` as fields of a configuration.

    Raises:
        ConfigError: An argument is not an option.
    """
    fields: dict[str, object] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError.of(
                "command line",
                wrong=f"{word!r} is not --field value",
                consequence="nothing was started",
                remedy="Write it like --num-epochs 100",
            )
        option, equals, value = word[2:].partition("=")
        name = option.replace("-", "_")
        if equals:
            fields[name] = value
        elif words and not words[0].startswith("--"):
            fields[name] = words.pop(0)
        else:
            fields[name.removeprefix("no_")] = not name.startswith("no_")
    return fields


def _main() -> None:
    fields = fields_of(sys.argv[1:])
    _, best, directory = run_training(**fields)  # type: ignore[arg-type]
    print_outcome(best, directory, Console())


if __name__ == "__main__":
    refuse_politely(_main)
