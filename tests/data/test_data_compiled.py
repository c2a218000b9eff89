"""The compiler of TensorFlow starts whatever JAX is told."""

import os
import subprocess
import sys


def test_settings_for_jax_do_not_end_the_process():
    program = (
        "from jaxmatte.data.compiled import start_compiler; start_compiler(); "
        "import os; print(os.environ['XLA_FLAGS'])"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_a_flag_of_a_later_version=1"}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "--xla_a_flag_of_a_later_version=1"
