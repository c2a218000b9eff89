"""TensorFlow for the input pipeline: on the host, quiet. Importing it takes some eight seconds."""

import os

# Both are read once, when TensorFlow is first imported. oneDNN speeds up convolutions only, of
# which the pipeline has none, and announces itself on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf


def _keep_off_accelerators() -> None:
    """JAX owns the accelerators; TensorFlow would reserve all of their memory."""
    try:
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
    except RuntimeError as error:
        if tf.config.get_visible_devices("GPU"):
            raise RuntimeError(
                "TensorFlow was started with GPUs before jaxmatte.data could keep it off them; "
                'call tf.config.set_visible_devices([], "GPU") right after importing TensorFlow'
            ) from error


_keep_off_accelerators()

__all__ = ["tf"]
