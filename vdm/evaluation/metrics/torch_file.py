"""Convert a PyTorch file to safetensors, in any interpreter that has PyTorch, without importing this package.

    PYTHON -c "THIS TEXT" weights.pth weights.safetensors

Only tensors are unpickled. An error is the last line on stderr, with exit status `REFUSED`, or `NO_TORCH` if PyTorch
cannot be imported. Only floating-point tensors are kept, in float32.
"""

import json
import os
import sys
from pickle import UnpicklingError
from typing import Any, NoReturn

REFUSED, NO_TORCH = 3, 4


def main(source: str, out: str) -> None:
    """Read `source` and write `out`, or exit with an error status."""
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
        # A tensor with many numbers may be stored as a single one in the file.
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > os.path.getsize(source):
            refuse("declares more numbers than it holds")
        write({name: tensor.to(torch.float32).contiguous().numpy() for name, tensor in tensors.items()}, out)
    except UnpicklingError:
        refuse("is damaged, or holds objects other than tensors: those may run any code, and are not unpickled")
    except Exception as error:
        refuse(f"cannot be read by PyTorch: {(str(error).splitlines() or [type(error).__name__])[0]}")


def write(arrays: dict[str, Any], out: str) -> None:
    """Write float32 arrays as a safetensors file."""
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
    """Print the reason and end the program."""
    print(reason, file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
