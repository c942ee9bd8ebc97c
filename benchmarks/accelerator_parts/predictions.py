"""What we expected of an H100 before the first measurement, and why: seconds a step unless it says otherwise.

The step of the CIFAR-10 network was compiled for an H100 where there was none (`benchmarks/gpu_program.py`), and every
kernel counted: the bytes of its operands and results, and the FLOPs of its products. A kernel takes the longer of

    bytes / BANDWIDTH    and    FLOPs / (EFFICIENCY × the matmul peak)

and the launches in between are hidden. What that leaves out: autotuning (the program was compiled without), caches (a
kernel may find its operands in the 50 MB of L2), and random bits, which are arithmetic.
"""

STEPS: dict[str, float] = {}
CALLS: dict[tuple[str, str], float] = {}
BITS: dict[str, str] = {"bfloat16": "below 1e-2", "tf32": "below 1e-3"}
VARIANTS: dict[str, tuple[str, str]] = {}
FLAGS = ("command_buffer", "exclude_nondeterministic", "deterministic", "latency_hiding", "autotuned_anew")
