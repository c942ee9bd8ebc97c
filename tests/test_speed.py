"""FLOPs of a step against a count by hand, and the peaks of devices by the names that jax has for them."""

import math
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
import tiny
from conditional import LABEL
from conditional import model as conditional

from vdm import model as model_lib
from vdm import schedules
from vdm.config import Config, DataConfig, NetworkConfig
from vdm.model import Model
from vdm.speed import forward_flops, peak_flops, step_flops


def by_hand(pixels: int, channels: int, depth: int, data_channels: int, exponents: int = 2, everywhere: bool = False):
    """FLOPs of the U-Net's forward pass for an image, from its description: `depth` blocks down and depth + 3 more."""
    up = depth + 1
    # 3×3: the first layer, of c(1 + 2F) channels; two in each of D + 2 blocks of C channels; (2C → C, C → C) in each
    # of the D + 1 up; the last.
    convolutions = data_channels * (1 + 2 * exponents) * channels + 2 * (depth + 2) * channels**2
    convolutions += up * (2 * channels**2 + channels**2) + channels * data_channels
    shortcuts = up * 2 * channels**2
    embedding = channels * 4 * channels + (4 * channels) ** 2 + (2 * depth + 3) * 4 * channels**2
    # Query, key, value and out; then scores and their sums over values.
    attention = 4 * pixels * channels**2 + 2 * pixels**2 * channels
    attentions = 1 + (2 * depth + 1 if everywhere else 0)
    return 2 * (9 * pixels * convolutions + pixels * shortcuts + embedding + attentions * attention)


@pytest.mark.parametrize(("shape", "network"), [((4, 4, 1), {}), ((5, 3, 2), {"attention": "everywhere", "heads": 2})])
def test_forward_flops_of_a_small_network(shape, network):
    model = tiny.model(shape=shape, **network)
    expected = by_hand(math.prod(shape[:-1]), 8, 1, shape[-1], everywhere="attention" in network)
    assert forward_flops(model) == expected


def test_forward_flops_of_the_cifar10_network_of_the_paper():
    """53.4 GFLOP an image; 20.5 TFLOP a step of 128."""

    def counted(depth: int) -> int:
        data = DataConfig(shape=(32, 32, 3), levels=256)
        return forward_flops(model_lib.from_config(Config(data=data, network=NetworkConfig(depth=depth))))

    # Each block down, with its own up, adds the same: two tell what all 32 are, in a tenth of the time.
    one, two = counted(1), counted(2)
    flops = one + 31 * (two - one)
    assert flops == by_hand(32 * 32, 128, 32, 3)
    assert round(flops / 1e9, 1) == 53.4
    assert round(3 * 128 * flops / 1e12, 1) == 20.5


def test_what_is_computed_again_does_not_count():
    plain, again = (tiny.config(remat=remat) for remat in (False, True))
    assert step_flops(model_lib.for_training(again), 8) == 3 * 8 * forward_flops(model_lib.for_training(plain))


def test_an_energy_costs_its_gradient_too():
    """Of two layers, each with a product for the gradient by its input: twice the forward pass."""
    model = tiny.pixelwise()
    assert forward_flops(replace(model, prediction="energy")) == 2 * forward_flops(model) > 0


def test_flops_of_a_network_of_ones_own():
    """A product in a scan counts as often as it is done; convolutions by groups, strides and conditions as they are."""

    class Own(nn.Module):
        @nn.compact
        def __call__(self, z, gamma, condition=None, train=False):
            h = nn.Conv(6, (3, 1), strides=2, feature_group_count=2, name="conv")(z)
            kernel = self.param("kernel", nn.initializers.zeros, (6, 6))
            h, _ = jax.lax.scan(lambda h, _: (h @ kernel, None), h, length=5)
            return z + jnp.mean(h)

    model = Model(schedules.linear(-7.0, 4.0), Own(), shape=(4, 4, 2), levels=17)
    # Outputs 2 × 2 × 6, each of a kernel 3 × 1 over one channel of a group; 5 products of 2 · 2 rows.
    assert forward_flops(model) == 2 * (2 * 2 * 6 * 3) + 5 * 2 * (2 * 2 * 6 * 6)
    assert conditional(True).condition == LABEL
    assert forward_flops(conditional(True)) == 0


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA A100-SXM4-40GB", (19.5, 156, 312)),
        ("NVIDIA A100 80GB PCIe", (19.5, 156, 312)),
        ("NVIDIA H100 80GB HBM3", (67, 494.5, 989.5)),
        ("NVIDIA H100 PCIe", (51, 378, 756.5)),
        ("NVIDIA H200", (67, 494.5, 989.5)),
        ("NVIDIA L40S", (91.6, 183, 362)),
        ("NVIDIA GeForce RTX 4090", (82.6, 82.6, 165.2)),
        ("Tesla T4", (8.1, 8.1, None)),
        ("Tesla V100-SXM2-16GB", (15.7, 15.7, None)),
        ("TPU v4", (None, None, 275)),
        ("TPU v5 lite", (None, None, 197)),
        ("TPU v6 lite", (None, None, 918)),
        # Other devices than those whose names they begin with.
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", (None, None, None)),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", (None, None, None)),
        ("cpu", (None, None, None)),
    ],
)
def test_peak_flops(kind, teraflops):
    found = [peak_flops(kind, precision) for precision in ("float32", "tf32", "bfloat16")]
    assert found == [None if value is None else pytest.approx(value * 1e12) for value in teraflops]


def test_peak_flops_of_a_precision_that_is_none():
    with pytest.raises(ValueError, match="precision='float16': must be one of float32, tf32, bfloat16"):
        peak_flops("cpu", "float16")
