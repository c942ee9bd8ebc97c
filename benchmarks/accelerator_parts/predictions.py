"""Predictions for an H100, with reasons, written before the first measurement. In seconds unless stated otherwise.

The training step of the CIFAR-10 network (depth 32, bfloat16, batch 128, with 32 random bits for each dropout value)
was compiled for an H100 without having one, and its kernels were counted (`benchmarks/gpu_program.py`, jax 0.10.2).
Today's step, with 8 random bits, was counted at depth 2 only: 22.9 GB instead of 22.8, and 9.0 ms instead of 8.9.

    kind            kernels   GB moved   TFLOP   ms at 3.0 TB/s and 798 TFLOP/s
    convolution         408       35.4   19.38   24.4
    reduction          2444       50.7       –   16.9
    elementwise        1480       29.8       –   10.0
    product             192       14.3    1.11    4.8    attention's and the shortcuts'
    copy               1125       12.3       –    4.1
    random bits          77        5.6       –    1.9
    all                5726      148.1   20.49   62.0

and 14.9 GB of temporary memory. The predicted time assumes that convolutions reach EFFICIENCY of the matmul peak; that
random bits are limited by arithmetic rather than bytes, with INTEGER_OPERATIONS per value at 14.8 T a second; that
attention is fused, which saves 1.7 ms of 2.2; and that launches, some 2 µs each, are hidden behind kernels. With 8 bits
per value, random bits cost a quarter.
"""

EFFICIENCY = 0.75
"""Rate of a convolution with 128 channels relative to that of a large product."""
INTEGER_OPERATIONS = 80
"""Integer operations of threefry for 32 random bits."""

STEPS = {
    # In ms: 24.4/0.75 for convolutions, plus 37.6 for the rest, minus 1.7. (Random bits: 1.8 for arithmetic, not 1.9.)
    "cifar10_bfloat16": 0.068,
    # 20.5 TFLOP at 0.75 × 395 TFLOP/s; float32 moves up to twice as many bytes: 1.6 × 36 ms.
    "cifar10_tf32": 0.127,
    # 20.5 TFLOP at 0.8 × 60 TFLOP/s, and the same bytes.
    "cifar10_float32": 0.485,
    # 41 TFLOP with 256 channels at 0.8 of the peak; as many bytes as for CIFAR-10, in twice as many blocks.
    "imagenet64_bfloat16": 0.105,
    "imagenet64_tf32": 0.195,
    "imagenet64_float32": 0.93,
}
"""Step time by part. The goal for the first one is 0.045, which is 46 % of the data sheet's rate."""

CALLS = {
    # A third of the step's convolutions and of its bytes, except those kept for the backward pass, over 128 images.
    ("evaluation", "bfloat16"): 150e-6,
    ("evaluation", "tf32"): 270e-6,
    ("evaluation", "float32"): 1.05e-3,
    ("sampling", "bfloat16"): 150e-6,
    ("sampling", "tf32"): 270e-6,
    ("sampling", "float32"): 1.05e-3,
}
"""Time of a network call for one image; the lower bounds are 67, 135 and 890 µs."""

BITS = {"bfloat16": "within 1e-2", "tf32": "within 1e-3"}
"""Predicted change in bits/dim."""

FLAGS = ("command_buffer", "exclude_nondeterministic", "deterministic", "latency_hiding", "autotuned_anew")
"""Parts that measure the step of `variants` in a separate process."""

# For a network of 11 blocks instead of 67, whose step should take 16 ms: 12.4 as counted, with the same corrections.
VARIANTS = {
    "no_dropout": ("-0.5 ms", "184 M values, 46 M hashes: 0.25 of arithmetic, 0.2 of masks; × 6 in the whole network"),
    "rbg_keys": (
        "0 ms",
        "threefry is 0.25 with 8 bits a value; Philox is cheaper, but writes its bits",
    ),
    "plain_attention": ("+1.7 ms", "passes over 537 MB of scores; one attention, whatever the depth"),
    "recomputed_swish": ("+1.4 ms", "counted: the barrier of jax.checkpoint has XLA copy what is inside, 4.3 GB more"),
    "five_steps_a_call": ("-0.4 ms", "a dispatch of some 0.5 ms that is waited for, a fifth of it left"),
    "batch_256": ("-1 ms", "700 small kernels and the optimizer, which do not grow with the batch"),
    "remat": ("+3.5 ms", "the forward pass once more"),
    "command_buffer": ("-0.5 ms", "gaps of half a microsecond between 1100 kernels"),
    "exclude_nondeterministic": ("+0.3 ms", "no atomics in the filters' gradients"),
    "deterministic": ("+2 ms", "the same, and no autotuning"),
    "latency_hiding": ("0 ms", "one GPU has nothing to hide"),
    "autotuned_anew": ("0 ms", "but other algorithms may be chosen, and then other bits"),
}
