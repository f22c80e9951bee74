"""A training from its configuration to its checkpoints, by one process or several."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import jax
import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.markup import escape

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import MetricsFile
from dcmnet.experiment.seen_elements import new_elements, record_elements
from dcmnet.experiment.state import Progress
from dcmnet.model import Parameters
from dcmnet.model.initialization import (
    initial_parameters,
    mean_monopoles,
    with_element_bias,
    zero_parameters,
)
from dcmnet.model.molecule import symbols_of
from dcmnet.model.parameter_table import print_parameters
from dcmnet.pretrained import DEFAULT
from dcmnet.training.epoch import Data, Trainer
from dcmnet.training.fine_tuning import parameters_from
from dcmnet.training.followers import Follower, following
from dcmnet.training.loop import is_over, train
from dcmnet.training.molecules import make_data
from dcmnet.training.optimizer import make_optimizer, make_schedule
from dcmnet.training.processes.agreement import Processes
from dcmnet.training.processes.checkpoints import SharedCheckpoints
from dcmnet.training.processes.devices import Devices
from dcmnet.training.processes.launcher import COUNT
from dcmnet.training.reporter import Reporter, Silence
from dcmnet.training.step import initial_state, make_steps
from dcmnet.training.stopping import STOPPED, stop_on_sigterm
from pipeline.files import exclusive
from store_schema.problems import ConfigError

# Training molecules below which a model in the box is the better start.
_FEW: Final = 10_000


class Run(NamedTuple):
    """A training run, about to begin or to resume.

    Attributes:
        experiment: Where it goes.
        config: What is trained.
        console: Where tables go.
        followers: Trackers and other followers.
        processes: Who takes part.
    """

    experiment: Experiment
    config: ExperimentConfig
    console: Console
    followers: Sequence[Follower]
    processes: Processes


def run_to_end(run: Run, *, resume: bool, verbose: bool = False) -> tuple[Parameters, float, Path]:
    """Trains to the end, from the start or from the latest checkpoint.

    Args:
        run: What to carry out.
        resume: Resume what is there.
        verbose: Print a table of all parameters before the first epoch.

    Returns:
        As ``run_training``.

    Raises:
        DcmError: As ``run_training``.
        SystemExit: As ``run_training``.
    """
    if not run.processes.is_first:  # which alone reports
        run = run._replace(console=Console(quiet=True), followers=())
    experiment, config, console, _, processes = run
    _check_same(run)
    devices = Devices(processes)
    with processes.together():
        data, rows = make_data(config, devices.part)
        goes_on = resume and _has_begun(experiment)
    for note in data.notes:
        _print_note(note, console)
    trainer = _make_trainer(run, data, None if goes_on else rows, devices)
    with ExitStack() as held:
        with processes.together():
            checkpoints = _begin_writing(run, held, devices, resume=resume)
        stop = held.enter_context(stop_on_sigterm(processes))
        progress = Progress(epoch=0)
        if goes_on:
            trainer.state, progress = checkpoints.restore(trainer.state)
            with processes.together():
                checkpoints.keep_until(progress.epoch)
                data.train.set_state(progress.iterator or {})
            if is_over(config.training, progress):
                _print_note(
                    f"The run is over, after {progress.epoch} epochs. To train on, start another "
                    f"from it: --init-from {experiment.directory}",
                    console,
                )
        if verbose:
            print_parameters(devices.local(trainer.state.params), console)
        with _reporter(run, progress, trainer, data) as reporter:
            progress = train(
                trainer,
                data,
                checkpoints,
                progress,
                on_epoch=reporter.on_epoch,
                on_batch=reporter.on_batch,
                stop=stop,
                enough=lambda: bool(processes.first(reporter.enough())),
                agreed=processes.first,
            )
            if stop() and not is_over(config.training, progress):
                _exit_stopped(experiment, progress, console)
        if not progress.best_epoch:  # no epoch had a finite criterion
            return trainer.averaged, progress.best, experiment.directory
        best, _ = checkpoints.restore_model("best", trainer.state.ema_params)
    return best, progress.best, experiment.directory


def _check_same(run: Run) -> None:
    """Refuses processes that were started to train different things."""
    found = run.processes.texts(f"{run.experiment.directory} {run.config.model_dump_json()}")
    others = [index for index, text in enumerate(found) if text != found[0]]
    with run.processes.together():
        if others:
            raise ConfigError.of(
                f"processes {', '.join(map(str, others))}",
                wrong="their experiment or configuration is not that of process 0",
                consequence="nothing was started",
                remedy=f"Start all processes with the same command, or set {COUNT}=1 for runs "
                "of their own",
            )


def _begin_writing(
    run: Run, held: ExitStack, devices: Devices, *, resume: bool
) -> SharedCheckpoints:
    """Takes hold of the experiment's directory, on the process that writes."""
    experiment = run.experiment
    if run.processes.is_first:
        experiment.directory.mkdir(parents=True, exist_ok=True)
        # Two runs of one experiment would write over each other.
        held.enter_context(exclusive(experiment.directory, wait=False))
    checkpoints = held.enter_context(SharedCheckpoints(experiment.checkpoints_path, devices))
    if run.processes.is_first and not resume:  # when nothing else can be refused any more
        refuse_existing(experiment)
        run.config.save(experiment.config_path)
    return checkpoints


@contextmanager
def _reporter(
    run: Run, progress: Progress, trainer: Trainer, data: Data
) -> Iterator[Reporter | Silence]:
    """Yields the reporter of the run, on the process that writes."""
    if not run.processes.is_first:
        yield Silence()
        return
    metrics = MetricsFile(run.experiment.metrics_path)
    metrics.keep_until(progress.epoch)
    record_elements(run.experiment.directory, run.config)
    with (
        following(run.followers, run.config, metrics.read()),
        Reporter(run.console, metrics, run.followers, trainer, data) as reporter,
    ):
        yield reporter


def _exit_stopped(experiment: Experiment, progress: Progress, console: Console) -> NoReturn:
    console.print(
        f"[yellow]Stopped as asked[/] in epoch {progress.epoch + 1}, everything is saved; continue "
        f"with 'dcmnet resume {escape(str(experiment.directory))}'",
        soft_wrap=True,
    )
    sys.exit(STOPPED)


def _has_begun(experiment: Experiment) -> bool:
    """Says whether to resume; a run that ended before its first checkpoint begins again."""
    if len(experiment.history()) > 1:  # there was a checkpoint then
        return True
    if not experiment.checkpoints_path.is_dir():
        return False
    with Checkpoints(experiment.checkpoints_path, read_only=True) as checkpoints:
        return "latest" in checkpoints.names()


def _make_trainer(
    run: Run, data: Data, rows: Int[np.ndarray, " n"] | None, devices: Devices
) -> Trainer:
    """Returns a trainer, with the parameters of the start where ``rows`` are trained on."""
    config, training = run.config, run.config.training
    updates_per_epoch = -(-data.batches_per_epoch // data.batches_per_update)
    schedule = jax.jit(make_schedule(training, updates_per_epoch))
    steps = make_steps(config.model, training, schedule, devices)
    with run.processes.together():
        params = (
            zero_parameters(config.model)  # which the checkpoint replaces
            if rows is None
            else _starting_parameters(config, rows, run.console)
        )
    optimizer = make_optimizer(training, schedule)
    state = devices.replicate(initial_state(params, optimizer))
    return Trainer(steps, state, training, schedule, devices)


def _starting_parameters(
    config: ExperimentConfig, rows: Int[np.ndarray, " n"], console: Console
) -> Parameters:
    model, seed = config.model, config.training.seed
    if config.init_from:
        if strange := new_elements(config):
            _print_note(
                f"{config.init_from} has not seen {symbols_of(strange)} in training: it has to "
                "learn them from these molecules alone",
                console,
            )
        return parameters_from(
            config.init_from, model, seed, lambda text: _print_note(text, console)
        )
    if len(rows) < _FEW:
        _print_note(
            "training begins with random parameters, which few molecules can teach little; "
            f"--init-from {DEFAULT} begins with a model in the box",
            console,
        )
    params = initial_parameters(model, seed)
    monopoles = mean_monopoles(config.data.store, rows, model.max_atomic_number)
    return with_element_bias(params, monopoles, model.n_dcm)


def _print_note(note: str, console: Console) -> None:
    console.print(f"[yellow]Note:[/] {escape(note)}", highlight=False)


def refuse_existing(experiment: Experiment) -> None:
    """Refuses to begin where an experiment is already.

    Raises:
        ConfigError: There is one.
    """
    if experiment.config_path.exists():
        raise ConfigError.of(
            str(experiment.directory),
            wrong="there is an experiment of this name already",
            consequence="nothing was started, nothing overwritten",
            remedy="Choose another name, delete it, or continue it with 'dcmnet resume'",
        )
