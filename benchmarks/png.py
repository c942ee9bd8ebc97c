"""Bits/dim of PNG on the test images of a data set, as one JSON object; a useful model should be below it.

python benchmarks/png.py --data=photos32
python benchmarks/png.py --data=npz:fashion_mnist.npz
"""

import argparse
import io
import json

import numpy as np
from PIL import Image

from vdm.config import DataConfig
from vdm.data import load

SIGNATURE_BYTES = 8
CHUNK_FRAME_BYTES = 12


def png_bytes(image: np.ndarray) -> tuple[int, int]:
    """Return (bytes of the PNG file, bytes of its compressed pixels alone) for an image with 1 or 3 channels."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG", optimize=True)
    data, position, pixels = buffer.getvalue(), SIGNATURE_BYTES, 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        pixels += length if data[position + 4 : position + 8] == b"IDAT" else 0
        position += length + CHUNK_FRAME_BYTES
    return len(data), pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="photos32", help="as config.data.name (default: photos32)")
    dataset = load(DataConfig(name=parser.parse_args().data))
    sizes = np.array([png_bytes(dataset.test[i]["image"]) for i in range(len(dataset.test))])
    bits = 8 * sizes.mean(axis=0) / np.prod(dataset.info.shape)
    names = ("bits_per_dim_of_files", "bits_per_dim_of_pixels_alone")
    result = dict(zip(names, bits.tolist(), strict=True))
    print(json.dumps({"data": dataset.info.name, "num_images": len(sizes)} | result, indent=2))


if __name__ == "__main__":
    main()
