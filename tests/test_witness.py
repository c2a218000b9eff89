"""What is said of a process that ended without a word, and of one that did not."""

import signal
import subprocess
import sys
import textwrap

import pytest

PROCESS = """
import faulthandler, os, pathlib, signal, sys
from jaxmatte.witness import Witness
witness = Witness()
witness.start()
witness.expect("it never came")
witness.expect("it was lost")
witness.report_to(pathlib.Path(sys.argv[1]))
{end}
"""


def run(tmp_path, end, report="crash-0.txt"):
    code = textwrap.dedent(PROCESS).format(end=end)
    return subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / report)],
        # What is read ends when the witness has ended too.
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("end", "number"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL),
        ("os.abort()", signal.SIGABRT),
        ("faulthandler._sigsegv()", signal.SIGSEGV),
    ],
)
def test_a_sudden_end_is_explained_by_what_was_said_last(tmp_path, end, number):
    result = run(tmp_path, end)
    assert result.returncode == -number
    report = tmp_path / "crash-0.txt"
    assert result.stderr == f"jaxmatte: error: it was lost. Report: {report}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["crash-0.txt"]
    contents = report.read_text()
    assert contents.startswith("it was lost\n\n")
    # No traceback can be had of a process that was killed.
    assert ("most recent call first" in contents) == (number != signal.SIGKILL)
    assert ('File "<string>", line 9' in contents) == (number != signal.SIGKILL)


def test_a_report_that_cannot_be_written_does_not_hide_the_message(tmp_path):
    result = run(tmp_path, "os._exit(1)", report="no/such/folder/crash.txt")
    assert result.stderr == "jaxmatte: error: it was lost\n" and result.returncode == 1


@pytest.mark.parametrize("end", ["witness.dismiss()", "witness.dismiss(); witness.expect('late')"])
def test_of_a_process_that_ends_in_order_nothing_is_said(tmp_path, end):
    result = run(tmp_path, end)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_witness_that_is_gone_harms_nobody(tmp_path):
    end = "witness._process.kill(); witness._process.wait(); witness.expect('x'); witness.dismiss()"
    result = run(tmp_path, end)
    assert (result.returncode, result.stderr) == (0, "")
