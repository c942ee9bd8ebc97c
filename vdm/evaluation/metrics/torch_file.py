"""A file of PyTorch's as a safetensors file: run by any interpreter that has PyTorch, by itself, without this package.

    PYTHON -c "THIS TEXT" weights.pth weights.safetensors

Nothing but tensors is unpickled. What is wrong is the last line on stderr, with exit status `REFUSED`; `NO_TORCH` is
the status where PyTorch cannot be imported. Only tensors of floating-point numbers are kept, in float32.
"""

import json
import os
import sys
from pickle import UnpicklingError
from typing import Any, NoReturn

REFUSED, NO_TORCH = 3, 4


def main(source: str, out: str) -> None:
    """Reads `source` and writes `out`, or exits with a status."""
    try:
        import torch
    except ImportError as error:
        refuse(f"cannot import PyTorch: {error}", NO_TORCH)
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            refuse(f"holds a {type(state).__name__}; must be a dict of tensors")
        tensors = {str(name): value for name, value in state.items() if torch.is_tensor(value)}
        tensors = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
        # A tensor of many numbers may be made of one in the file.
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > os.path.getsize(source):
            refuse("declares more numbers than it holds")
        write({name: tensor.to(torch.float32).contiguous().numpy() for name, tensor in tensors.items()}, out)
    except UnpicklingError:
        refuse("is damaged, or holds other objects than tensors: those may run any code, and are not unpickled")
    except Exception as error:
        refuse(f"cannot be read by PyTorch: {(str(error).splitlines() or [type(error).__name__])[0]}")


def write(arrays: dict[str, Any], out: str) -> None:
    """Arrays of float32 as a safetensors file."""
    header, end = {}, 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(out, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.tobytes())


def refuse(reason: str, status: int = REFUSED) -> NoReturn:
    """Ends the program."""
    print(reason, file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
