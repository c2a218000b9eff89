"""Writing a set as TensorFlow Datasets keeps sets, for `jaxmatte evaluate --dataset`."""

import contextlib
import dataclasses
import io
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmatte.data.builders.listing import Kind, Layout, Listing
from jaxmatte.data.builders.records import Reading
from jaxmatte.data.files import check_writable
from jaxmatte.matting import InputError

_FEW_EXAMPLES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """One purpose of a set, written.

    Attributes:
        name: what `open_prepared` takes: `name/config:version`.
        kind: what its pictures are for.
        folder: where its files lie.
        counts: split to its number of examples.
        fingerprints: split to the fingerprint that scores on it will carry; of `EVALUATION` only.
    """

    name: str
    kind: Kind
    folder: Path
    counts: Mapping[str, int]
    fingerprints: Mapping[str, str]


def prepare(
    layout: Layout, root: Path, data_dir: Path, reading: Reading | None = None
) -> list[Prepared]:
    """Write a set, all purposes of it that the folder holds pictures for.

    Each purpose is written to a temporary folder that gets its name once it is complete.

    Args:
        layout: how the set lies in `root`.
        root: the folder of the set.
        data_dir: where prepared sets lie.
        reading: how pictures are read; `Reading()` unless given.

    Raises:
        InputError: the folder is not a sound copy of the set, a file cannot be read, a set of that
            name is there already, or `data_dir` cannot be written.
    """
    reading = reading or Reading()
    reading.validate()
    listing = layout.find(root)
    _check(layout, root, listing)
    check_writable(data_dir)
    from jaxmatte.data.builders.tfds_builders import BUILDERS, WRITTEN

    kinds = [kind for kind in WRITTEN if listing.of(kind)]
    if not kinds:
        raise InputError(
            f"{root}: {layout.title} has no pictures with alpha there, and nothing can be written"
        )
    builder_class = next(each for each in BUILDERS if each.name == layout.name)
    configs = {config.name: config for config in builder_class.BUILDER_CONFIGS}
    builders = {}
    for kind in kinds:
        builder = builder_class(
            layout=layout, reading=reading, data_dir=data_dir, config=configs[kind.value]
        )
        if builder.data_path.exists():
            raise InputError(
                f"{builder.data_path}: is there already; remove it, or give another --data-dir"
            )
        builders[kind] = builder
    return [
        _write(builder, kind, root, count=len(listing.of(kind)))
        for kind, builder in builders.items()
    ]


def _check(layout: Layout, root: Path, listing: Listing) -> None:
    """Refuse a copy that lacks files: scores on part of a set must not look like scores on it."""
    faults = [finding for finding in listing.findings if not finding.note]
    if faults:
        more = f", and {len(faults) - 1} more faults" if len(faults) > 1 else ""
        raise InputError(
            f"{faults[0].path}: {faults[0].detail}{more}; "
            f"`jaxmatte data check {layout.name} --dir {shlex.quote(str(root))}` names all"
        )


def _write(builder: Any, kind: Kind, root: Path, *, count: int) -> Prepared:
    import tensorflow_datasets as tfds

    from jaxmatte.data.host_tensorflow import tf

    show = tfds.display_progress_bar
    show(enable=count >= _FEW_EXAMPLES)
    try:
        # It speaks of downloads, of which there are none.
        with tempfile.TemporaryDirectory() as downloads, contextlib.redirect_stdout(io.StringIO()):
            config = tfds.download.DownloadConfig(
                manual_dir=str(root), extract_dir=downloads, try_download_gcs=False
            )
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"{builder.data_path}: cannot be written ({error}); nothing was left there"
        ) from error
    finally:
        show(enable=True)
    return Prepared(
        name=f"{builder.name}/{kind.value}:{builder.version}",
        kind=kind,
        folder=Path(str(builder.data_path)),
        counts={name: int(split.num_examples) for name, split in builder.info.splits.items()},
        fingerprints=dict(builder.info.metadata["fingerprint"]),
    )
