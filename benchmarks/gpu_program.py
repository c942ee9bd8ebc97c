"""The training step compiled for a GPU without having one: its kernels and their minimum times, as JSON.

    pip install 'jax[cuda12]'
    JAX_PLATFORMS=cpu,cuda JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 python benchmarks/gpu_program.py --precision=bfloat16

XLA compiles for an H100 on any machine with jax's CUDA plugin; neither a GPU nor a driver is needed. The minimum time
of a kernel is the longer of its bytes (operands and results, once each) over the memory bandwidth and its FLOPs over
the peak. The count ignores autotuning, caches, launches, and all arithmetic except products, such as that of random
bits.
"""

import argparse
import collections
import json
import os
from dataclasses import replace
from typing import Any
from unittest import mock

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"

import numpy as np
import train_step
from accelerator_parts.cases import BATCH_SIZE, PRECISIONS, config_of
from accelerator_parts.hlo import Kernel, kernels
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from vdm.speed import peak_flops

H100 = "NVIDIA H100 80GB HBM3"
BYTES_PER_SECOND = 3.0e12
"""Memory bandwidth of a device-to-device copy on an H100, reads and writes together; the data sheet says 3.35e12."""
MATMUL_SHARE = 0.8
"""Share of the data sheet's FLOP/s that a large product reaches."""

# The compiler's description of the device, from its data sheet and CUDA's limits.
TARGET = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3" device_vendor: "NVIDIA Corporation" cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 threads_per_warp: 32
  device_memory_size: 84942979072 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  runtime_version: "12.9.0" driver_version: "13.0.0" compile_time_toolkit_version: "12.9.0" dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def gpu() -> Mesh:
    """Return a mesh of one H100 to compile for."""
    topology = topologies.get_topology_desc("h100", platform="cuda", topology="1x1x1", target_config=TARGET)
    return Mesh(np.array(topology.devices).reshape(1, 1), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def count(program: list[Kernel], precision: str) -> dict[str, Any]:
    """Return kernels, bytes, FLOPs and minimum seconds by kind and by layer, slowest first."""
    peak = MATMUL_SHARE * (peak_flops(H100, precision) or 0)
    by: dict[str, dict[str, dict[str, float]]] = {"by_kind": {}, "by_layer": {}, "all": {}}
    for kernel in program:
        seconds = kernel.floor(peak, BYTES_PER_SECOND)
        names = {"by_kind": kernel.kind, "by_layer": f"{kernel.kind} {kernel.place}".strip(), "all": "program"}
        for group, name in names.items():
            sums = by[group].setdefault(name, collections.defaultdict(float))
            each = {"kernels": 1, "bytes": kernel.num_bytes, "flops": kernel.flops, "seconds": seconds}
            for figure, number in each.items():
                sums[figure] += number * kernel.launches
    return {group: dict(sorted(of.items(), key=lambda item: -item[1]["seconds"])[:30]) for group, of in by.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=BATCH_SIZE, default="cifar10", help="(default: cifar10)")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16", help="(default: bfloat16)")
    parser.add_argument("--depth", type=int, help="residual blocks down (default: the case's)")
    parser.add_argument("--batch_size", type=int, help="(default: what the benchmark gives one GPU)")
    parser.add_argument("--dropout", type=float, help="(default: the case's)")
    parser.add_argument("--text", help="file for the compiled program's text")
    options = parser.parse_args()
    network = {name: getattr(options, name) for name in ("depth", "dropout") if getattr(options, name) is not None}
    config = config_of(options.case, options.precision, small=False, **network)
    batch_size = options.batch_size or config.training.batch_size
    config = replace(config, training=replace(config.training, batch_size=batch_size))
    # Networks choose the form of some layers by the backend.
    with mock.patch("jax.default_backend", return_value="gpu"):
        step = train_step.compile_step(config, gpu(), platform="cuda")
    text, memory = step.program.as_text(), step.program.memory_analysis()
    if options.text:
        with open(options.text, "w") as file:
            file.write(text)
    result = {"case": options.case, "precision": options.precision, "batch_size": batch_size, **network}
    result |= {"temporary_bytes": memory.temp_size_in_bytes, "compile_seconds": step.compile_seconds}
    print(json.dumps(result | {"model_flops": step.model_flops} | count(kernels(text), options.precision), indent=2))


if __name__ == "__main__":
    main()
