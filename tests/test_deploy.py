"""What containers and clusters are given: read by linters, and run where a stand-in can be had.

Nothing here builds an image or submits a job: that takes a Docker daemon, a Slurm, a cluster.
"""

import fnmatch
import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import typer
import yaml

from dcmnet.cli import app
from dcmnet.training.processes.joining import CONNECT_SECONDS, LOST
from dcmnet.training.processes.launcher import Place, find_place
from dcmnet.training.stopping import STOPPED
from tests.dcmnet.training.process_case import PATIENCE, lines_of, train_command
from tests.experiments import metrics

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE, SLURM, KUBERNETES = (
    DEPLOY / name for name in ("Dockerfile", "train.slurm", "train.yaml")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICE, JOB = yaml.safe_load_all(KUBERNETES.read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def lint(*words):
    """Runs a linter, whose package puts it beside this Python."""
    program = Path(sys.executable).parent / words[0]
    if not program.exists():
        pytest.skip(f"{words[0]} is of the dependency group 'distributed'")
    return subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("file", "words", "spoil"),
    [
        (DOCKERFILE, ["hadolint"], ("--from=build", "--from=nowhere")),
        (SLURM, ["shellcheck"], ('"$SLURM_JOB_ID"', "$SLURM_JOB_ID")),
        (
            KUBERNETES,
            ["kubernetes-validate", "--strict", "-k", "1.31"],
            ("clusterIP", "clusterIp"),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_linters_find_nothing_and_would_find_something(file, words, spoil, tmp_path):
    found = lint(*words, file)
    assert found.returncode == 0, found.stdout + found.stderr
    text = file.read_text()
    assert spoil[0] in text
    (tmp_path / file.name).write_text(text.replace(*spoil))
    assert lint(*words, tmp_path / file.name).returncode != 0


def instructions(name):
    """Returns the words of each instruction of that name in the Dockerfile."""
    lines = DOCKERFILE.read_text().replace("\\\n", "").splitlines()
    return [line.split()[1:] for line in lines if line.startswith(name + " ")]


def test_the_image_is_made_of_what_the_package_is_made_of():
    copied = {
        word for words in instructions("COPY") if "--from" not in words[0] for word in words[:-1]
    }
    project, setuptools = PROJECT["project"], PROJECT["tool"]["setuptools"]
    packages = {name.rstrip("*") for name in setuptools["packages"]["find"]["include"]}
    expected = {"pyproject.toml", "requirements.lock", project["readme"], *project["license-files"]}
    assert copied == expected | packages
    assert all((ROOT / name).exists() for name in copied)
    ignored, *rules = [
        line
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert ignored == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == copied
    left_out = [rule.removeprefix("**/") for rule in rules if rule[0] != "!"]
    for package, patterns in setuptools["package-data"].items():
        files = [path for pattern in patterns for path in (ROOT / package).glob(pattern)]
        assert files
        parts = {part for path in files for part in path.relative_to(ROOT).parts}
        assert not [p for p in parts if any(fnmatch.fnmatch(p, rule) for rule in left_out)]


def test_the_image_installs_what_there_is_and_runs_as_nobody_special():
    arguments = dict(words[0].split("=") for words in instructions("ARG"))
    assert arguments["ACCELERATOR"] == "", "a CPU by default"
    assert set(arguments["EXTRAS"].split(",")) < set(PROJECT["project"]["optional-dependencies"])
    offered = re.findall(r"cuda\d+", DOCKERFILE.read_text())
    assert set(offered) <= set(importlib.metadata.metadata("jax").get_all("Provides-Extra"))
    assert "--constraint requirements.lock" in DOCKERFILE.read_text()
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert {words[0] for words in instructions("FROM")} == {"python:3.11-slim-bookworm"}
    ((user,),) = instructions("USER")
    assert int(user) == POD["securityContext"]["runAsUser"] > 0
    assert instructions("ENTRYPOINT") == [['["dcmnet"]']]
    ((directory,),) = instructions("WORKDIR")[1:]
    assert directory in [mount["mountPath"] for mount in CONTAINER["volumeMounts"]]


def variables(index):
    """Returns the environment of a pod, as Kubernetes makes it."""
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    found = {}
    for variable in CONTAINER["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            (key,) = re.fullmatch(r"metadata\.annotations\['(.+)'\]", path).groups()
            found[variable["name"]] = annotations[key]
    return found


def test_the_pods_of_the_job_find_each_other():
    """Names as Kubernetes gives them: a pod's is that of its job and its index."""
    name, pods = JOB["metadata"]["name"], JOB["spec"]["completions"]
    assert JOB["spec"]["completionMode"] == "Indexed"
    assert JOB["spec"]["parallelism"] == pods, "all at once"
    assert SERVICE["spec"]["clusterIP"] == "None"
    assert SERVICE["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert POD["subdomain"] == SERVICE["metadata"]["name"]
    (port,) = (port["port"] for port in SERVICE["spec"]["ports"])
    assert [port["containerPort"] for port in CONTAINER["ports"]] == [port]
    first = f"{name}-0.{POD['subdomain']}:{port}"
    places = [find_place(variables(index)) for index in range(pods)]
    assert places == [Place(index, pods, first, "deactivate") for index in range(pods)]
    assert float(variables(0)[CONNECT_SECONDS]) > 300


def test_the_job_starts_again_what_was_stopped():
    rules = JOB["spec"]["podFailurePolicy"]["rules"]
    codes = {
        rule["action"]: rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule
    }
    assert codes == {"Ignore": sorted([LOST, STOPPED]), "FailJob": [2]}
    assert POD["restartPolicy"] == "Never", "what a podFailurePolicy asks for"
    assert f"stopped={STOPPED}" in SLURM.read_text()


def test_what_is_trained_is_what_the_command_takes():
    command, *words = CONTAINER["args"]
    parser = typer.main.get_command(app).commands[command]
    given = parser.make_context(command, words).params
    assert given["resume"]
    text = SLURM.read_text()
    (example,) = re.findall(r"sbatch deploy/train.slurm (.+)", text)
    assert '"${dcmnet[@]}" train "$@" --resume' in text
    assert parser.make_context(command, [*shlex.split(example), "--resume"]).params["resume"]


def write_program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# Starts the tasks of a step as srun does; ends with the largest exit code of any.
SRUN = f"""#!{sys.executable}
import os, pathlib, subprocess, sys
words = [word for word in sys.argv[1:] if not word.startswith("--kill-on-bad-exit")]
count = os.environ["SLURM_NTASKS"]
step = {{"SLURM_STEP_NUM_TASKS": count, "SLURM_STEP_NODELIST": "127.0.0.1"}}
tasks = [
    subprocess.Popen(
        words, env={{**os.environ, **step, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}}
    )
    for i in range(int(count))
]
pathlib.Path("tasks").write_text(" ".join(str(task.pid) for task in tasks))
sys.exit(max(task.wait() for task in tasks))
"""


def job_number():
    """Returns the number of a job whose coordinator finds its port free; JAX makes it of that."""
    for number in range(2**12):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", 65535 - 2**12 + 1 + number))
            except OSError:
                continue
            return str(number)
    raise AssertionError("no free port")


def end_all(group):
    """Ends what is left of a process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.mark.distributed
@pytest.mark.skipif(not shutil.which("bash"), reason="the script is one of bash")
def test_a_slurm_job_is_stopped_put_back_and_goes_on(sample_store, tmp_path, pytestconfig):
    """Two tasks of a step on loopback, each of which Slurm warns; then a job of one task."""
    programs = tmp_path / "programs"
    programs.mkdir()
    write_program(programs / "srun", SRUN)
    write_program(programs / "scontrol", '#!/bin/sh\necho "$@" >>requeued\n')
    number = job_number()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DCMNET": f"{sys.executable} -m dcmnet.cli",
        "SLURM_JOB_ID": number,
        "SLURM_CPUS_PER_TASK": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(pytestconfig.cache.mkdir("xla")),
    }
    directory = tmp_path / "trial"
    epochs = 30  # long after the first, however late it is seen here
    words = train_command(sample_store, directory, num_epochs=epochs)[1:]

    with ExitStack() as stack:

        def submitted(tasks):
            with (tmp_path / "log.txt").open("a") as log:
                job = subprocess.Popen(
                    ["bash", SLURM, *words],
                    cwd=tmp_path,
                    env={**environment, "SLURM_NTASKS": str(tasks)},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            stack.callback(end_all, job.pid)
            return job

        job = submitted(tasks=2)
        end = time.monotonic() + PATIENCE
        while lines_of(directory) < 1:
            assert job.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        for task in (tmp_path / "tasks").read_text().split():
            with suppress(ProcessLookupError):  # the first that is warned stops the others, too
                os.kill(int(task), signal.SIGTERM)
        assert job.wait(PATIENCE) == STOPPED, (tmp_path / "log.txt").read_text()
        assert (tmp_path / "requeued").read_text() == f"requeue {number}\n"
        assert submitted(tasks=1).wait(PATIENCE) == 0, (tmp_path / "log.txt").read_text()
    assert (tmp_path / "requeued").read_text().count("\n") == 1, "at its end it is not put back"
    assert [line["epoch"] for line in metrics(directory)] == [*range(1, epochs + 1)]
