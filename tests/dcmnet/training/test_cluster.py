"""Where a process stands, from what launchers put into its environment."""

import pytest

from dcmnet.training.processes.launcher import Place, find_place
from store_schema.problems import ConfigError

JAX = {
    "JAX_NUM_PROCESSES": "3",
    "JAX_PROCESS_ID": "2",
    "JAX_COORDINATOR_ADDRESS": "node1:1234",
}
# What srun sets for the second of two tasks.
STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
ORTE = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (JAX, Place(2, 3, "node1:1234", "deactivate")),
        (STEP, Place(1, 2, None, "slurm")),
        (STEP | JAX, Place(2, 3, "node1:1234", "deactivate")),
        (OPEN_MPI | ORTE, Place(1, 2, None, "ompi")),
        (OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "node1:9"}, Place(1, 2, "node1:9", "ompi")),
    ],
)
def test_launchers_tell_where_a_process_stands(environment, expected):
    assert find_place(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"JAX_COORDINATOR_ADDRESS": "node1:1234"},
        {"JAX_NUM_PROCESSES": "1"},
        STEP | {"JAX_NUM_PROCESSES": "1"},
        # In a batch script the variables of the job are there, but it is one process.
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        # A shell that salloc gives is a step of one task in a job of several.
        STEP | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
)
def test_a_process_that_nobody_started_with_others_is_alone(environment):
    assert find_place(environment) is None


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_PROCESS_ID"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES"),
        ({"JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES"),
        (JAX | {"JAX_PROCESS_ID": "3"}, "0 to 2"),
        (JAX | {"JAX_COORDINATOR_ADDRESS": "node1"}, "host:port"),
        ({**JAX, "JAX_COORDINATOR_ADDRESS": ""}, "JAX_COORDINATOR_ADDRESS"),
        (OPEN_MPI, "JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_variables_that_say_too_little_are_named(environment, named):
    with pytest.raises(ConfigError, match=named):
        find_place(environment)
