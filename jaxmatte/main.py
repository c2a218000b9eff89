"""Train a small matting network: a teacher, a student distilled from it, scores and a report.

  python -m jaxmatte.main --config configs/gcam_spkd.py
  python -m jaxmatte.main --config configs/gcam_spkd.py --config.train.steps=1000
  python -m jaxmatte.main --config configs/gcam_spkd.py --config.data.source=folder \\
      --config.data.root=DIR   (DIR/foreground: RGBA images, DIR/background: photographs)

Students distilled by several methods on equal terms, in one table:

  python -m jaxmatte.main --config configs/compare_distillation.py

A student cut out of a network of its teacher's widths, and ways to choose its channels compared:

  python -m jaxmatte.main --config configs/gcam_dcp.py --config.prune.macs=0.25
  python -m jaxmatte.main --config configs/compare_pruning.py

Everything of a run is in --workdir. The same command again goes on where it stopped. Any setting is
overridden by --config.SECTION.FIELD=VALUE, and one of a method of distillation by
--config.distill.METHOD.FIELD=VALUE:
"""

import ast
import dataclasses
import difflib
import hashlib
import inspect
import json
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import jax
from absl import app, flags
from ml_collections import config_flags

from jaxmatte import cluster, cpu, crash, distill, runtime
from jaxmatte.distill import Method
from jaxmatte.matting import InputError
from jaxmatte.train import health, preemption
from jaxmatte.train.config import Experiment
from jaxmatte.train.workdir import decisive

# One dash is as good as two, and `no` sets a switch to false.
_OVERRIDE = re.compile(r"^--?(no)?config\.")
_METHOD_OVERRIDE = re.compile(r"^--?config\.distill\.([^.=]*)\.?([^.=]*)(=?)(.*)$", re.DOTALL)

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File with get_config(); FILE:paper is the published size."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run; by default runs/<name>, with a hash where settings are overridden.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, for several processes."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes the run has.")
_PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "Which of them this is, from 0.")
_CLUSTER = flags.DEFINE_enum(
    "cluster",
    "auto",
    cluster.CHOICES,
    "What started the processes of the run, where these three are not given; auto asks Slurm's, "
    "Open MPI's and the TPU's environment, none runs alone.",
)
_JOIN_TIMEOUT = flags.DEFINE_integer(
    "join_timeout", 300, "Seconds to wait until all processes are there.", lower_bound=1
)
_STOPPED_EXIT_CODE = flags.DEFINE_integer(
    "stopped_exit_code",
    0,
    "Exit code of a run that SIGTERM stopped; schedulers that take 0 for the end of the work, and "
    "would not start it again, are given another.",
    lower_bound=0,
    upper_bound=255,
)
_HEALTH_PORT = flags.DEFINE_integer(
    "health_port",
    None,
    "Answer GET /healthz on this port: 200 with stage and step; 503 where training stands still. "
    "Processes of one machine need a port each.",
)
_HEALTH_PATIENCE = flags.DEFINE_integer(
    "health_patience",
    1800,
    "Seconds without a step, in which the first of a stage also compiles, that are still healthy.",
    lower_bound=1,
)


def main(arguments: Sequence[str]) -> None:
    """Validate the settings, then run the experiment in its workdir."""
    if len(arguments) > 1:
        raise InputError(f"{arguments[1]!r} is not a flag; settings are --config.SECTION.FIELD=...")
    config: Experiment = _CONFIG.value
    config.validate()
    if _HEALTH_PORT.value is not None:
        health.serve(_HEALTH_PORT.value, _HEALTH_PATIENCE.value)
    runtime.start(
        _COORDINATOR.value,
        _PROCESSES.value,
        _PROCESS_INDEX.value,
        choice=_CLUSTER.value,
        timeout=_JOIN_TIMEOUT.value,
    )
    preemption.heed()
    from jaxmatte.run import run

    workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else default_workdir(config)
    runtime.WITNESS.report_to(crash.report_path(workdir))
    try:
        run(config, workdir)
        runtime.finish()
    except InputError:
        raise
    except Exception as error:
        if written := crash.write_report(workdir, error):
            error.add_note(f"report: {written}")
        raise


def default_workdir(config: Experiment) -> pathlib.Path:
    """runs/<name>; for results other than the config file's a folder of their own beside it."""
    given = [
        _OVERRIDE.sub("", part).split("=")[0] for part in sys.argv[1:] if _OVERRIDE.match(part)
    ]
    places = {"data.root": config.data.root, "data.backgrounds": config.data.backgrounds}
    if not (places.keys() & set(given) or decisive(dict.fromkeys(given))):
        return pathlib.Path("runs", config.name)
    settings = decisive(config.to_json()) | places
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return pathlib.Path("runs", f"{config.name}-{digest[:8]}")


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parse the command line; a setting that does not exist is named with the nearest that does."""
    app.define_help_flags()
    of_methods = [part for part in arguments if _METHOD_OVERRIDE.match(part)]
    given, arguments = arguments, [part for part in arguments if part not in of_methods]
    check_settings([part for part in arguments if _OVERRIDE.match(part)])
    # config_flags looks for overrides there itself, and cannot change what is frozen.
    sys.argv = list(arguments)
    try:
        rest = flags.FLAGS(list(arguments))
    except flags.IllegalFlagValueError as error:
        # An input error inside get_config comes wrapped in the traceback of the config file.
        _, found, message = str(error).partition(f"{InputError.__module__}.{InputError.__name__}: ")
        raise InputError(message.strip()) if found else error from error
    finally:
        sys.argv = list(given)
    _check_config_file(_CONFIG.value, arguments)
    if of_methods and _CONFIG.value.recipe == "compare":
        raise InputError(
            f"{of_methods[0]}: a comparison has its methods in compare.methods, which the file of "
            "settings gives; the recipe is 'compare'"
        )
    of_pruning = [part for part in arguments if part.startswith("--config.prune.")]
    if of_pruning and _CONFIG.value.recipe == "compare":
        raise InputError(
            f"{of_pruning[0]}: a comparison has a pruning for each row in compare.prune, which the "
            "file of settings gives; the recipe is 'compare'"
        )
    for override in of_methods:
        _CONFIG.value.distill = override_method(_CONFIG.value.distill, override)
    return list(rest)


def override_method(methods: Sequence[Method], override: str) -> tuple[Method, ...]:
    """The methods with one field of one of them as `--config.distill.METHOD.FIELD=VALUE` has it.

    Raises:
        InputError: there is no such method among them, or field, or the value is of another kind.
    """
    found = _METHOD_OVERRIDE.match(override)
    assert found is not None
    name, field, equals, text = found.groups()
    names = [type(method).__name__ for method in methods]
    if names.count(name) != 1:
        problem = "is there more than once" if name in names else "is not among the methods"
        raise InputError(
            f"{override}: {name!r} {problem} of this config, which are {', '.join(names)}; change "
            "the tuple in the file of settings"
        )
    method = methods[names.index(name)]
    defaults = {part.name: part.default for part in dataclasses.fields(method)}
    fields = {part.name: getattr(method, part.name) for part in dataclasses.fields(method)}
    if field not in fields or not equals:
        raise InputError(
            f"{override}: give --config.distill.{name}.FIELD=VALUE; the fields of {name} are "
            f"{', '.join(fields)}"
        )
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    usual = fields[field]
    # Of a field that may be None the other values are numbers.
    optional = usual is None or defaults.get(field, usual) is None
    kinds = (int, float) if optional or isinstance(usual, float) else (type(usual),)
    fits = isinstance(value, kinds) and isinstance(value, bool) == isinstance(usual, bool)
    if not fits and not (value is None and optional):
        raise InputError(f"{override}: it is {usual!r} now; give a value of the same kind")
    if float in kinds and value is not None:
        value = float(value)
    changed = dataclasses.replace(method, **{field: value})
    return tuple(changed if part is method else part for part in methods)


def _check_config_file(config: object, arguments: Sequence[str]) -> None:
    """Raise `InputError` where the file of settings is not given, not there or gives none."""
    if isinstance(config, Experiment):
        return
    given = [
        part.partition("=")[2] or following
        for part, following in zip(arguments, [*arguments[1:], ""], strict=True)
        if part in ("--config", "-config") or part.startswith(("--config=", "-config="))
    ]
    example = "for example --config configs/gcam_spkd.py"
    if not given:
        raise InputError(f"give a file of settings, {example}")
    if not pathlib.Path(given[-1].partition(":")[0]).is_file():
        raise InputError(f"--config {given[-1]}: there is no such file; give one, {example}")
    raise InputError(
        f"--config {given[-1]}: its get_config() returned {type(config).__name__}, not an "
        "Experiment (see jaxmatte/train/config.py)"
    )


def check_settings(overrides: Sequence[str]) -> None:
    """Raise `InputError` at the first `--config.a.b=value` that names no setting."""
    for override in overrides:
        path = _OVERRIDE.sub("", override).split("=", 1)[0]
        owner: type = Experiment
        known = "config"
        for part in path.split("."):
            if not dataclasses.is_dataclass(owner):
                raise InputError(f"--config.{path}: {known} is a value, it has no fields")
            fields = {field.name: field.type for field in dataclasses.fields(owner)}
            if part not in fields:
                nearest = difflib.get_close_matches(part, fields, n=1, cutoff=0)[0]
                raise InputError(
                    f"--config.{path}: {known} has no field {part!r}; did you mean {nearest!r}? "
                    f"It has {', '.join(fields)}"
                )
            owner, known = fields[part], f"{known}.{part}"  # pyright: ignore[reportAssignmentType]


def _describe_settings() -> str:
    """The documentation of every section, for --help."""
    parts = []
    for field in dataclasses.fields(Experiment):
        kind = field.type
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            parts.append(f"config.{field.name}: {inspect.getdoc(kind)}")
    return "\n\n".join([*parts, "config.distill: the methods.", *_describe_methods()])


def _describe_methods() -> list[str]:
    """The documentation of every method of distillation, with its fields."""
    kinds = [kind for kind in vars(distill).values() if isinstance(kind, type)]
    methods = [kind for kind in kinds if issubclass(kind, Method) and kind is not Method]
    return [
        f"config.distill.{kind.__name__} ({_defaults(kind)}): {inspect.getdoc(kind)}"
        for kind in methods
    ]


def _defaults(kind: type[Method]) -> str:
    return ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(kind))


def entry() -> None:
    """Run `main` with errors of the user as one message and exit code 2."""
    runtime.quieten()
    cpu.tune()
    module = sys.modules["__main__"]
    module.__doc__ = f"{__doc__}\n{_describe_settings()}"
    try:
        app.run(main, flags_parser=parse_flags)
    except (InputError, flags.Error) as error:
        _fail(str(error), code=2)
    except preemption.Preempted as stopped:
        print(f"jaxmatte: {runtime.prefix()}{stopped}", file=sys.stderr)
        runtime.leave(_STOPPED_EXIT_CODE.value)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the last checkpoint", code=130)
    except Exception as error:
        _fail_unexpectedly(error)


def _fail_unexpectedly(error: Exception) -> None:
    """End the process for an error that is not the user's; alone, it is raised as it is."""
    notes = "".join(f". {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        _fail(
            f"the device ran out of memory ({crash.first_line(error)}); lower train.batch_size, "
            f"data.crop_px or train.attention_block, or set train.precision to bfloat16{notes}",
            code=3,
        )
    if not runtime.several():
        raise error
    if crash.is_lost_process(error):
        _fail(
            f"another process of the run was lost ({crash.first_line(error)}); its own log says "
            "why, if it could. The same command, given to all processes again, goes on from the "
            f"last checkpoint{notes}",
            code=4,
        )
    traceback.print_exception(error)
    _fail("this process ends, and with it the run", code=1)


def _fail(message: str, *, code: int) -> NoReturn:
    print(f"jaxmatte: error: {runtime.prefix()}{message}", file=sys.stderr)
    runtime.leave(code)


if __name__ == "__main__":
    entry()
