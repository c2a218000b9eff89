"""Which processes a run has, as the environment of a cluster tells; imports nothing heavy.

The values themselves are JAX's to find (`jax.distributed.initialize`). Here it is decided whether
there is anything to join, and an environment that tells half of it is refused: JAX would take such
a process for a run of its own, and every host would train alone.
"""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping

from jaxmatte.matting import InputError

CHOICES = ("auto", "none", "slurm", "ompi", "tpu")

# What JAX reads of each cluster.
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_OMPI = (
    "OMPI_MCA_orte_hnp_uri",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
)
_WAY_OUT = "or give --coordinator, --processes and --process_index, or --cluster=none to run alone"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What started the processes of a run.

    Attributes:
        name: `slurm`, `ompi` or `tpu`.
        local_devices: the accelerators of the host that this process takes; None leaves it to JAX,
            which takes one a process on GPUs and all of a host's on TPUs.
    """

    name: str
    local_devices: tuple[int, ...] | None = None


def detect(choice: str, environment: Mapping[str, str], *, tpu: bool) -> Cluster | None:
    """The cluster that this process is one of several of; None where it is alone.

    Args:
        choice: one of `CHOICES`; `auto` looks for all, `none` for none.
        environment: variables of the process.
        tpu: whether the host has TPUs.

    Raises:
        InputError: several processes were started and what JAX needs to join them is not all there,
            or the chosen cluster is not there at all.
    """
    finders = {
        "slurm": lambda: _slurm(environment),
        "ompi": lambda: _ompi(environment),
        "tpu": lambda: _tpu(environment) if tpu else None,
    }
    if choice == "none":
        return None
    if choice != "auto":
        if found := finders[choice]():
            return found
        raise InputError(
            f"--cluster={choice}: this process is not one of several that {choice} started; start "
            "it there, or leave the flag out"
        )
    return next((found for find in finders.values() if (found := find())), None)


def has_tpu(environment: Mapping[str, str]) -> bool:
    """Whether JAX will use TPUs of this host: its library is installed and it has chips."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms:
        return False
    chips = [*pathlib.Path("/dev").glob("accel*"), *pathlib.Path("/dev/vfio").glob("[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_JOB_ID" not in environment or tasks == "1":
        return None
    _complete(
        f"Slurm has {tasks} tasks",
        environment,
        _SLURM,
        "start the command by `srun` inside the job",
    )
    # Alone on its host, a process takes all accelerators there, not one of them.
    if tasks == environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES")):
        count = environment.get("SLURM_GPUS_ON_NODE", "")
        return Cluster("slurm", tuple(range(int(count))) if count.isdecimal() else None)
    return Cluster("slurm")


def _ompi(environment: Mapping[str, str]) -> Cluster | None:
    size = environment.get("OMPI_COMM_WORLD_SIZE", "1")
    if size == "1":
        return None
    _complete(
        f"Open MPI has {size} processes",
        environment,
        _OMPI,
        "start the command by an `mpirun` of Open MPI 4",
    )
    return Cluster("ompi")


def _tpu(environment: Mapping[str, str]) -> Cluster | None:
    hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
    slices = environment.get("MEGASCALE_NUM_SLICES", "1")
    if hosts is None and "TPU_SKIP_MDS_QUERY" not in environment:
        # The virtual machine's metadata tell how many hosts the slice has, be it one.
        return Cluster("tpu")
    count = len(hosts.split(",")) if hosts else 1
    if count == 1 and slices == "1":
        return None
    wanted = ["TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"]
    if slices != "1":
        wanted += ["MEGASCALE_SLICE_ID", "MEGASCALE_COORDINATOR_ADDRESS"]
    given = {**environment, "TPU_WORKER_HOSTNAMES": hosts or ""}
    _complete(
        f"the TPU has {count} hosts and {slices} slices", given, wanted, "set what is missing"
    )
    return Cluster("tpu")


def _complete(
    found: str, environment: Mapping[str, str], wanted: tuple[str, ...] | list[str], way_out: str
) -> None:
    """Raise `InputError` naming the variables that are wanted and not set."""
    if missing := [name for name in wanted if not environment.get(name)]:
        raise InputError(
            f"{found}, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; "
            f"{way_out}, {_WAY_OUT}"
        )
