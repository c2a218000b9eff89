"""Which picture it was: TensorFlow's decoders say that one is damaged, but not its name."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from jaxmatte.data.pictures import Pictures
from jaxmatte.data.sources import CompositeSource
from jaxmatte.matting import InputError


def damaged_pictures(source: CompositeSource) -> list[str]:
    """Names of the training pictures that cannot be read or decoded now, each with the reason.

    Every training picture is decoded: a step that has failed is worth the time of an epoch.
    """
    pictures = [
        *_entries("foreground", source.foregrounds["train"]),
        *_entries("background", source.backgrounds["train"]),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(lambda entry: _fault(*entry), pictures)
        return [reason for reason in reasons if reason is not None]


def explain_failure(source: CompositeSource, message: str) -> str:
    """Say in one sentence which pictures a failed step of training could not use.

    Args:
        source: what the step was composited from.
        message: what TensorFlow said.
    """
    damaged = damaged_pictures(source)
    begin = f"{source.name}: a picture can no longer be read or decoded"
    if not damaged:
        return f"{begin}, though all can be now (a fault of the disk or the network?): {message}"
    more = f"; and {len(damaged) - 10} more" if len(damaged) > 10 else ""
    return f"{begin}; it was fine when the data was opened: {'; '.join(damaged[:10])}{more}"


def _entries(purpose: str, pictures: Pictures) -> Iterator[tuple[str, Pictures, int]]:
    for index in range(len(pictures)):
        yield purpose, pictures, index


def _fault(purpose: str, pictures: Pictures, index: int) -> str | None:
    """The operations of training, one picture at a time."""
    from jaxmatte.data.encoded import decode_alpha, decode_foreground
    from jaxmatte.data.host_tensorflow import tf

    name = f"{purpose}/{pictures.names[index]}"
    stored = pictures.contents[index]
    name = name if isinstance(stored, bytes) else stored
    try:
        contents, matte = pictures.read(index), pictures.read_alpha(index)
        if purpose == "foreground" and matte is None:
            decode_foreground(tf.constant(contents))
            return None
        tf.io.decode_image(contents, channels=3, expand_animations=False)
        if matte is not None:
            assert pictures.alphas is not None
            alpha = pictures.alphas[index]
            name = f"the alpha of {name}" if isinstance(alpha, bytes) else alpha
            decode_alpha(tf.constant(matte))
    except InputError as error:
        return str(error)
    except tf.errors.OpError:
        return f"{name}: it is damaged or truncated"
    return None
