"""Convert a folder of MNIST-style IDX files to an npz file that `npz:PATH` reads.

The folder has the files …-images-idx3-ubyte[.gz] and, if there are labels, …-labels-idx1-ubyte[.gz].

python examples/idx_to_npz.py /usr/share/datasets/fashion-mnist fashion_mnist.npz
"""

import gzip
import sys
from pathlib import Path

import numpy as np

STEMS = {"train": "train", "test": "t10k"}
"""Prefix of the file names, by split."""


def read_idx(folder: Path, stem: str) -> np.ndarray:
    """Read the uint8 array of an IDX file, compressed or not: (N, H, W) for images, (N,) for labels."""
    path = next(path for path in sorted(folder.iterdir()) if path.name.startswith(stem))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    ndim = data[3]
    shape = np.frombuffer(data, ">u4", count=ndim, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def main() -> None:
    folder, target = Path(sys.argv[1]), sys.argv[2]
    arrays = {split: read_idx(folder, f"{stem}-images") for split, stem in STEMS.items()}
    if any("-labels" in path.name for path in folder.iterdir()):
        arrays |= {
            f"{split}_label": read_idx(folder, f"{stem}-labels").astype("int32") for split, stem in STEMS.items()
        }
    np.savez_compressed(target, **arrays)
    print(f"wrote {target}: {', '.join(f'{name} {array.shape}' for name, array in arrays.items())}")


if __name__ == "__main__":
    main()
