"""Whose definition a score follows: the names, and what each of them means.

Five codebases compute four numbers of the same names in five ways. `docs/metrics.md` tells them
apart in a table; `metrics.measure` computes all of them.
"""

from typing import NamedTuple

from jaxmatte.matting import InputError

PROTOCOLS: tuple[str, ...] = ("adobe", "gca", "indexnet", "dcp", "whole-image")


class _Words(NamedTuple):
    rounding: str
    description: str


def rounding(protocol: str) -> str:
    """How a predicted alpha of floating point becomes the numbers that are scored, in one phrase.

    Args:
        protocol: one of `PROTOCOLS`.

    Raises:
        InputError: there is no such protocol.
    """
    return _words(protocol).rounding


def describe(protocol: str) -> str:
    """Whose definition a protocol is, in what region and in what units, in one line.

    Args:
        protocol: one of `PROTOCOLS`.

    Raises:
        InputError: there is no such protocol.
    """
    return _words(protocol).description


def _words(protocol: str) -> _Words:
    nearest = "nearest of 256 levels, ties to even"
    match protocol:
        case "adobe":
            return _Words(
                nearest,
                "the evaluation code of Deep Image Matting (Adobe), the unknown region, "
                "SAD, Grad and Conn in thousands",
            )
        case "gca":
            return _Words(
                "truncated to 256 levels",
                "the Python evaluation of GCA-Matting, the unknown region, "
                "SAD, Grad and Conn in thousands; background may count as the connected region",
            )
        case "indexnet":
            return _Words(
                "not rounded, single precision",
                "the evaluation of IndexNet Matting, the unknown region of mattes stretched to "
                "[0, 1], SAD and Conn in thousands, Grad in tens of another filter",
            )
        case "dcp":
            return _Words(
                "not rounded, single precision",
                "the evaluation of DCP and SPKD, SAD and MSE with errors of known regions, SAD and "
                "Conn in thousands, Grad in tens of another filter",
            )
        case "whole-image":
            return _Words(
                nearest,
                "the definitions of adobe over all pixels, whatever the trimap, "
                "SAD, Grad and Conn in thousands",
            )
    raise InputError(f"protocol: there is no {protocol!r}; there are {', '.join(PROTOCOLS)}")
