"""jaxmatte makes matting networks small and keeps their quality.

`jaxmatte.load(path)` opens a trained model; its `predict(image, trimap)` takes and gives NumPy
arrays. Importing the package imports neither JAX nor TensorFlow: both cost seconds, and the
command line answers `--help` without them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmatte.evaluate.predict import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from jaxmatte.evaluate.predict import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
