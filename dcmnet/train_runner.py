"""One line or one command: an experiment from its configuration to its checkpoints."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.markup import escape

from dcmnet.config import PRESETS, ExperimentConfig
from dcmnet.experiment import Experiment
from dcmnet.model import DCMNet, Parameters, create_model
from dcmnet.refusal import refuse_politely
from dcmnet.seen_elements import record_elements
from dcmnet.training.checkpoints import Checkpoints
from dcmnet.training.devices import LocalDevices
from dcmnet.training.epoch import Trainer
from dcmnet.training.fine_tuning import parameters_from
from dcmnet.training.followers import Follower, following
from dcmnet.training.initialization import initial_parameters, mean_monopoles, with_element_bias
from dcmnet.training.log import MetricsFile, print_outcome
from dcmnet.training.loop import Progress, is_over, train
from dcmnet.training.molecules import make_data
from dcmnet.training.optimizer import make_optimizer, make_schedule
from dcmnet.training.parameter_table import print_parameters
from dcmnet.training.reporter import Reporter
from dcmnet.training.step import initial_state, make_steps
from dcmnet.training.tensorboard import ScalarWriter, TensorBoard
from pipeline import ingest
from pipeline.sample import sample_sources
from pipeline.zarr_metadata import exclusive
from store_schema.problems import ConfigError

# What a run that SIGTERM stopped exits with: EX_TEMPFAIL of sysexits.h, "try again later".
# Unlike 143, which a shell reports of a process that the signal killed, it says that
# everything is saved and that 'dcmnet resume' goes on.
STOPPED = 75
# Names under which a caller sets the warm-up.
_WARMUP = {"warmup_epochs", "training.warmup_epochs"}


def make_config(
    config: ExperimentConfig | None, preset: str | None, fields: Mapping[str, object]
) -> ExperimentConfig:
    """Returns a configuration from a base, a preset and single fields, in that order.

    Args:
        config: The base; the defaults where left out.
        preset: ``quick`` or ``quality``.
        fields: Any field of ``ExperimentConfig``, by short or dotted name.

    Raises:
        ConfigError: A preset or field is unknown, or a value out of bounds.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError.of(
            "preset",
            expected=" or ".join(PRESETS),
            received=repr(preset),
            consequence="nothing was started",
            remedy="Name one of those",
        )
    chosen = dict(PRESETS[preset]) if preset else {}
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
    store: str | Path | None = None,
    *,
    config: ExperimentConfig | None = None,
    preset: str | None = None,
    console: Console | None = None,
    writer: ScalarWriter | None = None,
    verbose: bool = False,
    followers: Sequence[Follower] = (),
    **fields: object,
) -> tuple[Parameters, float, Path]:
    """Trains a network on a store.

    Args:
        name: Name of the experiment.
        store: Path of the store; the bundled sample is ingested and used without one.
        config: Configuration to start from.
        preset: ``quick`` or ``quality``.
        console: Where tables go; standard output by default.
        writer: Where TensorBoard's numbers go; files in the experiment by default.
        verbose: Print a table of all parameters first.
        followers: Who else is told of the run, and may end it after an epoch.
        **fields: Any field of ``ExperimentConfig``, such as ``n_dcm=2``,
            ``batch_size=16``, ``cutoff=4.0`` or ``out="experiments"``.

    Returns:
        Parameters of the best epoch, its validation ESP RMSE in kcal/mol/e (the loss
        where there is no ESP), and the directory of the experiment.

    Raises:
        ConfigError: The configuration is not valid, or the experiment exists already.
        TrainingError: The store has nothing to train on, or the loss is not finite.
        StoreError: The store is missing or not valid.
        SystemExit: SIGTERM asked to stop; everything is saved, the exit code is ``STOPPED``.
    """
    chosen = make_config(config, preset, {"name": name, **fields})
    experiment = Experiment(Path(chosen.out) / chosen.name)
    _refuse_existing(experiment)
    path = _sample_store(Path(chosen.out)) if store is None else Path(store)
    if store is not None or not chosen.data.store:
        chosen = chosen.with_fields({"data.store": os.path.abspath(path)})
    console = console or Console()
    told = [TensorBoard(experiment.tensorboard_path, writer), *followers]
    return _run(experiment, chosen, console, told, resume=False, verbose=verbose)


def _refuse_existing(experiment: Experiment) -> None:
    if experiment.config_path.exists():
        raise ConfigError.of(
            str(experiment.directory),
            expected="a new experiment",
            received="one that exists",
            consequence="nothing was started, nothing overwritten",
            remedy="Choose another name, delete it, or go on with 'dcmnet resume'",
        )


def resume(
    directory: str | Path,
    console: Console | None = None,
    followers: Sequence[Follower] = (),
) -> tuple[Parameters, float, Path]:
    """Goes on with an experiment from its latest checkpoint, exactly where it stood.

    Args:
        directory: Directory of the experiment.
        console: Where tables go; standard output by default.
        followers: Who else is told of the run, and may end it after an epoch.

    Returns:
        As ``run_training``.

    Raises:
        ConfigError: The directory holds no valid experiment.
        CheckpointError: It has no latest checkpoint, or one that does not fit.
        SystemExit: As ``run_training``.
    """
    experiment = Experiment(directory)
    told = [TensorBoard(experiment.tensorboard_path), *followers]
    return _run(experiment, experiment.config(), console or Console(), told, resume=True)


def _sample_store(out: Path) -> Path:
    store = out / "sample.zarr"
    if not store.exists():
        out.mkdir(parents=True, exist_ok=True)
        ingest(sample_sources(), store)
    return store


def _run(
    experiment: Experiment,
    config: ExperimentConfig,
    console: Console,
    followers: Sequence[Follower],
    *,
    resume: bool,
    verbose: bool = False,
) -> tuple[Parameters, float, Path]:
    _use_compilation_cache()
    data, rows = make_data(config)
    for note in data.notes:
        _print_note(note, console)
    network = create_model(config.model)
    goes_on = resume and _has_begun(experiment)
    # Where they come from may be gone when a run goes on; it brings its own.
    start = config.model_copy(update={"init_from": None}) if goes_on else config
    params = _starting_parameters(start, network, rows, console)
    trainer = _make_trainer(config, network, params, data.batches_per_epoch)
    if verbose:
        print_parameters(trainer.state.params, console)
    progress = Progress()
    metrics = MetricsFile(experiment.metrics_path)
    experiment.directory.mkdir(parents=True, exist_ok=True)
    with (
        # Two runs of one experiment would write over each other.
        exclusive(experiment.directory, wait=False),
        Checkpoints(experiment.checkpoints_path) as checkpoints,
        stop_on_sigterm() as stop,
    ):
        if not resume:  # only now, when nothing else can be refused any more
            _refuse_existing(experiment)
            config.save(experiment.config_path)
        if goes_on:
            trainer.state, saved = checkpoints.restore(trainer.state)
            progress = Progress.model_validate(saved)
            data.train.set_state(progress.iterator or {})
        metrics.keep_until(progress.epoch)
        record_elements(experiment.directory, config)
        with (
            following(followers, config, metrics.read()),
            Reporter(console, metrics, followers, trainer, data) as reporter,
        ):
            progress = train(
                trainer,
                data,
                checkpoints,
                progress,
                on_epoch=reporter.on_epoch,
                on_batch=reporter.on_batch,
                stop=stop,
                enough=reporter.enough,
            )
            if stop() and not is_over(config.training, progress):
                _exit_stopped(experiment, progress, console)
        if not progress.best_epoch:  # no epoch had a finite criterion
            return trainer.state.ema_params, progress.best, experiment.directory
        best, _ = checkpoints.restore_model("best", trainer.state.ema_params)
    return best, progress.best, experiment.directory


def _exit_stopped(experiment: Experiment, progress: Progress, console: Console) -> NoReturn:
    console.print(
        f"[yellow]Stopped as asked[/] in epoch {progress.epoch + 1}, all is saved; go on "
        f"with 'dcmnet resume {escape(str(experiment.directory))}'",
        soft_wrap=True,
    )
    sys.exit(STOPPED)


def _has_begun(experiment: Experiment) -> bool:
    """Tells whether to go on; a run that ended before its first checkpoint begins again."""
    if len(experiment.history()) > 1:  # there was a checkpoint then
        return True
    if not experiment.checkpoints_path.is_dir():
        return False
    with Checkpoints(experiment.checkpoints_path, read_only=True) as checkpoints:
        return "latest" in checkpoints.names()


def _make_trainer(
    config: ExperimentConfig, network: DCMNet, params: Parameters, batches_per_epoch: int
) -> Trainer:
    training = config.training
    updates = -(-batches_per_epoch // training.gradient_accumulation_steps)
    optimizer = make_optimizer(training, updates)
    devices = LocalDevices()
    state = devices.replicate(initial_state(params, optimizer))
    steps = make_steps(network, optimizer, training, devices)
    return Trainer(steps, state, training, make_schedule(training, updates))


def _starting_parameters(
    config: ExperimentConfig, network: DCMNet, rows: Int[np.ndarray, " n"], console: Console
) -> Parameters:
    seed = config.training.seed
    if config.init_from:
        return parameters_from(
            config.init_from, network, seed, lambda text: _print_note(text, console)
        )
    params = initial_parameters(network, seed)
    monopoles = mean_monopoles(config.data.store, rows, network.max_atomic_number)
    return with_element_bias(params, monopoles, network.n_dcm)


def _print_note(note: str, console: Console) -> None:
    console.print(f"[yellow]Note:[/] {escape(note)}", highlight=False)


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM, a cluster's warning, into a request to stop after the update under way.

    Yields:
        A function that tells whether a stop was asked for. Only the main thread can
        listen to signals; in another one nothing is changed.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _use_compilation_cache() -> None:
    """Keeps compiled steps between runs, in the user's cache directory."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcmnet" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        # The small functions of a training run are worth keeping too.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


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
                expected="--field value",
                received=repr(word),
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
