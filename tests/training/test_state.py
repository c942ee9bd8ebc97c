"""The optimiser, the moving average and the learning rate, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm.config import OptimizerConfig
from vdm.training.objective import Objective
from vdm.training.optimizers import decay_mask
from vdm.training.state import ema_decay, init_state, learning_rate, make_optimizer, update_ema


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def variables(model):
    return tiny.variables(model)


def leaves_by_path(tree) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("decay", [0.9999, 0.5])
def test_ema_is_the_warmed_up_recursion(variables, decay):
    """float64 recursion e ← d e + (1−d) v with d = min(decay, (1+n)/(10+n)), for every variable, the schedule's too."""
    config = OptimizerConfig(ema_decay=decay)
    update = jax.jit(lambda ema, v, n: update_ema(ema, v, ema_decay(config, n)))
    ema = variables
    expected = {path: np.float64(leaf) for path, leaf in leaves_by_path(variables).items()}
    assert any(path.startswith("['schedule']['shape']") for path in expected)
    for n in range(30):
        new = jax.tree.map(lambda v, n=n: v * (1 + 0.1 * n) + n, variables)
        ema = update(ema, new, jnp.int32(n))
        d = min(decay, (1 + n) / (10 + n))
        for path, leaf in leaves_by_path(new).items():
            expected[path] = d * expected[path] + (1 - d) * np.float64(leaf)
    for path, leaf in leaves_by_path(ema).items():
        # 30 updates, each rounded a few times at the size of the values, up to about 40.
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, atol=1e-4, err_msg=path)


def test_ema_of_constant_variables_is_that_constant(variables):
    for n in (0, 1, 100):
        same = update_ema(variables, variables, ema_decay(OptimizerConfig(), jnp.int32(n)))
        for ours, theirs in zip(jax.tree.leaves(same), jax.tree.leaves(variables), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (8, 0.5), (10**6, 0.9999)])
def test_ema_decay_warms_up(step, expected):
    np.testing.assert_allclose(ema_decay(OptimizerConfig(ema_decay=0.9999), jnp.int32(step)), expected, rtol=1e-6)


def test_decay_mask_is_kernels_only(variables):
    mask = leaves_by_path(decay_mask(variables["network"]))
    assert {path: value for path, value in mask.items() if value} == {
        path: True for path in mask if path.endswith("['kernel']")
    }
    for spared in ("bias", "scale"):
        assert any(path.endswith(f"['{spared}']") for path in mask)


def test_weight_decay_moves_kernels_and_nothing_else(model, variables):
    """With gradients of zero AdamW's update is −rate · decay · kernel; the first step's rate is that of no warm-up."""
    config = tiny.config()
    config.optimizer.warmup_steps, config.optimizer.learning_rate, config.optimizer.weight_decay = 0, 0.1, 0.02
    optimizer = make_optimizer(config)
    zeros = jax.tree.map(jnp.zeros_like, variables)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(variables), variables)
    before = leaves_by_path(variables)
    for path, update in leaves_by_path(updates).items():
        factor = -0.1 * 0.02 if path.startswith("['network']") and path.endswith("['kernel']") else 0.0
        np.testing.assert_allclose(update, factor * before[path], rtol=1e-5, err_msg=path)


def test_schedule_has_its_own_learning_rate(variables):
    """Adam's first step is −rate · sign(gradient) wherever the gradient is not tiny."""
    config = tiny.config()
    config.optimizer.warmup_steps, config.optimizer.weight_decay = 0, 0.0
    config.optimizer.learning_rate, config.optimizer.schedule_learning_rate = 0.01, 0.3
    optimizer = make_optimizer(config)
    gradients = jax.tree.map(lambda v: jnp.where(v > 0, 0.5, -0.5), variables)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(variables), variables)
    for path, update in leaves_by_path(updates).items():
        rate = 0.01 if path.startswith("['network']") else 0.3
        # Adam's epsilon 1e-8 against clipped gradients of about 1e-3: 1e-5 relative.
        np.testing.assert_allclose(np.abs(update), rate, rtol=1e-4, err_msg=path)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_clipping_is_by_the_networks_global_norm(variables, clip):
    """A huge gradient after a small one: Adam's step is m̂/√v̂ of what the clipping let through."""
    config = tiny.config()
    config.optimizer.warmup_steps, config.optimizer.weight_decay, config.optimizer.learning_rate = 0, 0.0, 1.0
    config.optimizer.clip_norm = clip
    optimizer = make_optimizer(config)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["network"]))
    norms = [0.5, 100.0]
    state, update = optimizer.init(variables), jax.jit(optimizer.update)
    for norm in norms:
        gradients = jax.tree.map(lambda v, norm=norm: jnp.full_like(v, norm / np.sqrt(count)), variables)
        updates, state = update(gradients, state, variables)
    seen = [min(norm, clip) if clip else norm for norm in norms]
    b1, b2 = config.optimizer.b1, config.optimizer.b2
    mean = (b1 * (1 - b1) * seen[0] + (1 - b1) * seen[1]) / (1 - b1**2)
    square = (b2 * (1 - b2) * seen[0] ** 2 + (1 - b2) * seen[1] ** 2) / (1 - b2**2)
    for leaf in jax.tree.leaves(updates["network"]):
        np.testing.assert_allclose(leaf, -mean / np.sqrt(square), rtol=1e-4)


def test_constant_learning_rate():
    rate = learning_rate(OptimizerConfig(learning_rate=0.2, warmup_steps=10), steps=1000)
    np.testing.assert_allclose([rate(n) for n in (0, 5, 10, 11, 999)], [0, 0.1, 0.2, 0.2, 0.2], rtol=1e-6)


def test_cosine_learning_rate():
    rate = learning_rate(OptimizerConfig(learning_rate=0.2, warmup_steps=10, decay="cosine"), steps=110)
    steps = np.array([10, 35, 60, 85, 110])
    expected = 0.1 * (1 + np.cos(np.pi * (steps - 10) / 100))
    np.testing.assert_allclose([rate(n) for n in steps], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose([rate(n) for n in (0, 5)], [0, 0.1], rtol=1e-6)


@pytest.mark.parametrize("decay", ["constant", "cosine"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 100), (10, 10), (10, 5)])
def test_learning_rate_is_finite_and_positive_after_any_warm_up(decay, warmup, steps):
    rate = learning_rate(OptimizerConfig(learning_rate=0.2, warmup_steps=warmup, decay=decay), steps)
    values = np.array([rate(n) for n in range(steps)])
    assert np.all(np.isfinite(values))
    assert np.all((values >= 0) & (values <= 0.2 * (1 + 1e-6)))
    assert np.all(values[1:-1] > 0)


def test_init_state(model):
    state = init_state(model, Objective(), make_optimizer(tiny.config()), seed=3)
    assert state.step == 0
    for ours, theirs in zip(jax.tree.leaves(state.ema), jax.tree.leaves(state.variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        # Not one buffer: the step donates the state.
        assert ours is not theirs
        assert ours.unsafe_buffer_pointer() != theirs.unsafe_buffer_pointer()
    assert jax.tree.structure(state.ema) == jax.tree.structure(state.variables)


def test_nothing_in_the_state_is_weakly_typed(model):
    """A weakly typed array becomes a strong one in the first update: the step would be compiled twice."""
    state = jax.eval_shape(lambda: init_state(model, Objective(), make_optimizer(tiny.config()), seed=0))
    weak = [path for path, leaf in leaves_by_path(state).items() if leaf.weak_type]
    assert weak == []
