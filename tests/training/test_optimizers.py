"""The network's optimisers: muon against the singular value decomposition, both on what is no kernel."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from vdm import config as config_lib
from vdm import parallel, parts
from vdm.errors import InputError
from vdm.training import optimizers
from vdm.training.optimizers import decay_mask
from vdm.training.state import make_optimizer

RATE, RMS = 0.1, 0.25


def gradients() -> dict[str, dict[str, jax.Array]]:
    """Of a 3×3 convolution, a wide linear map, and what is no kernel; of no small singular value."""
    shapes = {"conv": (3, 3, 2, 4), "dense": (3, 8)}
    keys = jax.random.split(jax.random.key(0), 4)
    drawn = {
        name: {"kernel": jax.random.normal(key, shape), "bias": jax.random.normal(other, shape[-1:])}
        for (name, shape), key, other in zip(shapes.items(), keys[:2], keys[2:], strict=True)
    }
    return drawn | {"embed": {"embedding": jnp.ones((5, 3))}}


def first_update(name: str, scale: float = 1.0, **arguments: float) -> dict[str, dict[str, jax.Array]]:
    arguments = {"rate": optax.constant_schedule(RATE), "weight_decay": 0.0} | arguments
    optimizer = parts.make("optimizer", name, **arguments)
    drawn = jax.tree.map(lambda g: scale * g, gradients())
    params = jax.tree.map(jnp.ones_like, drawn)
    updates: dict[str, dict[str, jax.Array]] = jax.jit(optimizer.update)(drawn, optimizer.init(params), params)[0]
    return updates


@pytest.mark.parametrize("layer", ["conv", "dense"])
def test_muon_moves_a_kernel_along_its_polar_factor(layer: str) -> None:
    """G = U S Vᵀ: the update is −U D Vᵀ with a D of about 1 before it is scaled (Jordan 2024: from 0.7 to 1.2)."""
    kernel = np.float64(gradients()[layer]["kernel"])
    matrix = kernel.reshape(-1, kernel.shape[-1])
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    update = np.float64(first_update(f"muon(rms={RMS})")[layer]["kernel"]).reshape(matrix.shape)
    within = left.T @ update @ right.T
    scale = RATE * RMS * np.sqrt(max(matrix.shape))
    np.testing.assert_allclose(within, np.diag(np.diag(within)), atol=1e-5 * scale)
    np.testing.assert_allclose(update, left @ within @ right, atol=1e-5 * scale)
    assert np.all((-np.diag(within) > 0.65 * scale) & (-np.diag(within) < 1.25 * scale))
    assert np.sqrt(np.mean(update**2)) == pytest.approx(RATE * RMS, rel=0.35)


def test_muon_does_not_see_the_size_of_a_kernels_gradient() -> None:
    small, large = (first_update("muon", scale=scale) for scale in (1e-3, 1e3))
    for layer in ("conv", "dense"):
        np.testing.assert_allclose(small[layer]["kernel"], large[layer]["kernel"], rtol=2e-4, atol=1e-6)


def test_muon_is_adamw_on_all_but_kernels() -> None:
    muon, adamw = first_update("muon"), first_update("adamw")
    is_kernel = decay_mask(muon)

    def check(kernel: bool, a: jax.Array, b: jax.Array) -> None:
        assert kernel == (not np.allclose(a, b, rtol=1e-3))

    jax.tree.map(check, is_kernel, muon, adamw)
    assert sum(jax.tree.leaves(is_kernel)) == 2


@pytest.mark.parametrize("name", parts.names("optimizer"))
def test_weight_decay_moves_kernels_and_nothing_else(name: str) -> None:
    """With gradients of zero an update is −rate · decay · kernel."""
    for layer in first_update(name, scale=0.0, weight_decay=0.02).values():
        for leaf, update in layer.items():
            np.testing.assert_allclose(update, -RATE * 0.02 if leaf == "kernel" else 0.0, rtol=1e-6, err_msg=leaf)


def test_muon_of_a_state_cut_among_devices() -> None:
    """As `training.fsdp` cuts it: products over parts of a kernel are added up in another order."""
    mesh = parallel.make_mesh(fsdp=8)
    optimizer = optimizers.muon(optax.constant_schedule(RATE))
    conv, bias, dense = (np.ones(shape, np.float32) for shape in ((3, 3, 8, 16), (16,), (16, 64)))
    params = {"conv": {"kernel": conv, "bias": bias}, "dense": {"kernel": dense}}
    drawn = tiny.perturbed(params)
    whole = jax.jit(optimizer.update)(drawn, jax.jit(optimizer.init)(params), params)
    cut = [jax.device_put(x, parallel.state_sharding(x, mesh)) for x in (drawn, optimizer.init(params), params)]
    updates, state = jax.jit(optimizer.update)(*cut)
    assert len({str(shard.index) for shard in cut[2]["conv"]["kernel"].addressable_shards}) == 8
    for ours, theirs in zip(jax.tree.leaves((updates, state)), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_config_names_it_and_the_state_has_one_moment_of_a_kernel() -> None:
    """Half of AdamW's state; and strongly typed, or the step would be compiled twice."""
    config = tiny.config()
    variables = tiny.variables(tiny.model())["network"]
    kernels = sum(x.size for x, is_kernel in zip(
        jax.tree.leaves(variables), jax.tree.leaves(decay_mask(variables)), strict=True) if is_kernel)  # fmt: skip

    def state(name: str) -> list[jax.ShapeDtypeStruct]:
        named = replace(config, optimizer=replace(config.optimizer, name=name))
        everything = {"network": variables, "schedule": {}, "likelihood": {}}
        return jax.tree.leaves(jax.eval_shape(make_optimizer(named).init, everything))

    adamw, muon = state("adamw"), state("muon(momentum=0.9)")
    assert not any(leaf.weak_type for leaf in muon)
    # And the three coefficients of Newton and Schulz, and a count.
    assert sum(leaf.size for leaf in adamw) - sum(leaf.size for leaf in muon) == kernels - 4


@pytest.mark.parametrize(
    ("name", "mention"),
    [
        ("sgd", "must be one of adamw, muon"),
        ("muon(momentum=1)", "momentum=1.0: must be from 0 to below 1"),
        ("muon(rms=0)", "rms=0.0: must be positive and finite"),
        ("muon(rate=1)", "rate"),
    ],
)
def test_a_bad_name_is_refused_in_one_line(name: str, mention: str) -> None:
    config = tiny.config()
    config.optimizer.name = name
    with pytest.raises(InputError, match=r"^config\.optimizer\.name=") as caught:
        config_lib.validate(config)
    assert mention in str(caught.value)
    assert "\n" not in str(caught.value)
