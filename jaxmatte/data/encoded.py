"""Encoded pictures as the graph sees them: which one, its bytes, and the window that is needed."""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxmatte.data.compiled import compiled
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.pictures import Pictures


class Cutout(NamedTuple):
    """A foreground of which only the needed window is decoded where its format allows that.

    Attributes:
        opacity: uint8 [h w], all of it: the window follows from where it is partly transparent.
        window: the function from begin and end, int32 [2] each, to uint8 [end - begin, 4],
            straight colours and alpha.
        words: the same row by row, a pixel in a word with red in its lowest bits and alpha in its
            highest: the function from begin and end to one that fills int32 [room] with them, and
            with zeros after them, from room, a Python int.
    """

    opacity: tf.Tensor
    window: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    words: Callable[[tf.Tensor, tf.Tensor], Callable[[int], tf.Tensor]]

    @property
    def size(self) -> tf.Tensor:
        """Height and width, int32 [2]."""
        return tf.shape(self.opacity)


class Contents:
    """Encoded pictures: bytes that the graph holds, or paths that it reads."""

    def __init__(self, contents: Sequence[str] | Sequence[bytes]) -> None:
        self._count = len(contents)
        self._values = tf.constant(list(contents), tf.string)
        self._are_paths = isinstance(contents[0], str)

    def __len__(self) -> int:
        return self._count

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """The bytes of one picture, a scalar string."""
        value = tf.gather(self._values, index)
        return tf.io.read_file(value) if self._are_paths else value


class Foregrounds:
    """Foregrounds of either kind: RGBA in one file, or colours and alpha in two."""

    def __init__(self, pictures: Pictures) -> None:
        self._colors = Contents(pictures.contents)
        self._alphas = None if pictures.alphas is None else Contents(pictures.alphas)

    def __len__(self) -> int:
        return len(self._colors)

    def open(self, index: tf.Tensor) -> Cutout:
        """Read one foreground; its colours are decoded when a window is asked for."""
        contents = self._colors.read(index)
        if self._alphas is None:
            return rgba_cutout(decode_foreground(contents))
        return pair_cutout(contents, decode_alpha(self._alphas.read(index)))


def decode_foreground(contents: tf.Tensor) -> tf.Tensor:
    """Decode PNG contents to uint8 [h w 4] with straight colours."""
    rgba = tf.io.decode_png(contents, channels=4)
    return tf.ensure_shape(rgba, [None, None, 4])


def decode_alpha(contents: tf.Tensor) -> tf.Tensor:
    """Decode a matte of any format that TensorFlow reads to uint8 [h w]."""
    grey = tf.io.decode_image(contents, channels=1, expand_animations=False)
    return tf.ensure_shape(grey, [None, None, 1])[..., 0]


def decode_window(
    contents: tf.Tensor, box: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
) -> tf.Tensor:
    """Decode a window of a photograph; of a JPEG the blocks outside are skipped.

    Args:
        contents: encoded JPEG, PNG, BMP or GIF.
        box: function from height and width, int32 [2], to begin and end of the window, likewise.

    Returns:
        uint8 [h w 3] of the window.
    """

    def decode_jpeg() -> tf.Tensor:
        begin, end = box(tf.io.extract_jpeg_shape(contents)[:2])
        return tf.io.decode_and_crop_jpeg(contents, tf.concat([begin, end - begin], 0), channels=3)

    def decode_other() -> tf.Tensor:
        pixels = tf.io.decode_image(contents, channels=3, expand_animations=False)
        begin, end = box(tf.shape(pixels)[:2])
        return pixels[begin[0] : end[0], begin[1] : end[1]]

    window = tf.cond(tf.io.is_jpeg(contents), decode_jpeg, decode_other)
    return tf.ensure_shape(window, [None, None, 3])


def rgba_cutout(rgba: tf.Tensor) -> Cutout:
    """A foreground that is decoded already, uint8 [h w 4]."""

    def window(begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        return rgba[begin[0] : end[0], begin[1] : end[1]]

    def words(begin: tf.Tensor, end: tf.Tensor) -> Callable[[int], tf.Tensor]:
        pixels = tf.reshape(tf.bitcast(window(begin, end), tf.int32), [-1])
        return lambda room: filled(pixels, room)

    return Cutout(rgba[..., 3], window, words)


def pair_cutout(contents: tf.Tensor, opacity: tf.Tensor) -> Cutout:
    """A foreground of encoded colours and decoded alpha, uint8 [h w], of the same size."""

    def parts(begin: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        colors = decode_window(contents, lambda size: (begin, end))
        return colors, opacity[begin[0] : end[0], begin[1] : end[1]]

    def window(begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        colors, alpha = parts(begin, end)
        return tf.concat([colors, alpha[..., None]], axis=-1)

    def words(begin: tf.Tensor, end: tf.Tensor) -> Callable[[int], tf.Tensor]:
        colors, alpha = (tf.reshape(part, [-1]) for part in parts(begin, end))
        return lambda room: _joined(filled(colors, 3 * room), filled(alpha, room))

    return Cutout(opacity, window, words)


@compiled
def _joined(colors: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Words of uint8 [3 n] and [n]; concatenation copies pixel by pixel, eight times slower."""
    levels = [*tf.unstack(tf.reshape(colors, [-1, 3]), axis=1), alpha]
    parts = [
        tf.bitwise.left_shift(tf.cast(level, tf.int32), 8 * place)
        for place, level in enumerate(levels)
    ]
    return functools.reduce(tf.bitwise.bitwise_or, parts)


def filled(values: tf.Tensor, room: int) -> tf.Tensor:
    """The values [n], and zeros after them up to [room]: what is compiled needs fixed shapes."""
    zeros = tf.zeros([room - tf.shape(values)[0]], values.dtype)
    return tf.ensure_shape(tf.concat([values, zeros], axis=0), [room])


def shuffled(index: tf.Tensor, count: int, *, seed: int) -> tf.Tensor:
    """Which of `count` pictures example `index` takes: each once an epoch, in a new order."""
    if count == 1:
        return tf.zeros([], tf.int64)
    key = tf.stack([tf.constant(seed, tf.int64), index // count])
    last = tf.constant(count - 1, tf.int64)
    return tf.random.experimental.index_shuffle(index % count, seed=key, max_index=last)
