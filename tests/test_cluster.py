"""Which environments are of several processes, and which tell only half of it."""

import pytest

from jaxmatte.cluster import Cluster, detect
from jaxmatte.matting import InputError

SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "2",
}
OMPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
TPU = {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "0", "TPU_SKIP_MDS_QUERY": "1"}


def without(environment, *names):
    return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize(
    ("environment", "tpu", "expected"),
    [
        ({}, False, None),
        (SLURM, False, Cluster("slurm")),
        (OMPI, False, Cluster("ompi")),
        (TPU, True, Cluster("tpu")),
        # The variables are of a TPU that JAX does not use here.
        (TPU, False, None),
        # One task to a host takes all of its accelerators.
        (SLURM | {"SLURM_NTASKS": "2"}, False, Cluster("slurm", (0, 1))),
        (
            without(SLURM, "SLURM_GPUS_ON_NODE") | {"SLURM_NTASKS": "2"},
            False,
            Cluster("slurm"),
        ),
        # An allocation of one task, such as an interactive one, is no run of several processes.
        ({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "1"}, False, None),
        ({"SLURM_JOB_ID": "12"}, False, None),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False, None),
        # A virtual machine's metadata say how many hosts there are.
        ({}, True, Cluster("tpu")),
        # A notebook's TPU of one host has none.
        ({"TPU_SKIP_MDS_QUERY": "1"}, True, None),
        (TPU | {"TPU_WORKER_HOSTNAMES": "localhost"}, True, None),
        (
            TPU
            | {
                "MEGASCALE_NUM_SLICES": "2",
                "MEGASCALE_SLICE_ID": "1",
                "MEGASCALE_COORDINATOR_ADDRESS": "a:1",
            },
            True,
            Cluster("tpu"),
        ),
    ],
)
def test_what_started_the_processes_is_found(environment, tpu, expected):
    assert detect("auto", environment, tpu=tpu) == expected
    assert detect("none", environment, tpu=tpu) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        # A script of `sbatch` that forgot `srun`.
        (
            without(SLURM, "SLURM_STEP_NODELIST", "SLURM_LOCALID"),
            "Slurm has 4 tasks, but SLURM_STEP_NODELIST, SLURM_LOCALID are not set; .* by `srun`",
        ),
        (without(SLURM, "SLURM_PROCID"), "but SLURM_PROCID is not set"),
        # Open MPI 5 does not have it.
        (without(OMPI, "OMPI_MCA_orte_hnp_uri"), "has 2 processes, but OMPI_MCA_orte_hnp_uri is"),
        (without(TPU, "TPU_WORKER_ID"), "the TPU has 2 hosts and 1 slices, but TPU_WORKER_ID is"),
        (
            TPU | {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "0"},
            "2 hosts and 2 slices, but MEGASCALE_COORDINATOR_ADDRESS is not set",
        ),
    ],
)
def test_half_a_configuration_is_refused_with_what_is_missing(environment, message):
    with pytest.raises(InputError, match=message) as caught:
        detect("auto", environment, tpu=True)
    assert "--cluster=none to run alone" in str(caught.value)


def test_a_cluster_that_is_chosen_must_be_there():
    assert detect("slurm", {**SLURM, **OMPI}, tpu=False) == Cluster("slurm")
    assert detect("ompi", {**SLURM, **OMPI}, tpu=False) == Cluster("ompi")
    for choice in ("slurm", "ompi", "tpu"):
        with pytest.raises(InputError, match=f"--cluster={choice}: this process is not one of sev"):
            detect(choice, {}, tpu=False)
