"""The layers of FID's Inception-v3, as a Flax module for inference only, since its weights are given.

Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision", as TensorFlow published it on
2015-12-05. Layers are named as in its PyTorch weights. The batch normalization of every convolution is folded into its
kernel and bias.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm.evaluation.metrics.extractors.windows import average_pool, convolve, max_pool


class Conv(nn.Module):
    """A convolution with bias and ReLU."""

    channels: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "batch _ _ _"]) -> Float[Array, "batch _ _ {self.channels}"]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*self.size, x.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return nn.relu(convolve(x, kernel, self.stride, self.padding) + bias[None, None, None, :])


class Logits(nn.Module):
    """A linear layer; returns its output without and with the bias."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch _"]) -> tuple[Float[Array, "batch _"], Float[Array, "batch _"]]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.classes))
        bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        unbiased = x @ kernel
        return unbiased, unbiased + bias[None, :]


class A(nn.Module):
    """35 × 35: branches with 1×1, 5×5 and two 3×3 convolutions."""

    pooled: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch 35 35 _"]) -> Float[Array, "batch 35 35 _"]:
        one = Conv(64, name="branch1x1")(x)
        five = Conv(48, name="branch5x5_1")(x)
        five = Conv(64, (5, 5), name="branch5x5_2")(five)
        double = Conv(64, name="branch3x3dbl_1")(x)
        double = Conv(96, (3, 3), name="branch3x3dbl_2")(double)
        double = Conv(96, (3, 3), name="branch3x3dbl_3")(double)
        pool = Conv(self.pooled, name="branch_pool")(average_pool(x))
        return jnp.concatenate([one, five, double, pool], axis=-1)


class B(nn.Module):
    """35 × 35 to 17 × 17."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch 35 35 _"]) -> Float[Array, "batch 17 17 _"]:
        three = Conv(384, (3, 3), 2, "VALID", name="branch3x3")(x)
        double = Conv(64, name="branch3x3dbl_1")(x)
        double = Conv(96, (3, 3), name="branch3x3dbl_2")(double)
        double = Conv(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(double)
        return jnp.concatenate([three, double, max_pool(x, 2, "VALID")], axis=-1)


class C(nn.Module):
    """17 × 17: branches with 1×1 and factorized 7×7 convolutions."""

    inner: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch 17 17 768"]) -> Float[Array, "batch 17 17 768"]:
        one = Conv(192, name="branch1x1")(x)
        seven = Conv(self.inner, name="branch7x7_1")(x)
        seven = Conv(self.inner, (1, 7), name="branch7x7_2")(seven)
        seven = Conv(192, (7, 1), name="branch7x7_3")(seven)
        double = Conv(self.inner, name="branch7x7dbl_1")(x)
        double = Conv(self.inner, (7, 1), name="branch7x7dbl_2")(double)
        double = Conv(self.inner, (1, 7), name="branch7x7dbl_3")(double)
        double = Conv(self.inner, (7, 1), name="branch7x7dbl_4")(double)
        double = Conv(192, (1, 7), name="branch7x7dbl_5")(double)
        pool = Conv(192, name="branch_pool")(average_pool(x))
        return jnp.concatenate([one, seven, double, pool], axis=-1)


class D(nn.Module):
    """17 × 17 to 8 × 8."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch 17 17 768"]) -> Float[Array, "batch 8 8 1280"]:
        three = Conv(192, name="branch3x3_1")(x)
        three = Conv(320, (3, 3), 2, "VALID", name="branch3x3_2")(three)
        seven = Conv(192, name="branch7x7x3_1")(x)
        seven = Conv(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = Conv(192, (7, 1), name="branch7x7x3_3")(seven)
        seven = Conv(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, max_pool(x, 2, "VALID")], axis=-1)


class E(nn.Module):
    """8 × 8: branches with 1×1 and, split in parallel, 3×3 convolutions."""

    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Float[Array, "batch 8 8 _"]) -> Float[Array, "batch 8 8 2048"]:
        one = Conv(320, name="branch1x1")(x)
        three = Conv(384, name="branch3x3_1")(x)
        three_a = Conv(384, (1, 3), name="branch3x3_2a")(three)
        three_b = Conv(384, (3, 1), name="branch3x3_2b")(three)
        double = Conv(448, name="branch3x3dbl_1")(x)
        double = Conv(384, (3, 3), name="branch3x3dbl_2")(double)
        double_a = Conv(384, (1, 3), name="branch3x3dbl_3a")(double)
        double_b = Conv(384, (3, 1), name="branch3x3dbl_3b")(double)
        pool = Conv(192, name="branch_pool")(self.pool(x))
        return jnp.concatenate([one, three_a, three_b, double_a, double_b, pool], axis=-1)


class InceptionV3(nn.Module):
    """Features by name for images of 299 × 299 pixels in [−1, 1)."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch 299 299 3"]) -> dict[str, Float[Array, "batch _"]]:
        x = Conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
        x = Conv(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = Conv(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = max_pool(x, 2, "VALID")
        x = Conv(80, name="Conv2d_3b_1x1")(x)
        x = Conv(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
        x = max_pool(x, 2, "VALID")
        x = A(32, name="Mixed_5b")(x)
        x = A(64, name="Mixed_5c")(x)
        x = A(64, name="Mixed_5d")(x)
        x = B(name="Mixed_6a")(x)
        x = C(128, name="Mixed_6b")(x)
        x = C(160, name="Mixed_6c")(x)
        x = at_6d = C(160, name="Mixed_6d")(x)
        x = C(192, name="Mixed_6e")(x)
        x = D(name="Mixed_7a")(x)
        x = E(average_pool, name="Mixed_7b")(x)
        # A quirk: the last block has a max pool where all others that keep the size have an average pool.
        x = E(max_pool, name="Mixed_7c")(x)
        pool = jnp.mean(x, axis=(1, 2))
        unbiased, logits = Logits(1008, name="fc")(pool)
        # Seven of the 192 channels of the 1×1 branch, which comes first, as in TensorFlow's "mixed_6/conv".
        spatial = at_6d[..., :7].reshape(len(x), -1)
        return {"pool": pool, "logits": logits, "logits_unbiased": unbiased, "spatial": spatial}
