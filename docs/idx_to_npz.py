"""Convert a folder of MNIST-style IDX files (…-images-idx3-ubyte[.gz]) to an npz file that `npz:PATH` reads.

python docs/idx_to_npz.py /usr/share/datasets/fashion-mnist fashion_mnist.npz
"""

import gzip
import sys
from pathlib import Path

import numpy as np


def read_idx(folder: Path, stem: str) -> np.ndarray:
    """The uint8 array (N, H, W) of an IDX file, compressed or not."""
    path = next(path for path in sorted(folder.iterdir()) if path.name.startswith(stem))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = np.frombuffer(data, ">u4", count=3, offset=4)
    return np.frombuffer(data, np.uint8, offset=16).reshape(shape)


def main() -> None:
    folder, target = Path(sys.argv[1]), sys.argv[2]
    train, test = read_idx(folder, "train-images"), read_idx(folder, "t10k-images")
    np.savez_compressed(target, train=train, test=test)
    print(f"wrote {target}: train {train.shape}, test {test.shape}")


if __name__ == "__main__":
    main()
