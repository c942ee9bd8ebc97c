"""The sampling loop: its grid, its number of calls, its randomness an image, its frames."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import predictions, samplers, schedules

GAMMA = partial(schedules.cosine(-9.0, 5.0).gamma, {})
SHAPE = (5, 2, 3)


def denoise(z, gamma):
    """Any function of z and γ that moves them about, elementwise."""
    return jnp.tanh(z + 0.1 * gamma)


@partial(jax.jit, static_argnames=("shape", "steps"))
def run(key, gammas, shape=SHAPE, steps=(), first=0):
    return samplers.sample_trajectory(key, denoise, samplers.ancestral(), gammas, shape, steps, first)


@pytest.mark.parametrize("num_steps", [1, 250])
@pytest.mark.parametrize("schedule", [
    schedules.linear(-13.3, 5.0), schedules.cosine(-13.3, 5.0), schedules.learned_monotone(-13.3, 5.0, hidden=3)
])  # fmt: skip
def test_grid(schedule, num_steps):
    params = schedule.init(jax.random.key(0))
    gammas = samplers.grid(partial(schedule.gamma, params), num_steps)
    assert gammas.shape == (num_steps + 1,)
    assert gammas[0] == schedule.gamma(params, 1.0)
    assert gammas[-1] == schedule.gamma(params, 0.0)
    assert np.all(np.diff(gammas) < 0)
    times = np.arange(num_steps, -1, -1) / num_steps
    # i/T in float32, at slopes of γ up to 2300 (cosine): a spacing of 6e-8 in time each.
    np.testing.assert_allclose(gammas, schedule.gamma(params, jnp.asarray(times, jnp.float32)), rtol=1e-5, atol=3e-4)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_grid_refuses_no_steps(num_steps):
    with pytest.raises(ValueError, match=f"num_steps={num_steps}: must be a whole number, 1 or more"):
        samplers.grid(GAMMA, num_steps)


@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_exactly_one_network_call_a_step_at_the_grids_gammas(num_steps):
    calls = []

    def counted(z, gamma):
        jax.debug.callback(lambda gamma: calls.append(float(gamma)), gamma, ordered=True)
        return denoise(z, gamma)

    gammas = samplers.grid(GAMMA, num_steps)
    jax.jit(lambda key: samplers.sample(key, counted, samplers.ancestral(), gammas, SHAPE))(jax.random.key(0))
    jax.effects_barrier()
    np.testing.assert_array_equal(np.float32(calls), gammas[:-1])


def test_the_loop_is_the_python_loop():
    """z₀ and every x̂, against the sampler's own step called in turn."""
    key, num_steps = jax.random.key(3), 6
    gammas = samplers.grid(GAMMA, num_steps)
    z_0, frames = run(key, gammas, steps=tuple(range(num_steps)))

    sampler = samplers.ancestral()
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(SHAPE[0]))
    z = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 0), SHAPE[1:]))(keys)
    memory = sampler.init(z)
    for n in range(num_steps):
        step_keys = jax.vmap(lambda k, n=n: jax.random.fold_in(k, n + 1))(keys)
        result = sampler.step(step_keys, predictions.both(denoise), z, memory, gammas[n], gammas[n + 1])
        z, memory = result.z, result.memory
        # The same float32 operations, compiled apart.
        np.testing.assert_allclose(frames[n], result.x_hat, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(z_0, z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [(), (0, 5), (1, 2, 4)])
def test_chosen_frames_are_those_of_the_whole_trajectory(steps):
    key, gammas = jax.random.key(3), samplers.grid(GAMMA, 6)
    z_0, frames = run(key, gammas, steps=steps)
    whole_z_0, whole = run(key, gammas, steps=tuple(range(6)))
    assert frames.shape == (len(steps), *SHAPE)
    # The same operations in two programs: XLA may round the last bits otherwise.
    np.testing.assert_allclose(frames, whole[np.array(steps, int)], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z_0, whole_z_0, rtol=1e-5, atol=1e-6)


def test_other_parts_of_a_step_may_be_kept():
    key, gammas = jax.random.key(3), samplers.grid(GAMMA, 4)
    args = key, denoise, samplers.ancestral(), gammas, SHAPE
    z_0, latents = samplers.sample_trajectory(*args, (0, 3), keep=lambda step: step.z)
    np.testing.assert_array_equal(latents[1], z_0)
    first = samplers.sample(key, denoise, samplers.ancestral(), gammas[:2], SHAPE)
    np.testing.assert_allclose(latents[0], first, rtol=1e-5, atol=1e-6)


def test_sampling_from_the_same_latents_is_sampling():
    key, gammas = jax.random.key(3), samplers.grid(GAMMA, 4)
    _, z_1 = samplers.initial_latents(key, SHAPE, 7)
    args = key, denoise, samplers.ancestral(), gammas
    np.testing.assert_array_equal(samplers.sample_from(*args, z_1, 7), samplers.sample(*args, SHAPE, 7))
    assert np.all(samplers.sample_from(*args, z_1 + 1, 7) != samplers.sample(*args, SHAPE, 7))


def test_sample_is_the_trajectorys_end():
    key, gammas = jax.random.key(3), samplers.grid(GAMMA, 6)
    z_0 = jax.jit(lambda key, gammas: samplers.sample(key, denoise, samplers.ancestral(), gammas, SHAPE))(key, gammas)
    np.testing.assert_allclose(z_0, run(key, gammas, steps=(2,))[0], rtol=1e-5, atol=1e-6)


def test_an_image_does_not_depend_on_the_batch():
    """Image k of key K is one image, however many are made with it and wherever the batch begins."""
    key, gammas = jax.random.key(3), samplers.grid(GAMMA, 4)
    five, _ = run(key, gammas)
    for num, first in ((1, 0), (1, 3), (2, 3)):
        some, _ = run(key, gammas, shape=(num, *SHAPE[1:]), first=first)
        # Vectorised in other lengths: at most the last bits differ.
        np.testing.assert_allclose(some, five[first : first + num], rtol=1e-5, atol=1e-6)
    later, _ = run(key, gammas, first=100)
    other_key, _ = run(jax.random.key(4), gammas)
    for different in (later, other_key, np.roll(five, 1, axis=0)):
        assert np.all(different != five)


def test_first_latents_are_normal_and_independent():
    keys, z = samplers.initial_latents(jax.random.key(0), (4000, 3))
    assert keys.shape == (4000,)
    assert abs(float(jnp.mean(z))) < 4 / np.sqrt(12_000)
    # The variance of z² is 2.
    assert abs(float(jnp.mean(z**2)) - 1) < 4 * np.sqrt(2 / 12_000)
    assert abs(float(jnp.mean(z[1:, 0] * z[:-1, 0]))) < 4 / np.sqrt(4000)


def test_a_new_grid_of_equal_length_or_offset_does_not_recompile():
    traces = []

    @jax.jit
    def traced(key, gammas, first):
        traces.append(None)
        return samplers.sample(key, denoise, samplers.ancestral(), gammas, (2, 3), first)

    traced(jax.random.key(0), samplers.grid(GAMMA, 3), 0)
    traced(jax.random.key(1), samplers.grid(GAMMA, 3) + 1.0, 7)
    assert len(traces) == 1


def test_a_samplers_memory_is_carried():
    """A sampler that counts its steps in its memory and adds the count to z."""

    def step(keys, denoise, z, memory, gamma_t, gamma_s):
        return samplers.Step(z + memory, z, memory + 1)

    counter = samplers.Sampler(init=lambda z: jnp.float32(1), step=step)
    key, gammas = jax.random.key(0), samplers.grid(GAMMA, 4)
    z_0 = samplers.sample(key, denoise, counter, gammas, (2, 3))
    _, z_1 = samplers.initial_latents(key, (2, 3))
    np.testing.assert_allclose(z_0, z_1 + (1 + 2 + 3 + 4), rtol=1e-6)


@pytest.mark.parametrize("steps", [(3, 1), (1, 1), (-1, 0), (0, 4), (4,)])
def test_refuses_frames_that_are_not_steps_in_order(steps):
    with pytest.raises(ValueError, match=r"must be increasing and from 0 to 3"):
        samplers.sample_trajectory(
            jax.random.key(0), denoise, samplers.ancestral(), samplers.grid(GAMMA, 4), SHAPE, steps
        )


def test_the_step_after_which_an_image_is_not_finite_is_told():
    """From γ ≤ −2 on for image 1, from the start for image 3, never for the others."""
    z_1 = jnp.ones((5, 2)).at[3, 1].set(jnp.inf)

    def failing(z, gamma):
        return jnp.where((gamma <= -2) & (jnp.arange(5) == 1)[:, None], jnp.nan, denoise(z, gamma))

    gammas = jnp.asarray([4.0, 1.0, -1.9, -2.0, -3.0, -5.0])
    run = jax.jit(lambda key, z_1: samplers.run(key, failing, samplers.ancestral(), gammas, z_1))
    result = run(jax.random.key(0), z_1)
    assert result.bad_step.tolist() == [-1, 3, -1, 0, -1]
    assert np.isfinite(result.z_0).all(axis=1).tolist() == [True, False, True, False, True]


def test_what_is_not_asked_for_is_not_computed():
    lowered = jax.jit(lambda key: samplers.sample(key, denoise, samplers.ancestral(), samplers.grid(GAMMA, 9), SHAPE))
    assert "is-finite" not in lowered.lower(jax.random.key(0)).compile().as_text()
    checked = jax.jit(
        lambda key: samplers.run(key, denoise, samplers.ancestral(), samplers.grid(GAMMA, 9), jnp.ones(SHAPE))
    )
    assert "is-finite" in checked.lower(jax.random.key(0)).compile().as_text()


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(("gammas", "says"), [
    ([3, 1, -2], r"int32 of shape \(3,\): must be floating-point numbers of shape \(T \+ 1,\), T ≥ 1"),
    ([1.0], r"float32 of shape \(1,\): must be"),
    (1.0, r"float32 of shape \(\): must be"),
    ([[3.0, 1.0]], r"float32 of shape \(1, 2\): must be"),
    ([3.0, -2.0, 1.0], "must go down all the way, or up to invert, without NaN"),
    ([3.0, np.nan, 1.0], "must go down all the way"),
])  # fmt: skip
def test_what_is_no_grid_is_refused(gammas, says):
    for call, last in ((samplers.sample, SHAPE), (samplers.sample_from, jnp.zeros(SHAPE))):
        with pytest.raises(ValueError, match=f"^gammas: {says}"):
            call(jax.random.key(0), denoise, samplers.ancestral(), jnp.asarray(gammas), last)


def test_a_grid_upwards_inverts_and_draws_nothing_from_noise():
    gammas = samplers.grid(GAMMA, 3)[::-1]
    with pytest.raises(ValueError, match=r"gammas: from -9 up to 5: must go down, from noise to data"):
        samplers.sample(jax.random.key(0), denoise, samplers.ancestral(), gammas, SHAPE)
    samplers.sample_from(jax.random.key(0), denoise, samplers.ddim(), gammas, jnp.zeros(SHAPE))
