"""What the weights of a stage start from where they are not all drawn.

Each kind has `identity`, what a checkpoint must have started from to be resumed, and `facts`, what
is kept with the model.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxmatte import trees
from jaxmatte.models import Spec
from jaxmatte.models.bundle import Bundle
from jaxmatte.models.released.imagenet import load_encoder

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EncoderWeights:
    """ImageNet weights that the encoder of a network starts from."""

    path: pathlib.Path
    spec: Spec
    digest: str

    def __call__(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        loaded, report = load_encoder(self.path, self.spec, variables)
        _LOG.info("%s: %s", self.path, report)
        return loaded

    @property
    def identity(self) -> Mapping[str, Any]:
        """The digest of the file."""
        return {"encoder_weights": self.digest}

    @property
    def facts(self) -> Mapping[str, str]:
        """The digest of the file."""
        return {"encoder_weights_sha256": self.digest}


@dataclasses.dataclass(frozen=True)
class ModelWeights:
    """All weights and statistics of a model of the same widths."""

    bundle: Bundle

    def __call__(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        stored = trees.flatten(self.bundle.variables)
        return trees.map_with_name(lambda name, _: jnp.asarray(stored[name]), variables)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The digest of the file."""
        return {"start": self.bundle.digest}

    @property
    def facts(self) -> Mapping[str, str]:
        """The digest of the file."""
        return {"start_sha256": self.bundle.digest}


@dataclasses.dataclass(frozen=True)
class EqualScales:
    """Drawn weights, but for scales that all start equal, so that training alone tells them apart.

    Attributes:
        paths: of the scales in the variables.
        value: where they start.
    """

    paths: tuple[str, ...]
    value: float

    def __call__(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        def start(name: str, leaf: Any) -> Any:
            return jnp.full_like(leaf, self.value) if name in self.paths else leaf

        return trees.map_with_name(start, variables)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The common value."""
        return {"initial_scale": self.value}

    @property
    def facts(self) -> Mapping[str, str]:
        """Nothing beyond the settings."""
        return {}


# Changes the drawn variables of a network before its first step.
Origin = EncoderWeights | ModelWeights | EqualScales
