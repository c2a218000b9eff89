"""Weights of the released PyTorch codes: their names, layouts and files, to ours and back."""

from jaxmatte.models.released.layout import (
    from_released,
    is_transposed,
    released_from_variables,
    to_released,
    variables_from_released,
)
from jaxmatte.models.released.names import our_path, released_name

__all__ = [
    "from_released",
    "is_transposed",
    "our_path",
    "released_from_variables",
    "released_name",
    "to_released",
    "variables_from_released",
]
