"""The commands that measure, draw and serve training data.

TensorFlow, JAX and all that builds on them are imported inside the commands, so that help and usage
errors come at once.
"""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

_CONFIG_HELP = "File of settings, such as configs/gcam_spkd.py; FILE:paper is the published size."
# Overrides look like options and are taken as arguments.
_OVERRIDES = {"ignore_unknown_options": True}

Config = Annotated[str, typer.Argument(metavar="CONFIG", help=_CONFIG_HELP)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="--config.data.FIELD=VALUE", help="Settings to change.", show_default=False
    ),
]
DataRoot = Annotated[
    str,
    typer.Option(help="Folder of pictures, in place of the data that the settings name."),
]
Chain = Annotated[
    str, typer.Option(help="Augmentation: crops, gca or dim; else what the settings say.")
]


def register(app: typer.Typer) -> None:
    """Add the commands `bench`, `show` and `serve` to the application `data`."""
    example = "Example: jaxmatte data bench configs/gcam_spkd.py --config.data.crop_px=256"
    app.command("bench", epilog=example, context_settings=_OVERRIDES)(bench)
    example = "Example: jaxmatte data show configs/gcam_spkd.py --output sheet.png --chain gca"
    app.command("show", epilog=example, context_settings=_OVERRIDES)(show)
    example = (
        "Example: jaxmatte data serve --port 5050, and on other machines "
        "jaxmatte data serve --port 0 --dispatcher HOST:5050"
    )
    app.command("serve", epilog=example)(serve)


def bench(
    config: Config,
    settings: Overrides = None,
    data_root: DataRoot = "",
    crop: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of the crops; else of the settings.")
    ] = None,
    chain: Chain = "",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Examples in a batch; else of the settings.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 10.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the pipeline; else of the settings.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how fast training crops are composited, and where the time goes.

    Settings are overridden as in training, after CONFIG. CPU-seconds are those of all threads of
    this process. Stages are measured one by one after the whole, each in a graph that holds it and
    what it needs. With --config.data.service=grpc://HOST:PORT it is measured what receiving batches
    costs this process, and no stages.
    """
    overrides = list(settings or [])
    overrides += [] if crop is None else [f"--config.data.crop_px={crop}"]
    experiment, source = _open(config, overrides, data_root=data_root, chain=chain)
    from tqdm import tqdm

    from jaxmatte.data.bench import measure
    from jaxmatte.data.sources import CompositeSource
    from jaxmatte.matting import InputError

    if not isinstance(source, CompositeSource):
        raise InputError(
            f"{source.name} holds ready crops: nothing is composited; give --data-root DIR"
        )
    data, examples = experiment.data, batch or experiment.train.batch_size
    # Stages take another `seconds` together.
    total = seconds if data.service else 2 * seconds
    with tqdm(total=total, unit="s", desc="compositing", bar_format=_BAR, mininterval=0.5) as bar:
        found = measure(
            source,
            data,
            seed=experiment.seed,
            batch_size=examples,
            seconds=seconds,
            threads=threads,
            progress=lambda passed: bar.update(min(passed, total - bar.n)),
        )
    facts = {
        "data": source.describe(),
        "chain": data.chain,
        "crop_px": data.crop_px,
        "batch": examples,
        "threads": threads or data.workers,
    }
    if as_json:
        typer.echo(json.dumps(facts | found.to_json(), indent=2))
        return
    typer.echo(f"{source.describe()}; chain {data.chain}, {data.crop_px} px, batches of {examples}")
    typer.echo(found.describe())


_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s"


def show(
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")],
    settings: Overrides = None,
    rows: Annotated[int, typer.Option(min=1, max=200, help="How many examples.")] = 4,
    step: Annotated[int, typer.Option(min=0, help="Of the training step.")] = 0,
    data_root: DataRoot = "",
    chain: Chain = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Else of the settings.")] = None,
) -> None:
    """Draw examples as training sees them: image, trimap, alpha, and the foreground cut out.

    They are the first ones of a step's batch, with a caption that says their index in the sequence
    of all examples and how much of them is unknown. Settings are overridden as in training, after
    CONFIG.
    """
    from jaxmatte.matting import InputError

    if output.suffix.lower() != ".png":
        raise InputError(f"--output {output}: the sheet is a PNG file; give a name ending in .png")
    overrides = list(settings or []) + ([] if seed is None else [f"--config.seed={seed}"])
    experiment, source = _open(config, overrides, data_root=data_root, chain=chain)
    from jaxmatte.data.files import write_atomically
    from jaxmatte.data.sheet import draw_sheet, training_examples

    first = step * experiment.train.batch_size
    examples = training_examples(
        source, experiment.data, seed=experiment.seed, first=first, count=rows
    )
    captions = [f"example {first + place}" for place in range(rows)]
    write_atomically(output, draw_sheet(examples, captions))
    typer.echo(f"{output}: {rows} examples of {source.describe()}")


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 takes a free one.")],
    dispatcher: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Work for this dispatcher, rather than be one."),
    ] = "",
    host: Annotated[
        str, typer.Option(help="Name or address by which other machines reach this one.")
    ] = "",
) -> None:
    """Composite training data for trainers on other machines: a dispatcher, or one of its workers.

    Start one dispatcher and as many workers as you like; workers may come and go while a trainer
    runs. A worker reads the pictures itself, under the path that the trainer was given. Whoever
    reaches the ports can run TensorFlow graphs there, which read and write files: use them inside
    a network that you trust.
    """
    import socket

    from jaxmatte.data import service

    if dispatcher:
        near = service.parse_address(dispatcher)[0] in ("localhost", "127.0.0.1", "::1")
        host = host or ("localhost" if near else socket.gethostname())
        server = service.start_worker(port, host=host, dispatcher=dispatcher)
        typer.echo(f"a worker of {dispatcher}, which trainers reach at {host}")
    else:
        server = service.start_dispatcher(port)
        address = f"{host or socket.gethostname()}:{server.target.rpartition(':')[2]}"
        typer.echo(
            f"a dispatcher at {address}\n"
            f"  workers:  jaxmatte data serve --port 0 --dispatcher {address}\n"
            f"  training: --config.data.service=grpc://{address}"
        )
    sys.stdout.flush()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # In short waits, so that a signal is heard on every system.
    while not stop.wait(0.5):
        pass
    server.stop()


def _open(config: str, overrides: list[str], *, data_root: str, chain: str) -> tuple[Any, Any]:
    """The validated experiment and its opened source."""
    from jaxmatte.data.sources import open_source
    from jaxmatte.matting import InputError

    strange = [part for part in overrides if not part.startswith("--config.")]
    if strange:
        raise InputError(
            f"{strange[0]!r} is no option of this command; settings are --config.data.FIELD=VALUE"
        )
    if data_root:
        overrides += ["--config.data.source=folder", f"--config.data.root={data_root}"]
    overrides += [f"--config.data.chain={chain}"] if chain else []
    experiment = read_experiment(config, overrides)
    experiment.validate()
    return experiment, open_source(experiment.data, seed=experiment.seed)


def read_experiment(config: str, overrides: list[str]) -> Any:
    """Call `get_config()` of a file of settings and apply overrides.

    Args:
        config: path of the file, with `:VARIANT` behind it for another size.
        overrides: each `--config.SECTION.FIELD=VALUE`.

    Raises:
        InputError: there is no such file or setting, or a value is of another kind.
    """
    from absl import flags
    from ml_collections import config_flags

    from jaxmatte.main import check_settings
    from jaxmatte.matting import InputError
    from jaxmatte.train.config import Experiment

    if not Path(config.partition(":")[0]).is_file():
        raise InputError(f"{config}: there is no such file of settings; try configs/gcam_spkd.py")
    check_settings(overrides)
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    arguments, given = ["jaxmatte", f"--config={config}", *overrides], sys.argv
    # config_flags looks for overrides there itself.
    sys.argv = arguments
    try:
        values(arguments)
        experiment = holder.value
    except flags.Error as error:
        # An input error inside get_config comes wrapped in the traceback of the config file.
        _, found, message = str(error).partition(f"{InputError.__module__}.{InputError.__name__}: ")
        raise InputError(message.strip() if found else str(error)) from error
    finally:
        sys.argv = given
    if not isinstance(experiment, Experiment):
        raise InputError(f"{config}: its get_config() returned no Experiment")
    return experiment
