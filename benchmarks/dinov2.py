"""Images per second of DINOv2's vision transformers, with random weights, as one JSON object.

    python benchmarks/dinov2.py --sizes=b,l --batch_sizes=4,8 --images=16

Each time covers all images, from uint8 in memory to features in memory. Nothing is asserted; run it on an otherwise
idle machine.
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

import jax
import numpy as np
from train_step import machine

from vdm import parallel
from vdm.evaluation.metrics.extractors import Extractor, dinov2
from vdm.evaluation.metrics.features import Extraction
from vdm.evaluation.metrics.published import NETWORKS


def random_extractor(size: str) -> Extractor:
    """Build a network with random weights under which tokens keep about the same size from block to block."""
    rng = np.random.default_rng(0)
    state = {
        name: rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        for name, shape in NETWORKS[f"dinov2_vit{size}14"].tensors.items()
    }
    variables = dinov2.variables_of(state)
    return Extractor(dinov2.NAMES[size], "random", {"cls": variables["class_token"].size}, variables, dinov2.apply)


def measure(extractor: Extractor, images: np.ndarray, batch_size: int, repeats: int) -> dict[str, Any]:
    """Return the figures of one network at one batch size."""
    mesh = parallel.make_mesh()
    extraction = Extraction(extractor, ("cls",), mesh, batch_size)
    source = [{"image": image} for image in images]
    batch = jax.ShapeDtypeStruct(
        (extraction.batch_size, *images.shape[1:]), np.uint8, sharding=parallel.batch_sharding(mesh)
    )
    start = time.perf_counter()
    variables = jax.device_put(extractor.variables, parallel.replicated(mesh))
    compiled = jax.jit(extractor.apply, static_argnums=2).lower(variables, batch, ("cls",)).compile()
    compile_seconds, memory = time.perf_counter() - start, compiled.memory_analysis()
    extraction(source)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        extraction(source)
        seconds.append(time.perf_counter() - start)
    return {
        "images_per_second": len(images) / statistics.median(seconds),
        "slowest": len(images) / max(seconds),
        "compile_seconds": compile_seconds,
        "temporary_bytes_a_device": getattr(memory, "temp_size_in_bytes", None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="b,l", help="networks: b, l (default: both)")
    parser.add_argument("--batch_sizes", default="8", help="images at a time, over all devices (default: 8)")
    parser.add_argument("--images", type=int, default=16, help="of which features are made (default: 16)")
    parser.add_argument("--size", type=int, default=32, help="their height and width (default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (default: 3)")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    options = parser.parse_args()
    sizes = options.sizes.split(",")
    if unknown := [size for size in sizes if size not in dinov2.NAMES]:
        parser.error(f"--sizes={unknown[0]}: must be of {', '.join(dinov2.NAMES)}")
    try:
        batch_sizes = [int(word) for word in options.batch_sizes.split(",")]
    except ValueError:
        parser.error(f"--batch_sizes={options.batch_sizes}: must be whole numbers, with commas between them")
    if min(options.images, options.size, options.repeats, *batch_sizes) < 1 or options.devices < 0:
        parser.error("--images, --size, --repeats, --batch_sizes: must be 1 or more, --devices 0 or more")
    parallel.setup(options.devices)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (options.images, options.size, options.size, 3), np.uint8)
    result: dict[str, Any] = {"machine": machine(), "images": len(images), "size": options.size, "networks": {}}
    for size in sizes:
        extractor = random_extractor(size)
        result["networks"][extractor.title] = figures = {}
        for batch_size in batch_sizes:
            print(f"{extractor.title}, {batch_size} images at a time …", file=sys.stderr)
            figures[batch_size] = measure(extractor, images, batch_size, options.repeats)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
