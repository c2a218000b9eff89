"""The scripts of launch/, with stand-ins for Slurm and gcloud that write down their calls."""

import shlex
import subprocess

import pytest
from launch_files import LAUNCH, ROOT, RUN_AGAIN, run, stand_in, with_path

# Writes its own name and arguments as one line that a shell reads back.
RECORD = '#!/usr/bin/env bash\n{ printf "%q " "${0##*/}" "$@"; echo; } >> "$CALLS"\n'


@pytest.fixture
def programs(tmp_path):
    """A folder of stand-ins, and what gives their calls in order."""
    folder, calls = tmp_path / "programs", tmp_path / "calls"

    def called():
        lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
        return [shlex.split(line) for line in lines]

    return folder, with_path(folder, CALLS=str(calls)), called


def submit(programs, *arguments, code, **variables):
    """slurm.sbatch as Slurm runs it, where the tasks of the job end with `code`."""
    folder, environment, called = programs
    stand_in(folder, "srun", f"{RECORD}exit {code}\n")
    stand_in(folder, "scontrol", RECORD)
    slurm = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "42", "SLURM_CPUS_PER_TASK": "8"}
    # Slurm runs a copy that lies elsewhere.
    copy = folder / "slurm_script"
    copy.write_bytes((LAUNCH / "slurm.sbatch").read_bytes())
    code, output = run(
        ["bash", str(copy), *arguments], environment | slurm | variables, folder=folder
    )
    return code, output, called()


def test_slurm_runs_the_main_job_with_what_follows_the_file(programs):
    given = ["--config", "configs/gcam_spkd.py:paper", "--workdir", "/shared/a b"]
    code, output, calls = submit(programs, *given, code=0)
    assert (code, output) == (0, "")
    (call,) = calls
    assert call == [
        *("srun", "--kill-on-bad-exit=0", "--wait=0", "--cpus-per-task=8"),
        *("python", "-m", "jaxmatte.main", f"--stopped_exit_code={RUN_AGAIN}", *given),
    ]


def test_a_job_that_was_stopped_is_put_back_into_the_queue(programs):
    code, _, calls = submit(programs, "--config", "c.py", code=RUN_AGAIN)
    assert code == RUN_AGAIN
    assert [call[0] for call in calls] == ["srun", "scontrol"]
    assert calls[1] == ["scontrol", "requeue", "42"]


@pytest.mark.parametrize("failure", [1, 2, 137])
def test_a_job_that_failed_is_not(programs, failure):
    code, _, calls = submit(programs, "--config", "c.py", code=failure)
    assert code == failure
    assert [call[0] for call in calls] == ["srun"]


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, "usage: sbatch launch/slurm.sbatch --config FILE"),
        (["--config=c"], {"SLURM_SUBMIT_DIR": "/"}, "call sbatch in the folder of the repository"),
        (["--config=c"], {"SLURM_SUBMIT_DIR": ""}, "start this file with sbatch"),
    ],
)
def test_slurm_is_not_started_where_something_is_missing(programs, arguments, variables, message):
    code, output, calls = submit(programs, *arguments, code=0, **variables)
    assert code != 0 and message in output
    assert calls == []


def tpu_vm(programs, *arguments):
    folder, environment, called = programs
    stand_in(folder, "gcloud", RECORD)
    code, output = run(["bash", str(LAUNCH / "tpu_vm.sh"), *arguments], environment)
    return code, output, called()


HARD = ("--config", "a b.py", '--config.name=it\'s; $HOME `id` "q" \\ *', "--workdir=/x")


@pytest.mark.parametrize(
    ("arguments", "verb", "flags"),
    [
        (
            ["create", "t", "z", "v5p-16", "v2-alpha-tpuv5", "--spot"],
            ["create", "t"],
            ["--accelerator-type=v5p-16", "--version=v2-alpha-tpuv5", "--spot"],
        ),
        (["delete", "t", "z"], ["delete", "t"], []),
        (
            ["stop", "t", "z"],
            ["ssh", "t"],
            ["--worker=all", '--command=kill -TERM "$(cat jaxmatte/run.pid)"'],
        ),
    ],
)
def test_each_verb_is_one_call_of_gcloud(programs, arguments, verb, flags):
    code, output, calls = tpu_vm(programs, *arguments)
    assert (code, output) == (0, "")
    assert calls == [["gcloud", "compute", "tpus", "tpu-vm", *verb, "--zone=z", *flags]]


def on_hosts(call):
    """The command line that a call of gcloud gives to all hosts."""
    assert call[:5] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh"] and "--worker=all" in call
    (command,) = [part for part in call if part.startswith("--command=")]
    return command.removeprefix("--command=")


def test_arguments_come_to_the_hosts_as_they_were_given(programs, tmp_path):
    code, _, calls = tpu_vm(programs, "run", "t", "z", *HARD)
    assert code == 0
    # The shell of a host, with a stand-in for the interpreter of the package's environment.
    shown = '#!/usr/bin/env bash\nprintf "%s\\0" "$@" > "$OLDPWD/seen"; echo $$ > "$OLDPWD/pid"\n'
    stand_in(tmp_path / "jaxmatte/.venv/bin", "python", shown)
    # With something to do afterwards, the shell itself does not replace itself by its last command.
    shell = ["bash", "-c", f"{on_hosts(calls[0])}\ntrue"]
    subprocess.run(shell, cwd=tmp_path, check=True, timeout=60)
    seen = (tmp_path / "seen").read_text(encoding="utf-8").split("\0")[:-1]
    assert seen == ["-m", "jaxmatte.main", f"--stopped_exit_code={RUN_AGAIN}", *HARD]
    # What `stop` signals is the run itself.
    assert (tmp_path / "jaxmatte/run.pid").read_text() == (tmp_path / "pid").read_text()


def test_a_dry_run_prints_the_calls_and_makes_none(programs):
    _, _, expected = tpu_vm(programs, "run", "t", "z", *HARD)
    code, output, calls = tpu_vm(programs, "--dry-run", "run", "t", "z", *HARD)
    assert code == 0 and calls == expected
    assert shlex.split(output) == expected[0]

    code, output, calls = tpu_vm(programs, "--dry-run", "install", "t", "z")
    assert code == 0 and calls == expected
    assert [line.split()[0] for line in output.splitlines()] == ["tar", "gcloud", "gcloud"]


def test_a_folder_to_mount_is_no_command(programs):
    code, _, calls = tpu_vm(programs, "mount", "t", "z", "10.0.0.2:/share; reboot")
    assert code == 0
    words = shlex.split(on_hosts(calls[0]))
    assert words[words.index("nfs", words.index("-t")) + 1] == "10.0.0.2:/share; reboot"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a verb, the name of the TPU and its zone"),
        (["run", "t"], "give a verb, the name of the TPU and its zone"),
        (["run", "t", "z"], "run needs the arguments of jaxmatte.main"),
        (["create", "t", "z", "v5p-16"], "create needs TYPE and VERSION"),
        (["mount", "t", "z"], "mount needs SERVER:/EXPORT"),
        (["start", "t", "z"], "start is none of create, install, mount, run, stop and delete"),
    ],
)
def test_tpu_vm_says_what_is_missing(programs, arguments, message):
    code, output, calls = tpu_vm(programs, *arguments)
    assert code == 2 and message in output
    assert calls == []


def test_tpu_vm_ends_where_gcloud_fails(programs):
    folder, environment, called = programs
    stand_in(folder, "gcloud", f"{RECORD}exit 3\n")
    code, _ = run(["bash", str(LAUNCH / "tpu_vm.sh"), "install", "t", "z"], environment)
    assert code == 3
    assert [call[4] for call in called()] == ["scp"]


def test_tpu_vm_tells_its_verbs(programs):
    code, output, _ = tpu_vm(programs, "--help")
    assert code == 0
    for verb in ("create", "install", "mount", "run", "stop", "delete"):
        assert f"[--dry-run] {verb} " in output
