"""Training at size: parts of a batch, rematerialisation and bfloat16 are the same gradient, on one device or eight."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import model as model_lib
from vdm import parallel, proposals
from vdm.errors import InputError
from vdm.training.accumulation import cut, joined
from vdm.training.objective import Objective, loss_and_gradients

NUM, PARTS = 64, 4
KEY = jax.random.key(11)
OBJECTIVE = Objective(proposal=proposals.adaptive())
HISTORY = proposals.Histogram(jnp.linspace(10.0, 500.0, proposals.BINS), jnp.full(proposals.BINS, 100.0))


def model(**network) -> model_lib.Model:
    """With a learned schedule, whose shape follows the variance."""
    return model_lib.for_training(tiny.config(**network))


@pytest.fixture(scope="module")
def variables():
    return tiny.variables(model())


@pytest.fixture(scope="module")
def batch():
    return {"image": tiny.images(NUM)}


@pytest.fixture(scope="module")
def whole(variables, batch):
    """(bound, gradients, proposal's next state) of the whole batch on one device, in float32."""
    return jax.jit(lambda v, b: loss_and_gradients(model(), OBJECTIVE, v, HISTORY, KEY, b))(variables, batch)


def distance(ours, theirs) -> dict[str, float]:
    """‖ours − theirs‖/‖theirs‖ of each leaf; relative to a thousandth of the largest leaf where that is more."""
    largest = max(np.linalg.norm(leaf) for leaf in jax.tree.leaves(theirs))
    return {
        jax.tree_util.keystr(path): float(np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-3 * largest))
        for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    }


def test_parts_on_eight_devices_rematerialised_are_the_whole_batch(variables, batch, whole):
    """Network, end points, the variance gradient of the shape, and the proposal; and no image changes its device."""
    mesh = parallel.make_mesh(NUM)
    assert mesh.devices.size == 8
    f = jax.jit(lambda v, b: loss_and_gradients(model(remat=True), OBJECTIVE, v, HISTORY, KEY, b, PARTS, mesh))
    args = jax.device_put(variables, parallel.replicated(mesh)), jax.device_put(batch, parallel.batch_sharding(mesh))
    compiled = f.lower(*args).compile()
    bound, gradients, proposal = compiled(*args)
    np.testing.assert_allclose(np.array(bound), np.array(whole[0]), rtol=1e-5)
    # Sums of float32 in another order; leaves of the schedule's shape are differences of nearly equal terms.
    assert max(distance(gradients["network"], whole[1]["network"]).values()) < 1e-3
    assert max(distance(gradients["schedule"], whole[1]["schedule"]).values()) < 2e-3
    np.testing.assert_allclose(proposal.total, whole[2].total, rtol=1e-4)
    np.testing.assert_allclose(proposal.draws, whole[2].draws, rtol=1e-6)
    found = set(re.findall(r" (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", compiled.as_text()))
    assert found == {"all-reduce"}


def test_bfloat16_is_float32_but_for_its_rounding(variables, batch, whole):
    f = jax.jit(lambda v, b: loss_and_gradients(model().computed_in("bfloat16"), OBJECTIVE, v, HISTORY, KEY, b))
    bound, gradients, proposal = f(variables, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((bound, gradients, proposal))} == {jnp.dtype(jnp.float32)}
    # What no network is asked is the same; roundings of ε̂ of 2⁻⁸, a few dozen of them, are in the diffusion loss.
    np.testing.assert_allclose(np.array(bound[:2]), np.array(whole[0][:2]), rtol=1e-6)
    np.testing.assert_allclose(bound.diffusion, whole[0].diffusion, rtol=1e-2)
    assert bound.diffusion != whole[0].diffusion
    ours, theirs = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(g["network"])]) for g in (gradients, whole[1]))
    assert ours @ theirs > 0.995 * jnp.linalg.norm(ours) * jnp.linalg.norm(theirs)


def test_parts_are_cut_within_devices_and_joined_again():
    """Each of 8 devices has rows 4d … 4d + 3 of 32: one of them in each of 4 parts."""
    x = {"a": jnp.arange(32), "b": jnp.arange(64.0).reshape(32, 2)}
    parts = jax.tree.map(lambda leaf: cut(leaf, 4, None), x)
    for part in range(4):
        np.testing.assert_array_equal(parts["a"][part] // 4, np.arange(8))
    for name, value in x.items():
        np.testing.assert_array_equal(joined(parts[name]), value)


def test_training_alone_has_its_precision_and_remat():
    config = tiny.config(remat=True)
    config.training.precision = "bfloat16"
    in_float32, trained = model_lib.from_config(config), model_lib.for_training(config)
    assert (in_float32.precision, in_float32.network.dtype, in_float32.network.remat) == ("float32", jnp.float32, False)
    assert (trained.precision, trained.network.dtype, trained.network.remat) == ("bfloat16", jnp.bfloat16, True)
    # That of a model that the caller made, too.
    given = model_lib.for_training(config, model_lib.from_config(tiny.config(channels=4)))
    assert (given.precision, given.network.dtype, given.network.channels) == ("bfloat16", jnp.bfloat16, 4)


def test_parts_that_the_devices_do_not_divide_are_refused():
    with pytest.raises(InputError, match=r"accumulate=16: makes parts of 4 images, .* the 8 devices; .* 128"):
        parallel.make_mesh(64, accumulate=16)
    assert parallel.make_mesh(64, accumulate=8).devices.size == 8
