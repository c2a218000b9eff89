"""The files of launch/: shellcheck finds nothing, manifests are as their schemas have them.

What their fields say together is checked too. None was given to a cluster, no image was built.
"""

import copy
import fnmatch
import importlib.util
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import jsonschema
import pytest
from launch_files import LAUNCH, ROOT, RUN_AGAIN, container_of, documents, job_of, jobset, pod_of

from jaxmatte.main import check_settings
from jaxmatte.train import health

SCRIPTS = ("slurm.sbatch", "tpu_vm.sh")
MANIFESTS = {
    "gke_jobset.yaml": "jobset.json",
    "gke_volumes.yaml": "volume_claim.json",
    "skypilot.yaml": "skypilot.json",
    "skypilot_volume.yaml": "skypilot_volume.json",
}
COORDINATOR_PORT = 8476


def validator(manifest):
    text = (ROOT / "tests/schemas" / MANIFESTS[manifest]).read_text(encoding="utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def shellcheck(*arguments, text=None):
    """Its findings on scripts; it comes with the environment of the tests."""
    folder = sysconfig.get_path("scripts")
    program = shutil.which("shellcheck", path=folder) or shutil.which("shellcheck")
    assert program, f"shellcheck is not in {folder}: install the extra `dev`"
    result = subprocess.run(
        [program, *arguments], input=text, capture_output=True, text=True, timeout=60
    )
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing_in_scripts(name):
    assert shellcheck(str(LAUNCH / name)) == ""


@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck_finds_nothing_in_the_scripts_within_manifests(part):
    (task,) = documents("skypilot.yaml")
    # What it sources is made on the machine.
    found = shellcheck("--shell=bash", "--exclude=SC1091", "-", text=task[part])
    assert found == ""


def test_shellcheck_would_find_what_is_not_quoted():
    assert "SC2086" in shellcheck("--shell=bash", "-", text="ls $1\n")


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_as_their_schemas_have_them(name):
    found = documents(name)
    assert found
    for document in found:
        validator(name).validate(document)


def places(value, path=()):
    """The path of every mapping of a document."""
    if isinstance(value, dict):
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


# The keys of these are the user's.
FREE = ("labels", "nodeSelector", "envs", "volumes")


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_misspelt_field_is_refused_wherever_it_stands(name):
    check, refused = validator(name), 0
    for document in documents(name):
        for path in places(document):
            if path and path[-1] in FREE:
                continue
            damaged = copy.deepcopy(document)
            inner = damaged
            for key in path:
                inner = inner[key]
            field = next(iter(inner))
            inner[field + "s"] = inner.pop(field)
            assert not check.is_valid(damaged), f"{'/'.join(map(str, path))}/{field}s"
            refused += 1
    assert refused >= 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "failurePolicy", "rules", 0, "name"), "told-to-stop"),
        (("spec", "failurePolicy", "rules", 0, "action"), "Restart"),
        (("spec", "failurePolicy", "maxRestarts"), "20"),
        (("spec", "replicatedJobs", 0, "template", "spec", "completions"), 0),
        (("spec", "replicatedJobs", 0, "template", "spec", "completionMode"), "NonIndexed"),
    ],
)
def test_a_value_that_the_cluster_would_refuse_is_refused(path, value):
    document = copy.deepcopy(jobset("gpu"))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not validator("gke_jobset.yaml").is_valid(document)


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_fields_of_a_jobset_agree(accelerator):
    manifest = jobset(accelerator)
    job, pod, container = job_of(manifest), pod_of(manifest), container_of(manifest)
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert manifest["spec"]["coordinator"] == {
        "replicatedJob": replicated["name"],
        "jobIndex": 0,
        "podIndex": 0,
    }
    assert job["completions"] == job["parallelism"]
    assert container["image"] == f"jaxmatte:{accelerator}"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["coordinator"] == COORDINATOR_PORT
    assert f"--health_port={ports['health']}" in container["args"]
    assert container["livenessProbe"]["httpGet"] == {"path": health.PATH, "port": "health"}
    assert f"/$COORDINATOR/{COORDINATOR_PORT}" in container["readinessProbe"]["exec"]["command"][2]

    claims = {claim["metadata"]["name"]: claim for claim in documents("gke_volumes.yaml")}
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            claim = claims[volume["persistentVolumeClaim"]["claimName"]]
            assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for flag in ("--config.data.root=", "--workdir="):
        (given,) = [part for part in container["args"] if part.startswith(flag)]
        assert given.removeprefix(flag).startswith(tuple(f"{mount}/" for mount in mounts))


def test_the_processes_of_the_gpu_jobset_are_its_pods():
    manifest = jobset("gpu")
    arguments = container_of(manifest)["args"]
    assert f"--processes={job_of(manifest)['completions']}" in arguments
    assert f"--coordinator=$(COORDINATOR):{COORDINATOR_PORT}" in arguments


def test_the_pods_of_the_tpu_jobset_are_the_hosts_of_its_topology():
    manifest = jobset("tpu")
    topology = pod_of(manifest)["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = int(container_of(manifest)["resources"]["limits"]["google.com/tpu"])
    hosts = math.prod(map(int, topology.split("x"))) // chips
    assert job_of(manifest)["completions"] == hosts


def test_all_mean_the_same_by_the_exit_code_of_a_stopped_run():
    flag = f"--stopped_exit_code={RUN_AGAIN}"
    for accelerator in ("gpu", "tpu"):
        manifest = jobset(accelerator)
        assert flag in container_of(manifest)["args"]
        on_code, on_eviction = job_of(manifest)["podFailurePolicy"]["rules"]
        assert on_code["onExitCodes"]["values"] == [RUN_AGAIN]
        assert on_eviction["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
        assert {rule["action"] for rule in (on_code, on_eviction)} == {"FailJob"}
        (rule,) = manifest["spec"]["failurePolicy"]["rules"]
        assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
        assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    (task,) = documents("skypilot.yaml")
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [RUN_AGAIN]
    assert flag in task["run"]
    for name in SCRIPTS:
        assert flag in (LAUNCH / name).read_text(encoding="utf-8")


def test_slurm_starts_a_task_for_each_gpu_and_warns_before_the_end():
    text = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert "gpus-per-task" not in options
    assert options["signal"] == "TERM@120" and "requeue" in options
    assert options["open-mode"] == "append"
    # sbatch reads no option after the first command.
    assert text.index("#SBATCH --output") < text.index("\nset -euo")


def devices():
    """How many accelerators each file starts a run on."""
    (task,) = documents("skypilot.yaml")
    slurm = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\d+)$", slurm, re.MULTILINE))
    counts = {
        "slurm.sbatch": int(options["nodes"]) * int(options["gpus-per-node"]),
        "skypilot.yaml": task["num_nodes"] * int(task["resources"]["accelerators"].split(":")[1]),
    }
    for accelerator in ("gpu", "tpu"):
        (chips,) = container_of(jobset(accelerator))["resources"]["limits"].values()
        counts[accelerator] = job_of(jobset(accelerator))["completions"] * int(chips)
    return counts


@pytest.mark.parametrize("config", ["gcam_spkd", "dim_spkd", "indexnet_spkd"])
def test_the_published_batches_can_be_shared_by_the_devices(config):
    specification = importlib.util.spec_from_file_location(config, ROOT / f"configs/{config}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    size = module.get_config("paper").train.batch_size
    assert {name: size % count for name, count in devices().items()} == dict.fromkeys(devices(), 0)


def instructions():
    """(instruction, words) of the Dockerfile, with its comments and continued lines taken away."""
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def test_the_dockerfile_starts_the_main_job_as_a_user_without_rights():
    found = instructions()
    names = [name for name, _ in found]
    assert names[0] == "FROM" and found[0][1] == "python:3.11-slim"
    assert set(names) <= {
        *("FROM", "ARG", "RUN", "WORKDIR", "COPY", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT")
    }
    assert json.loads(dict(found)["ENTRYPOINT"]) == ["python", "-m", "jaxmatte.main"]
    assert dict(found)["STOPSIGNAL"] == "SIGTERM" and dict(found)["USER"] == "jaxmatte"
    # Nothing is installed or copied as that user, and all of it before.
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in ("RUN", "COPY"))
    # Jobs on GPUs say who they are by number.
    (add_user,) = [words for name, words in found if name == "RUN" and "useradd" in words]
    user = pod_of(jobset("gpu"))["securityContext"]["runAsUser"]
    assert f"--uid {user} " in add_user


def test_the_dockerfile_takes_the_extras_that_there_are():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (default,) = [words for name, words in instructions() if name == "ARG"]
    assert default == "ACCELERATOR=gpu"
    (guard,) = [words for name, words in instructions() if name == "RUN" and "case" in words]
    for accelerator, works in (("gpu", True), ("tpu", True), ("tup", False), ("", False)):
        result = subprocess.run(
            ["sh", "-c", guard],
            env={"ACCELERATOR": accelerator},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (result.returncode == 0) == works, accelerator
        assert works == (accelerator in project["optional-dependencies"])
        assert works or f"ACCELERATOR={accelerator}: give gpu or tpu" in result.stdout
    assert any('".[$ACCELERATOR]"' in words for name, words in instructions() if name == "RUN")


def test_what_the_dockerfile_copies_is_there_and_reaches_it():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for name, words in instructions()
        if name == "COPY"
        for source in shlex.split(words)[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch(folder, rule) for folder in ("tests", "runs") for rule in sent)


def test_the_readme_names_every_file_and_only_what_there_is():
    text = (LAUNCH / "README.md").read_text(encoding="utf-8")
    for path in LAUNCH.iterdir():
        if path.is_file() and path.name != "README.md":
            assert path.name in text, path.name
    for named in re.findall(r"(?:launch|configs|docs)/[\w./-]+", text):
        assert (ROOT / named.rstrip(".")).exists(), named
    check_settings(re.findall(r"--config\.[a-z_.]+", text))


def test_local_py_tells_how_it_is_called():
    # The others are executed in test_launch_scripts.py and test_launch_processes.py.
    command = [sys.executable, str(LAUNCH / "local.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "--processes" in result.stdout
