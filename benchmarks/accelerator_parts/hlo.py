"""The kernels of a compiled program: what each one is, the bytes that it moves and the FLOPs that it does.

They are read from the program's text (`compiled.as_text()`), for a GPU or a CPU; no device is needed.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
"""Bytes per element by type; 8 for all others."""

NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"}
COPIES = {"parameter", "constant", "copy", "transpose", "bitcast", "reshape", "slice", "concatenate", "broadcast"}
COPIES |= {"pad", "convert", "tuple", "fusion", "call"}

_LINE = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")


class Array(NamedTuple):
    """An array of the program."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return SIZES.get(self.dtype, 8) * math.prod(self.shape)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    results: list[Array]
    opcode: str
    rest: str
    """The text after the opening bracket: operands, attributes and metadata."""

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.split(")", 1)[0])


class Kernel(NamedTuple):
    """The work of one launch."""

    name: str
    """Name of its instruction, which traces refer to (`hlo_op`)."""
    kind: str
    """One of convolution, product, random bits, reduction, elementwise and copy."""
    place: str
    """The layer that it belongs to, as in `backward up/conv_0`; empty if unknown."""
    num_bytes: int
    """Bytes of operands and results, each counted once."""
    flops: int
    """FLOPs of its convolution or product, where a multiply-add counts as two."""
    launches: int = 1
    """Number of launches in one run of the program, which is more than 1 inside a loop."""

    def floor(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Return the minimum time in seconds."""
        return max(self.flops / flops_per_second, self.num_bytes / bytes_per_second)


def kernels(text: str) -> list[Kernel]:
    """Return the kernels of a program in order, including those in loops."""
    computations = dict(_computations(text))
    return list(_kernels(computations["ENTRY"], computations, 1))


def _kernels(
    instructions: list[Instruction], computations: dict[str, list[Instruction]], rounds: int
) -> Iterator[Kernel]:
    arrays = {each.name: each.results for each in instructions}
    for each in instructions:
        if each.opcode == "get-tuple-element" and (index := re.search(r"index=(\d+)", each.rest)):
            of = arrays.get(each.operands[0], [])
            arrays[each.name] = of[int(index[1]) :][:1]
        elif each.opcode == "while" and (body := re.search(r"body=%([\w.\-]+)", each.rest)):
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', each.rest)
            yield from _kernels(computations[body[1]], computations, rounds * int(trips[1] if trips else 1))
        elif each.opcode not in NO_KERNEL:
            yield _kernel(each, arrays, computations)._replace(launches=rounds)


def _computations(text: str) -> Iterator[tuple[str, list[Instruction]]]:
    name: str = ""
    body: list[Instruction] = []
    for line in text.splitlines():
        if line[:1] in ("%", "E") and line.endswith("{"):
            name, body = "ENTRY" if line.startswith("ENTRY") else line[1:].split(" ", 1)[0], []
        elif line == "}" and name:
            yield name, body
            name = ""
        elif name and (match := _LINE.match(line)):
            body.append(Instruction(match[1], _arrays(match[2]), match[3], match[4]))


def _arrays(text: str) -> list[Array]:
    found = _SHAPE.findall(text)
    return [Array(dtype, tuple(int(n) for n in sizes.split(",") if n)) for dtype, sizes in found]


def _kernel(each: Instruction, arrays: dict[str, list[Array]], computations: dict[str, list[Instruction]]) -> Kernel:
    called = re.search(r"(?:calls|to_apply)=%([\w.\-]+)", each.rest)
    inside = computations.get(called[1], []) if called else []
    inputs = [array for name in each.operands for array in arrays.get(name, [])]
    op_name = re.search(r'op_name="([^"]*)"', each.rest)
    return Kernel(
        each.name,
        _kind(each, inside),
        place(op_name[1]) if op_name else "",
        sum(array.num_bytes for array in inputs + each.results),
        _flops(each, inputs) + sum(_flops_inside(inside)),
    )


def _kind(each: Instruction, inside: list[Instruction]) -> str:
    opcodes = {other.opcode for other in inside} | {each.opcode}
    if "convolution" in opcodes or "__cudnn$conv" in each.rest:
        return "convolution"
    if "dot" in opcodes or "__cublas" in each.rest or "__cudnn$fmha" in each.rest or "matmul" in each.rest:
        return "product"
    if "rng-bit-generator" in opcodes or {"xor", "shift-right-logical"} <= opcodes:
        return "random bits"
    if {"reduce", "reduce-window"} & opcodes:
        return "reduction"
    return "copy" if opcodes <= COPIES else "elementwise"


def place(op_name: str) -> str:
    """Name a layer by the path that JAX gives to an operation, without the numbers of blocks.

    >>> place("jit(train_step)/transpose(jvp(UNet))/up_12/conv_0/conv_general_dilated")
    'backward up/conv_0'
    """
    before, network, path = op_name.partition("UNet")
    if not network:
        return "/".join(part for part in op_name.split("/")[1:] if not part.startswith("while"))[:40]
    names = [re.sub(r"^(down|up|middle|Dropout)_\d+$", r"\1", part) for part in path.lstrip(")/").split("/")[:-1]]
    names = [name for name in names if "(" not in name][:2]
    return ("backward " if "transpose(" in before else "") + "/".join(names or ["between blocks"])


def _flops(each: Instruction, inputs: list[Array]) -> int:
    """Return the FLOPs of a convolution or product that is an instruction of its own."""
    if each.opcode == "dot":
        return _dot(each, inputs, r"lhs_contracting_dims=\{([\d,]*)\}")
    if "__cublas" in each.rest and each.opcode == "custom-call":
        return _dot(each, inputs, r'"lhs_contracting_dimensions":\[([\d",]*)\]')
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.rest)
    if not labels or len(inputs) < 2:
        return 0
    # With stride 1 and padded borders there are as many outputs as inputs, and each meets every element of the filter.
    filters = each.results[0] if "BackwardFilter" in each.rest else inputs[1]
    positions = math.prod(n for n, label in zip(inputs[0].shape, labels[1], strict=True) if label != "f")
    if each.opcode == "convolution":
        # On a CPU, gradients are plain convolutions with permuted axes.
        features = filters.shape[labels[2].index("o")]
        return 2 * math.prod(each.results[0].shape) * math.prod(filters.shape) // features
    return 2 * positions * math.prod(filters.shape)


def _dot(each: Instruction, inputs: list[Array], pattern: str) -> int:
    axes = re.search(pattern, each.rest)
    if not axes or not inputs:
        return 0
    contracted = math.prod(inputs[0].shape[int(axis)] for axis in axes[1].replace('"', "").split(",") if axis)
    return 2 * math.prod(each.results[0].shape) * contracted


def _flops_inside(inside: list[Instruction]) -> Iterator[int]:
    arrays = {each.name: each.results for each in inside}
    for each in inside:
        if each.opcode in ("dot", "convolution"):
            yield _flops(each, [array for name in each.operands for array in arrays.get(name, [])])
