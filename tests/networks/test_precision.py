"""bfloat16 and rematerialisation in the network: what stays float32 in the traced program, and what comes out."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm.networks import UNet, attention

F32, BF16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)
SHAPE = (2, 4, 4, 2)


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """JAX's own attention promotes bfloat16 to float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def network(**kwargs) -> UNet:
    sizes = {"channels": 8, "depth": 1, "gamma_min": -7.0, "gamma_max": 4.0, "fourier": (3, 4)}
    return UNet(**sizes, attention="everywhere", **kwargs)


@pytest.fixture(scope="module")
def variables():
    return tiny.random_variables(jax.eval_shape(network().init, jax.random.key(0), jnp.zeros(SHAPE), jnp.zeros(2)))


def equations(jaxpr) -> Iterator:
    """Of a traced program and of all that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            called = getattr(value, "jaxpr", value)
            if hasattr(called, "eqns"):
                yield from equations(called)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_is_computed_in_what(variables, dtype):
    """Convolutions and products of the blocks in `dtype`; the ends, γ, sines, softmax, sums and roots in float32."""
    z, gamma = jnp.zeros(SHAPE), jnp.zeros(2)
    trace = jax.make_jaxpr(functools.partial(network(dtype=dtype).apply, variables))(z, gamma)
    assert [aval.dtype for aval in trace.out_avals] == [F32]
    found: dict[str, list] = {}
    for equation in equations(trace.jaxpr):
        if equation.invars:
            found.setdefault(equation.primitive.name, []).append(equation.invars[0].aval.dtype)
    convolutions = found["conv_general_dilated"]
    assert convolutions[0] == convolutions[-1] == F32
    assert set(convolutions[1:-1]) == {jnp.dtype(dtype)}
    # Two of the embedding first, then those of the blocks; the softmax's weights are float32 until they are used.
    assert found["dot_general"][:2] == [F32, F32]
    assert set(found["dot_general"][2:]) == {jnp.dtype(dtype)}
    for name in ("reduce_sum", "rsqrt", "sin", "cos", "exp", "reduce_max"):
        assert set(found[name]) == {F32}, name


def test_bfloat16_comes_out_as_float32_but_for_rounding(variables):
    z, gamma = jax.random.normal(jax.random.key(1), SHAPE), jnp.array([-6.0, 2.0])
    exact, rounded = (jax.jit(network(dtype=dtype).apply)(variables, z, gamma) for dtype in (F32, BF16))
    error = np.sqrt(np.mean(np.square(rounded - exact)) / np.mean(np.square(exact - z)))
    # About ten roundings of up to 2⁻⁹ in each of the eight blocks, independent, and as many again of their inputs.
    assert 2**-14 < error < 2**-9 * np.sqrt(2 * 80)


def test_rematerialised_blocks_are_the_same(variables):
    """The names of the parameters, the output and, with dropout, the gradient."""
    z, gamma, key = jax.random.normal(jax.random.key(1), SHAPE), jnp.array([-6.0, 2.0]), jax.random.key(2)

    def gradient(remat: bool):
        apply = functools.partial(network(remat=remat, dropout=0.5).apply, train=True, rngs={"dropout": key})
        return jax.jit(jax.grad(lambda v: jnp.mean(jnp.square(apply(v, z, gamma)))))(variables)

    plain, again = gradient(False), gradient(True)
    assert jax.tree.structure(plain) == jax.tree.structure(again)
    largest = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(plain))
    for left, right in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5 * largest)
    # And it is done: what is kept for the backward pass is less, before XLA sees it.
    assert kept(True) < 0.5 * kept(False)


def kept(remat: bool) -> int:
    """Numbers that the backward pass takes from the forward pass."""
    module = network(remat=remat)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(SHAPE), jnp.zeros(2))
    residuals = jax.eval_shape(
        lambda v: jax.vjp(lambda v: module.apply(v, jnp.zeros(SHAPE), jnp.zeros(2)), v)[1], shapes
    )
    of_parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return sum(leaf.size for leaf in jax.tree.leaves(residuals)) - of_parameters


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_gradient_lowers_for_other_platforms(variables, platform):
    apply = network(dtype=jnp.bfloat16, remat=True).apply
    gradient = jax.jit(jax.grad(lambda v, z: jnp.mean(jnp.square(apply(v, z, jnp.zeros(2))))))
    lowered = jax.export.export(gradient, platforms=[platform])(variables, jnp.zeros(SHAPE))
    assert lowered.platforms == (platform,)


class Device(NamedTuple):
    """A GPU as jax describes it."""

    compute_capability: str
    platform_version: str = "PJRT C API\ncuda 12090"

    @property
    def client(self) -> "Device":
        return self


@pytest.mark.parametrize(
    ("backend", "device", "largest"),
    [("cpu", None, 0), ("gpu", Device("7.5"), 0), ("gpu", Device("8.0"), 128), ("gpu", Device("8.9"), 128),
     ("gpu", Device("9.0"), 256), ("gpu", Device("10.0"), 256), ("gpu", Device("9.0", "rocm 60000"), 0)],
)  # fmt: skip
def test_heads_that_cudnn_takes(monkeypatch, backend, device, largest):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert attention.largest_fused_head() == largest


@pytest.mark.parametrize(
    ("dtype", "channels", "largest", "fused"),
    [(BF16, 64, 128, True), (BF16, 64, 0, False), (F32, 64, 256, False), (BF16, 12, 128, False),
     (BF16, 256, 128, False), (BF16, 256, 256, True)],
)  # fmt: skip
def test_fused_attention_is_chosen_where_it_can_be(monkeypatch, dtype, channels, largest, fused):
    asked, plain = [], jax.nn.dot_product_attention

    def of_jax(query, key, value, mask=None, implementation=None):
        asked.append(implementation)
        return plain(query, key, value, mask=mask)

    monkeypatch.setattr(attention, "largest_fused_head", lambda: largest)
    monkeypatch.setattr(jax.nn, "dot_product_attention", of_jax)
    x = jax.ShapeDtypeStruct((1, 3, 1, channels), dtype)
    # A function of its own: what is traced is kept by function and shapes.
    assert jax.eval_shape(lambda *qkv: attention.attend(*qkv), x, x, x).dtype == dtype  # noqa: PLW0108
    assert ("cudnn" in asked) == fused
