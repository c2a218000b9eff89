"""The singular vectors that spectral normalisation divides by, exactly."""

import numpy as np
from jaxtyping import Float32

from jaxmatte.models.released.layout import is_transposed


def leading_singular(
    path: str, kernel: Float32[np.ndarray, "k k i o"]
) -> tuple[float, Float32[np.ndarray, " rows"], Float32[np.ndarray, " columns"]]:
    """Largest singular value of a kernel, and its left and right singular vectors.

    Args:
        path: our path of the kernel; it says which axis is the rows of the kernel's matrix, see
            `layers.spectral_kernel`.
        kernel: in our layout.

    Returns:
        The spectral norm sigma, and u and v with sigma = u'Wv, in the layout of the collection
        `spectral`.
    """
    rows = 2 if is_transposed(path) else 3
    matrix = np.moveaxis(kernel, rows, 0).reshape(kernel.shape[rows], -1).astype(np.float64)
    # The limit of power iteration. Squaring the matrix costs nothing at the largest value.
    left = np.linalg.eigh(matrix @ matrix.T)[1][:, -1]
    right = matrix.T @ left
    sigma = float(np.linalg.norm(right))
    if sigma == 0:
        # A kernel of zeros has no direction; any unit vector is one of its singular vectors.
        right[0] = 1
    else:
        right /= sigma
    return sigma, left.astype(np.float32), right.astype(np.float32)
