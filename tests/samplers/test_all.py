"""What holds for every sampler: calls, images apart from their batch, steps of no length, pure noise, names."""

from functools import cache, partial

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import gaussian, parts, predictions, samplers, schedules

NAMES = [
    *parts.names("sampler"), "ddpm(small)", "ddpm(none)", "ddim(eta=0.5)", "euler(0.1)", "heun(churn=0.1)",
    "dpm_solver_pp(1)", "dpm_solver_pp(3)", "dpm_solver_pp(2, stochastic=True)", "unipc(1)", "unipc(3)",
    "predictor_corrector(steps=2, snr=0.1)",
]  # fmt: skip
CALLS = {"heun": 2, "heun(churn=0.1)": 2, "predictor_corrector": 2, "predictor_corrector(steps=2, snr=0.1)": 3}
DETERMINISTIC = {"ddim", "euler", "heun", "dpm_solver_pp(1)", "dpm_solver_pp", "dpm_solver_pp(3)"} | {
    "unipc(1)", "unipc", "unipc(3)"
}  # fmt: skip
GAMMAS = jnp.asarray(affine.GAMMAS)
SHAPE = (5, 3)


@cache
def runner(name):
    """One compiled program a sampler and shape."""
    sampler = parts.make("sampler", name)
    return jax.jit(partial(samplers.sample, denoise=affine.denoise, sampler=sampler), static_argnames=("shape",))


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_what_the_sampler_says(name):
    calls, sampler = [], parts.make("sampler", name)

    def counted(z, gamma):
        jax.debug.callback(lambda gamma: calls.append(float(gamma)), gamma, ordered=True)
        return affine.denoise(z, gamma)

    jax.jit(lambda key: samplers.sample(key, counted, sampler, GAMMAS, SHAPE))(jax.random.key(0))
    jax.effects_barrier()
    assert sampler.calls == CALLS.get(name, 1)
    assert len(calls) == sampler.calls * (len(GAMMAS) - 1)
    if "churn" not in name and "euler(" not in name:
        starts, rest = calls[:: sampler.calls], [calls[n :: sampler.calls] for n in range(1, sampler.calls)]
        np.testing.assert_array_equal(np.float32(starts), GAMMAS[:-1])
        for ends in rest:
            np.testing.assert_array_equal(np.float32(ends), GAMMAS[1:])


@pytest.mark.parametrize("name", NAMES)
def test_which_samplers_draw_noise(name):
    deterministic = name in DETERMINISTIC | {"ddpm(none)"}
    assert samplers.is_deterministic(parts.make("sampler", name), GAMMAS) is deterministic


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_the_batch_but_on_the_key(name):
    key, run = jax.random.key(3), runner(name)
    five = run(key, gammas=GAMMAS, shape=SHAPE)
    # Vectorised in other lengths: at most the last bits differ, and x̂ magnifies them by 7.
    np.testing.assert_allclose(run(key, gammas=GAMMAS, shape=(2, 3), first=3), five[3:], rtol=1e-5, atol=1e-5)
    assert np.all(run(jax.random.key(4), gammas=GAMMAS, shape=SHAPE) != five)


@pytest.mark.parametrize("name", [name for name in NAMES if "predictor" not in name])
def test_a_step_of_no_length_changes_nothing(name):
    """At the start, and later, when there is a history: nor does it spoil what comes after.

    But of predictor_corrector, whose Langevin steps are at one noise level, and so move z by nature.
    """
    run, key = runner(name), jax.random.key(0)
    twice = jnp.asarray(np.insert(affine.GAMMAS, 4, affine.GAMMAS[4]))
    if name in DETERMINISTIC:
        plain = run(key, gammas=GAMMAS, shape=SHAPE)
        # A history with a guess twice counts it once: a step or two of lower order.
        tolerance = 0.15 if name in ("dpm_solver_pp", "dpm_solver_pp(3)", "unipc(1)", "unipc", "unipc(3)") else 1e-5
        np.testing.assert_allclose(run(key, gammas=twice, shape=SHAPE), plain, atol=tolerance)
    if "0.1" in name:
        return  # Churn goes up first.
    sampler = parts.make("sampler", name)
    step = jax.jit(partial(sampler.step, denoise=predictions.both(affine.denoise)))
    keys, z = samplers.initial_latents(key, SHAPE)
    memory, gamma_t = sampler.init(z), GAMMAS[0]
    for gamma_s in (GAMMAS[0], GAMMAS[1], GAMMAS[1], GAMMAS[2]):
        result = step(keys, z=z, memory=memory, gamma_t=gamma_t, gamma_s=gamma_s)
        if gamma_s == gamma_t and not (name.startswith("unipc") and gamma_s != GAMMAS[0]):
            # UniPC corrects where it is, whatever the step.
            np.testing.assert_allclose(result.z, z, rtol=1e-6, atol=1e-6)
        z, memory, gamma_t = result.z, result.memory, gamma_s
    assert np.all(np.isfinite(z))


@pytest.mark.parametrize("name", NAMES)
def test_what_moves_z_between_steps_reaches_the_sampler(name):
    """z moved halfway moves z₀ by what it moves it for a sampler that starts there, with the same noise.

    So it is for every sampler whose memory is no copy of z; of several steps but for O(h), their x̂ of before the move.
    """
    sampler, gammas, half = parts.make("sampler", name), jnp.linspace(6.0, -6.0, 61), 30

    @jax.jit
    def finish(keys, z, memory):
        def step(carry, inputs):
            result = sampler.step(keys, predictions.both(affine.denoise), carry[0], carry[1], *inputs)
            return (result.z, result.memory), None

        return jax.lax.scan(step, (z, memory), (gammas[half:-1], gammas[half + 1 :]))[0][0]

    def begin(keys, z, memory):
        for gamma_t, gamma_s in zip(gammas[half - 4 : half], gammas[half - 3 :], strict=False):
            memory = sampler.step(keys, predictions.both(affine.denoise), z, memory, gamma_t, gamma_s).memory
        return memory

    keys, z = samplers.initial_latents(jax.random.key(0), (3, 64))
    memory = jax.jit(begin)(keys, z, sampler.init(z))
    moved, fresh = (finish(keys, z + 0.3, m) - finish(keys, z, m) for m in (memory, sampler.init(z)))
    assert np.abs(fresh).max() > 0.02 or name == "ddpm(none)"
    # The steps are of 0.1 in log α/σ.
    np.testing.assert_allclose(moved, fresh, rtol=0.1 if jax.tree.leaves(memory) else 1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpm_solver_pp", "dpm_solver_pp(2, stochastic=True)", "unipc", "unipc(3)"])
def test_corrections_reach_predictors_of_several_steps(name):
    """Var z₀ over that of q(z₀), predicted and corrected twice a step by snr 0.16, in 512 dimensions.

    Langevin steps of size a = 4 snr² = 0.1 leave 1/(1 − a/2) times what the predictor does not take back, and those
    outnumber it: 1.03 for predictors of one step. Those of several take the jump of x̂ for a slope, and more for the
    SDE: O(h) more, here up to 1.11, with steps of half the size 1.06.
    """
    std, gammas = 0.5, jnp.linspace(6.0, -8.0, 121)
    exact = oracle.alpha(-8.0) ** 2 * std**2 + oracle.sigma(-8.0) ** 2
    corrected = samplers.predictor_corrector(2, 0.16, parts.make("sampler", name))

    @jax.jit
    def draw(key):
        return samplers.sample(key, lambda z, g: oracle.gaussian_eps(z, g, 0, std), corrected, gammas, (20, 512))

    # Three standard errors of a variance are 0.04.
    assert 1.0 < np.var(draw(jax.random.key(0))) / exact < 1.15


@pytest.mark.parametrize("name", NAMES)
def test_from_pure_noise(name):
    """γ₁ = ∞ is q(z₁) itself: the marginal of z₀ has no error but of the steps."""

    def network(z, gamma):
        gamma = gaussian.expand(gamma, z)
        alpha = gaussian.alpha(gamma)
        gain = alpha * affine.STD**2 / (alpha**2 * affine.STD**2 + jax.nn.sigmoid(gamma))
        return affine.MEAN + gain * (z - alpha * affine.MEAN)

    num_steps, gamma_0 = 100, -6.0
    denoise = predictions.denoiser(network, "x")
    even = samplers.grid(partial(schedules.linear(gamma_0, 6.0).gamma, {}), num_steps)
    gammas = samplers.grids.zero_terminal_snr(even)
    shape = (500, 16) if name not in DETERMINISTIC else (20, 1)
    _, z_1 = samplers.initial_latents(jax.random.key(0), shape)
    run = jax.jit(partial(samplers.sample, denoise=denoise, sampler=parts.make("sampler", name), shape=shape))
    z_0 = oracle.f64(run(jax.random.key(0), gammas=gammas))
    mean = oracle.alpha(gamma_0) * affine.MEAN
    std = np.hypot(oracle.alpha(gamma_0) * affine.STD, oracle.sigma(gamma_0))
    if name in DETERMINISTIC:
        np.testing.assert_allclose(z_0, mean + std * z_1, atol=0.04)
        return
    # 8000 pixels: standard errors of 0.007 and, relative to the variance, 0.016; the rest is the steps' error.
    assert abs(z_0.mean() - mean) < 0.03
    if name == "ddpm(none)":
        assert z_0.var() < 0.1 * std**2
    else:
        # Corrections of 16 pixels widen by up to 4/16: test_predictor_corrector.
        assert abs(z_0.var() / std**2 - 1) < (0.3 if "predictor" in name else 0.12)


@pytest.mark.parametrize(("text", "says"), [
    ("dim", r"sampler='dim': must be one of ancestral, ddpm, ddim, euler"),
    ("ddim(", r"sampler='ddim\(': must be a name"),
    ("ddim(2)", r"sampler='ddim\(2\)': eta=2.0: must be a number from 0 to 1; usage: ddim\(eta=0.0\)"),
    ("ddim(steps=2)", r"sampler='ddim\(steps=2\)': .*steps.*; usage: ddim\(eta=0.0\)"),
    ("ddpm(big)", r"variance='big': must be one of 'small', 'large', 'none'; usage: ddpm\(variance='large'\)"),
    ("ancestral(1)", r"sampler='ancestral\(1\)': .*; usage: ancestral\(\)"),
])  # fmt: skip
def test_names_that_are_none_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        parts.make("sampler", text)


def test_descriptions_are_a_line_with_a_reference():
    descriptions = parts.describe("sampler")
    assert list(descriptions) == list(parts.names("sampler"))
    for line in descriptions.values():
        assert any(mark in line for mark in ("20", "Eq.")), line
        assert line.endswith("."), line


NO_SAMPLERS = [3, 0, "ddim", None, samplers.ddim, (lambda z: (), lambda *args: None)]


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("other", NO_SAMPLERS)
def test_what_is_no_sampler_is_refused(other):
    """Not drawn from, and not taken for the default."""
    key, z = jax.random.key(0), jnp.zeros((2, 3))
    calls = {
        "sampler": [
            lambda: samplers.sample(key, affine.denoise, other, GAMMAS, (2, 3)),
            lambda: samplers.sample_from(key, affine.denoise, other, GAMMAS, z),
            lambda: samplers.sample_trajectory(key, affine.denoise, other, GAMMAS, (2, 3), (0,)),
            lambda: samplers.is_deterministic(other, GAMMAS),
            lambda: samplers.pmapped(lambda: affine.denoise, other, (8, 3)),
        ],
        "predictor": [],
    }
    if other is not None:  # There the default is meant.
        calls["sampler"].append(lambda: samplers.invert(affine.denoise, z, GAMMAS, other))
        calls["predictor"].append(lambda: samplers.predictor_corrector(predictor=other))
    for name, those in calls.items():
        for call in those:
            with pytest.raises(ValueError, match=rf"^{name}=.*: must be a Sampler, such as ddim\(\) returns"):
                call()
