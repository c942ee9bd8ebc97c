"""Describe a file made by vdm compress, without decoding it.

vdm codec-info digits.vdm

It prints the header, the bits/dim with every byte counted, and the size of each chunk and whether it is intact. Only
vdm decompress can tell whether the images come out as they were.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vdm.codec.container import Container, Damaged
from vdm.errors import InputError
from vdm.programs.arguments import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the description; bad input, or a damaged chunk after the table, is one line on stderr and exit status 2."""
    parser = Parser("vdm codec-info", __doc__)
    parser.add_argument("file", type=Path, help="a file made by vdm compress")
    given = parser.parse_args(argv)
    with parser.one_line():
        file = Container.of_path(given.file)
        said = described(file)
        width = max(map(len, said))
        for name, value in said.items():
            print(f"{name:<{width}}  {value}")
        damaged = 0
        for number, size, problem in chunks(file):
            numbers = file.header.numbers(number)
            damaged += bool(problem)
            print(f"chunk {number}: images {numbers[0]} to {numbers[-1]}, {size} bytes, {problem or 'intact'}")
        if damaged:
            raise InputError(f"{file.where}: {damaged} of {file.header.num_chunks} chunks are damaged")


def described(file: Container) -> dict[str, Any]:
    """Return what the header says, the file's size and its rate, by name."""
    header = file.header
    made_on = ", ".join(f"{name} {value}" for name, value in header.to_dict()["made_on"].items())
    names = "kept" if header.names else "none: by number"
    whole = file.front_size + sum(entry.size for entry in file.entries)
    cut = f" of {whole}: cut off" if file.size < whole else ""
    return {
        "images": f"{header.images} of shape {'×'.join(map(str, header.shape))}, {header.levels} levels",
        "source": header.note or "images given",
        "names": names,
        "labels": f"{header.classes} classes" if header.classes else "none",
        "model": f"{header.model}, step {header.step} of {header.run or 'no run'}",
        "coder": (
            f"T={header.T}, batches of {header.batch_size}, {header.bins:g} bins of z per σ, means rounded to "
            f"1/{header.mean_steps} of a bin, probabilities to 2^-{header.parts_bits}"
        ),
        "made on": made_on,
        "size": f"{file.size} bytes{cut}, {file.front_size} of header and index",
        "rate": f"{8 * whole / (header.images * header.num_dims):.4f} bits/dim, every byte counted",
    }


def chunks(file: Container) -> Iterator[tuple[int, int, str]]:
    """Yield (number, size in bytes, what is wrong with it or "") for each chunk."""
    for number, entry in enumerate(file.entries):
        problem = ""
        try:
            file.payload(number)
        except Damaged as error:
            problem = str(error).rpartition("): ")[2]
        yield number, entry.size, problem
