"""Maps that do not fit each other are refused, not broadcast.

In a process of its own: among the other tests annotations are checked, which come first.
"""

import subprocess
import sys

SCRIPT = """
import numpy as np
from jaxmatte import distill

def maps(*shape):
    return np.ones(shape, np.float32)

base = maps(2, 4, 6, 3)
anyone = [distill.spatial_similarity, distill.batch_similarity, distill.attention_transfer,
          distill.neuron_selectivity]
same_width = [distill.channel_similarity, lambda s, t: distill.overhaul_distance(s, t, t[0, 0, 0]),
              lambda s, t: distill.flow_of_solution(s, base, t, base),
              lambda s, t: distill.flow_of_solution(base, s, base, t)]
sizes = [maps(2, 6, 4, 3), maps(1, 4, 6, 3), maps(2, 1, 1, 3), maps(2, 4, 6)]
for function in anyone + same_width:
    for other in sizes + [maps(2, 4, 6, 1)] * (function in same_width):
        for pair in ((base, other), (other, base)):
            try:
                value = function(*pair)
            except ValueError as error:
                assert str(pair[0].shape) in str(error) and str(pair[1].shape) in str(error), error
            else:
                raise SystemExit(f"{function} of {pair[0].shape}, {pair[1].shape}: {value}")
for function in anyone:
    function(base, maps(2, 4, 6, 5))
for temperature in (0.0, -1.0):
    try:
        distill.softened_response(base[..., 0], base[..., 0], base[..., 0] > 0,
                                  temperature=temperature)
    except ValueError as error:
        assert f"temperature is {temperature}" in str(error)
    else:
        raise SystemExit("a temperature that is not positive")
print("all refused")
"""


def test_every_function_refuses_them():
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert result.stdout == "all refused\n", result.stdout + result.stderr
