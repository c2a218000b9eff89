"""A port that says whether a process still trains: supervisors restart what stands still."""

import dataclasses
import http
import http.server
import json
import threading
import time
from collections.abc import Callable

from jaxmatte.matting import InputError

PATH = "/healthz"


@dataclasses.dataclass
class Progress:
    """How far the training of this process has come.

    Attributes:
        stage: that is being trained; empty between stages, where nothing counts as standing still:
            opening data and scoring take as long as they take.
        step: last one whose result is known.
        steps: of the stage.
        since: when that was, by `clock`.
        clock: seconds that only grow.
    """

    stage: str = ""
    step: int = 0
    steps: int = 0
    since: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def reach(self, stage: str, step: int, steps: int) -> None:
        """Note a step; the first call of a stage starts its time, in which it also compiles."""
        self.stage, self.step, self.steps, self.since = stage, step, steps, self.clock()

    def rest(self) -> None:
        """Note that nothing is trained now."""
        self.stage = ""

    def answer(self, patience: int | float) -> tuple[http.HTTPStatus, dict[str, str | int | float]]:
        """What is answered to a request.

        Args:
            patience: seconds without a step after which a stage counts as standing still.

        Returns:
            OK or SERVICE_UNAVAILABLE, and what is known.
        """
        if not self.stage:
            return http.HTTPStatus.OK, {"stage": ""}
        waited = self.clock() - self.since
        facts: dict[str, str | int | float] = {
            "stage": self.stage,
            "step": self.step,
            "steps": self.steps,
            "seconds_since_step": round(waited, 1),
        }
        stands = waited > patience
        return http.HTTPStatus.SERVICE_UNAVAILABLE if stands else http.HTTPStatus.OK, facts


PROGRESS = Progress()


def serve(port: int, patience: int | float, progress: Progress = PROGRESS) -> int:
    """Answer GET requests on a port, in a thread, until the process ends.

    Args:
        port: 0 takes one that is free.
        patience: see `Progress.answer`.
        progress: what is told.

    Returns:
        The port.

    Raises:
        InputError: the port cannot be had.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, facts = progress.answer(patience)
            if self.path != PATH:
                status, facts = http.HTTPStatus.NOT_FOUND, {"ask": PATH}
            content = json.dumps(facts).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds and are not logged."""

    try:
        server = http.server.ThreadingHTTPServer(("", port), Handler)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--health_port={port}: the port cannot be had ({error}); give another"
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server.server_address[1]
