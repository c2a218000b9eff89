"""Checkpoints of a stage: written in the background, complete or absent, refused where they differ.

Orbax writes each under a temporary name and renames it: one that a crash cut short is never listed.
Once it has its name it is sealed with checksums, in a folder beside: one that was damaged later is
noticed.
"""

import contextlib
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from jaxmatte.matting import InputError
from jaxmatte.train.seal import damage, seal
from jaxmatte.train.state import TrainState

_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: pathlib.Path, *, keep: int, identity: dict[str, Any]):
        """Open the folder, creating it where it does not exist.

        Args:
            folder: where; belongs to one stage.
            keep: how many stay.
            identity: what a checkpoint must have been made of to be resumed: network, objective.
        """
        self._folder = folder.absolute()
        self._records = self._folder.parent / "checksums"
        self._identity = identity
        # The step of a checkpoint that is being written, or has no checksums yet.
        self._open: int | None = None
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        with self._reporting("opened"):
            self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, state: TrainState) -> None:
        """Start to write a checkpoint; a failure to write the one before is raised here."""
        step = int(state.step)
        self._complete()
        contents = ocp.args.Composite(
            state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
            identity=ocp.args.JsonSave(self._identity),  # pyright: ignore[reportCallIssue]
        )
        with self._reporting(f"written at step {step}"):
            if jax.process_index() == 0:
                self._record(step).unlink(missing_ok=True)
            self._manager.save(step, args=contents)
        self._open = step

    def seal(self) -> None:
        """Write checksums of the newest checkpoint, once it is complete; costs little before."""
        if self._open is None or not (self._folder / str(self._open)).is_dir():
            return
        step, self._open = self._open, None
        if jax.process_index() != 0:
            return
        try:
            seal(self._folder / str(step), self._record(step))
            for record in self._records.glob("*.json"):
                if not (self._folder / record.stem).exists():
                    record.unlink()
        except (InputError, OSError) as error:
            # It is complete all the same.
            _LOG.warning("%s/%d has no checksums: %s", self._folder, step, _first_line(error))

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        self._complete()
        with self._reporting("finished"):
            self._manager.close()

    def _complete(self) -> None:
        with self._reporting(f"written at step {self._open}"):
            self._manager.wait_until_finished()
        self.seal()

    def _record(self, step: int) -> pathlib.Path:
        return self._records / f"{step}.json"

    def restore(self, template: TrainState) -> TrainState | None:
        """The newest state that can be read, laid out like `template`; None where there is none.

        Unreadable checkpoints are moved aside, beside the folder, and the one before is used; by
        all processes, where one of them cannot read it.

        Raises:
            InputError: the checkpoints are of another network or objective, or all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            # Looked at before all processes read it together.
            here = jax.process_index() == 0
            problem = damage(self._folder / str(step), self._record(step)) if here else ""
            if _anywhere(bool(problem)):
                self._move_aside(step, problem)
                continue
            state = None
            try:
                self._check_identity(step)
                state = self._read(step, template)
            except InputError:
                raise
            except Exception as error:  # Orbax raises whatever the storage below it raised.
                problem = _first_line(error)
            if not _anywhere(bool(problem)):
                return state
            self._move_aside(step, problem)
        if steps:
            raise InputError(
                f"{self._folder}: none of the checkpoints {steps} can be read; they were moved "
                "aside. Start this stage anew by running the command once more"
            )
        return None

    def _read(self, step: int, template: TrainState) -> TrainState:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract)  # pyright: ignore[reportCallIssue]
        )
        return self._manager.restore(step, args=arguments)["state"]

    def _check_identity(self, step: int) -> None:
        arguments = ocp.args.Composite(identity=ocp.args.JsonRestore())
        stored = self._manager.restore(step, args=arguments)["identity"]
        # Through JSON, so that tuples compare with the lists they come back as.
        wanted = json.loads(json.dumps(self._identity))
        for name in sorted(stored.keys() | wanted.keys()):
            if stored.get(name) != wanted.get(name):
                raise InputError(
                    f"{self._folder}/{step}: this checkpoint is of another run: its {name} is "
                    f"{stored.get(name)}, this run's is {wanted.get(name)}; give another --workdir"
                )

    def _move_aside(self, step: int, problem: str) -> None:
        if jax.process_index() == 0:
            self._rename(step, problem)
        multihost_utils.sync_global_devices(f"checkpoint {step} moved")
        self._manager.reload()

    def _rename(self, step: int, problem: str) -> None:
        target = self._folder.parent / f"damaged-checkpoint-{step}"
        number = 0
        while target.exists():
            number += 1
            target = target.with_name(f"damaged-checkpoint-{step}-{number}")
        _LOG.warning(
            "%s/%d cannot be read and is moved to %s; the checkpoint before it is used (%s)",
            self._folder,
            step,
            target,
            problem or "another process could not read it",
        )
        (self._folder / str(step)).rename(target)

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Turn whatever the storage raises into a message that says what is still there."""
        try:
            yield
        except Exception as error:
            kept = sorted(
                int(entry.name) for entry in self._folder.glob("*") if entry.name.isdigit()
            )
            raise InputError(
                f"{self._folder}: a checkpoint could not be {what}: {_first_line(error)}. Complete "
                f"checkpoints there: {kept or 'none'}; make room or change permissions, and run "
                "the same command again to go on"
            ) from error


def _anywhere(here: bool) -> bool:
    """Whether something is the case in any process of the run."""
    if jax.process_count() == 1:
        return here
    return bool(multihost_utils.process_allgather(np.array([here], np.int32)).any())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
