"""What a compiled program sends between devices, read from its optimised HLO."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

# Kinds of collectives, in the names of HLO.
KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "collective-broadcast",
)

# An instruction: name, shape (of several arrays in brackets), operation, and what follows it. Long
# shapes hold comments that count their parts.
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]+[0-9]*)\w*\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_CALLED_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_OPERAND = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of a program.

    Attributes:
        kind: one of `KINDS`.
        bytes: what it carries for one device and one run of the program: the larger of what goes
            in and what comes out, so that a gathered array counts whole; times `repeats`.
        types: element types of what it carries, such as `f32`.
        repeats: how often a run of the program carries it out, by the loops around it.
        source: the operation of the traced program that it comes from; empty where unknown.
    """

    kind: str
    bytes: int
    types: tuple[str, ...]
    repeats: int
    source: str


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    rest: str


def read_collectives(text: str) -> tuple[Collective, ...]:
    """All collectives of a compiled program.

    Args:
        text: optimised HLO, as `compiled.as_text()` gives it.

    Raises:
        ValueError: a collective lies in a loop whose number of rounds the compiler does not know,
            or the text is no HLO module.
    """
    computations, entry = _computations(text)
    shapes = {each.name: each.shape for part in computations.values() for each in part}
    repeats = _repeats(computations, entry)
    return tuple(
        _collective(instruction, shapes, repeats[name])
        for name, instructions in computations.items()
        if name in repeats
        for instruction in instructions
        if _kind(instruction.operation)
    )


def bytes_by_kind(collectives: tuple[Collective, ...]) -> Mapping[str, int]:
    """Bytes of the collectives of each kind that occurs."""
    found = sorted({each.kind for each in collectives})
    return {kind: sum(each.bytes for each in collectives if each.kind == kind) for kind in found}


def array_bytes(shape: str) -> int:
    """Bytes of a shape of HLO, of an array or of several, such as `(f32[2,3]{1,0}, u8[])`."""
    return sum(
        math.ceil(math.prod(int(side) for side in sides.split(",") if side) * _bits(kind) / 8)
        for kind, sides in _ARRAY.findall(shape)
    )


def _bits(kind: str) -> int:
    """Width of an element type: `f32`, `bf16`, `u8`; a truth value takes a byte."""
    if kind == "pred":
        return 8
    digits = re.search(r"\d+", kind)
    return int(digits.group()) if digits else 0


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Instructions of each computation, and the name of that which is run."""
    found: dict[str, list[_Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = found.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append(_Instruction(*match.groups()))
    if not entry:
        raise ValueError("the text is no optimised HLO: it has no ENTRY computation")
    return found, entry


def _repeats(computations: Mapping[str, list[_Instruction]], entry: str) -> dict[str, int]:
    """How often each computation that is reached from the entry is carried out."""
    counts: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        counts[name] = counts.get(name, 0) + times
        for instruction in computations.get(name, ()):
            for called in _called(instruction):
                visit(called, times * _rounds(instruction, called, computations))

    visit(entry, 1)
    return counts


def _called(instruction: _Instruction) -> Iterator[str]:
    # The function that an all-reduce adds with is no part of the program's flow.
    if _kind(instruction.operation) or instruction.operation in ("reduce", "fusion", "scatter"):
        return
    yield from _CALLED.findall(instruction.rest)
    for branches in _CALLED_BRANCHES.findall(instruction.rest):
        yield from _OPERAND.findall(branches)


def _rounds(
    instruction: _Instruction, called: str, computations: Mapping[str, list[_Instruction]]
) -> int:
    if instruction.operation != "while":
        return 1
    if known := _TRIPS.search(instruction.rest):
        return int(known.group(1))
    if _has_collective(called, computations):
        raise ValueError(
            f"the loop {instruction.name} holds collectives, and how often it runs is not known"
        )
    return 1


def _has_collective(name: str, computations: Mapping[str, list[_Instruction]]) -> bool:
    return any(
        _kind(each.operation) or any(_has_collective(c, computations) for c in _called(each))
        for each in computations.get(name, ())
    )


def _kind(operation: str) -> str:
    """The kind of collective that an operation is, or starts; empty for all others."""
    kind = operation.removesuffix("-start")
    return kind if kind in KINDS else ""


def _collective(instruction: _Instruction, shapes: Mapping[str, str], repeats: int) -> Collective:
    operands = [shapes.get(name, "") for name in _OPERAND.findall(_arguments(instruction.rest))]
    taken = sum(array_bytes(shape) for shape in operands)
    given = array_bytes(instruction.shape)
    if instruction.operation.endswith("-start"):
        # What starts returns its operands beside the result.
        given = given if instruction.operation == "all-reduce-start" else given - taken
    types = {kind for shape in operands for kind, _ in _ARRAY.findall(shape)}
    source = re.search(r'op_name="([^"]*)"', instruction.rest)
    return Collective(
        kind=_kind(instruction.operation),
        bytes=repeats * max(taken, given),
        types=tuple(sorted(types)),
        repeats=repeats,
        source=source.group(1) if source else "",
    )


def _arguments(rest: str) -> str:
    """What stands within the brackets of an operation."""
    depth = 1
    for position, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return rest[:position]
    return rest
