"""The sets as builders of TensorFlow Datasets; importing this starts TensorFlow.

Each set has a configuration for each purpose: `evaluation` (image, trimap, alpha), `training`
(foreground, alpha) and `background` (image). Nothing is downloaded: the files lie in the manual
folder. The examples keep the set's order.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jaxmatte.data.host_tensorflow  # noqa: F401  isort: skip  (starts TensorFlow in our way first)
import tensorflow_datasets as tfds
from etils import epath

from jaxmatte.data.builders.aim_500 import Aim500
from jaxmatte.data.builders.alphamatting import Alphamatting
from jaxmatte.data.builders.backgrounds import Backgrounds
from jaxmatte.data.builders.composition_1k import Composition1k
from jaxmatte.data.builders.distinctions_646 import Distinctions646
from jaxmatte.data.builders.folder import Folder
from jaxmatte.data.builders.listing import Entry, Kind, Layout
from jaxmatte.data.builders.ppm_100 import Ppm100
from jaxmatte.data.builders.records import Reading, read_foreground, read_scored
from jaxmatte.data.builders.tuxpaint_stamps import TuxpaintStamps
from jaxmatte.data.examples import (
    Example,
    digest,
    fingerprint_of_digests,
    photograph_digest,
)
from jaxmatte.data.images import read_image

Record = Mapping[str, Any]

# The kinds that are written. Pictures whose alpha nobody knows can be predicted from their folder.
WRITTEN = (Kind.EVALUATION, Kind.TRAINING, Kind.BACKGROUND)

_VERSION = "1.0.0"


def _configs(*kinds: Kind) -> list[tfds.core.BuilderConfig]:
    return [tfds.core.BuilderConfig(name=kind.value, version=_VERSION) for kind in kinds]


class _LocalInfo(tfds.core.DatasetInfo):
    """What is known of a set without asking a server."""

    def initialize_from_bucket(self) -> None:
        """Do not search for public sets, which would leave a temporary folder behind."""


class MattingBuilder(tfds.core.GeneratorBasedBuilder):
    """A set of which the layout says where the files are.

    Attributes:
        layout: how the set lies in the manual folder.
        reading: how its pictures are read.
    """

    VERSION = tfds.core.Version(_VERSION)
    # TensorFlow Datasets would look for the module's folder by means of a package that it does not
    # install, to find lists of checksums and metadata, of which the sets have none.
    code_path: ClassVar = None
    pkg_dir_path: ClassVar = epath.Path(__file__).parent

    layout: Layout
    reading: Reading = Reading()

    def __init__(
        self, *, layout: Layout | None = None, reading: Reading | None = None, **options: Any
    ) -> None:
        # Before anything asks for `info`, which states how pictures are read.
        self.layout = layout or self.layout
        self.reading = reading or self.reading
        super().__init__(**options)

    @property
    def _kind(self) -> Kind:
        assert self.builder_config is not None
        return Kind(self.builder_config.name)

    def _info(self) -> tfds.core.DatasetInfo:
        stated = {
            "title": self.layout.title,
            "licence": self.layout.licence,
            "fingerprint": {},
            "photographs": {},
        }
        if self._kind is Kind.EVALUATION:
            stated["trimaps"] = {
                "seed": self.reading.seed,
                "radius_px": list(self.reading.radius_px),
                "tolerant": self.reading.tolerant,
                "applies_to": "pictures whose trimap_origin says that it was drawn",
            }
        return _LocalInfo(
            builder=self,
            description=f"{self.layout.title}. Licence: {self.layout.licence}.",
            homepage=self.layout.where,
            features=tfds.features.FeaturesDict(_features(self._kind)),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(stated),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, Record]]]:
        entries = self.layout.find(Path(str(dl_manager.manual_dir))).of(self._kind)
        splits: dict[str, list[Entry]] = {}
        for entry in entries:
            splits.setdefault(entry.split, []).append(entry)
        return {name: self._generate_examples(part, name) for name, part in splits.items()}

    def _generate_examples(
        self, entries: Sequence[Entry], split: str
    ) -> Iterator[tuple[int, Record]]:
        targets, photographs = [], []
        for index, entry in enumerate(entries):
            record, example = _record(entry, self.reading)
            if example is not None:
                targets.append(digest(example.name, example.trimap, example.alpha))
                photographs.append(photograph_digest(example.name, example.image))
            yield index, record
        if targets:
            assert isinstance(self.info.metadata, dict)
            self.info.metadata["fingerprint"][split] = fingerprint_of_digests(targets)
            self.info.metadata["photographs"][split] = fingerprint_of_digests(photographs)


def _features(kind: Kind) -> dict[str, Any]:
    color = tfds.features.Image(shape=(None, None, 3))
    grey = tfds.features.Image(shape=(None, None, 1))
    text = tfds.features.Text()
    match kind:
        case Kind.EVALUATION:
            named = {"image": color, "trimap": grey, "alpha": grey, "trimap_origin": text}
        case Kind.TRAINING:
            named = {"foreground": color, "alpha": grey}
        case _:
            named = {"image": color}
    return named | {"name": text}


def _record(entry: Entry, reading: Reading) -> tuple[Record, Example | None]:
    """What is written of a picture; and the example, of one to score on."""
    match entry.kind:
        case Kind.EVALUATION:
            picture = read_scored(entry, reading)
            example = picture.example
            record = {
                "image": example.image,
                "trimap": example.trimap[..., None],
                "alpha": (example.alpha * 255).round().astype("uint8")[..., None],
                "trimap_origin": picture.trimap_origin,
                "name": entry.name,
            }
            return record, example
        case Kind.TRAINING:
            colors, alpha = read_foreground(entry)
            record = {"foreground": colors, "alpha": alpha[..., None], "name": entry.name}
            return record, None
        case _:
            assert entry.image is not None
            return {"image": read_image(entry.image), "name": entry.name}, None


def _instructions(layout: Layout) -> str:
    return f"{layout.title} {layout.licence}.\n{layout.where}\nExpected:\n{layout.describe()}"


class Composition1kBuilder(MattingBuilder):
    """See `Composition1k`."""

    name = Composition1k.name
    layout = Composition1k()
    BUILDER_CONFIGS = _configs(*WRITTEN)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class Distinctions646Builder(MattingBuilder):
    """See `Distinctions646`."""

    name = Distinctions646.name
    layout = Distinctions646()
    BUILDER_CONFIGS = _configs(Kind.EVALUATION, Kind.TRAINING)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class Aim500Builder(MattingBuilder):
    """See `Aim500`."""

    name = Aim500.name
    layout = Aim500()
    BUILDER_CONFIGS = _configs(Kind.EVALUATION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class Ppm100Builder(MattingBuilder):
    """See `Ppm100`."""

    name = Ppm100.name
    layout = Ppm100()
    BUILDER_CONFIGS = _configs(Kind.EVALUATION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class AlphamattingBuilder(MattingBuilder):
    """See `Alphamatting`."""

    name = Alphamatting.name
    layout = Alphamatting()
    BUILDER_CONFIGS = _configs(Kind.EVALUATION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class TuxpaintStampsBuilder(MattingBuilder):
    """See `TuxpaintStamps`."""

    name = TuxpaintStamps.name
    layout = TuxpaintStamps()
    BUILDER_CONFIGS = _configs(Kind.TRAINING, Kind.BACKGROUND)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class BackgroundsBuilder(MattingBuilder):
    """See `Backgrounds`."""

    name = Backgrounds.name
    layout = Backgrounds()
    BUILDER_CONFIGS = _configs(Kind.BACKGROUND)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


class FolderBuilder(MattingBuilder):
    """See `Folder`."""

    name = Folder.name
    layout = Folder()
    BUILDER_CONFIGS = _configs(*WRITTEN)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(layout)


BUILDERS = (
    Composition1kBuilder,
    Distinctions646Builder,
    Aim500Builder,
    Ppm100Builder,
    AlphamattingBuilder,
    TuxpaintStampsBuilder,
    BackgroundsBuilder,
    FolderBuilder,
)
