"""Every conversion between predictions over γ in [−20, 20], and the adapters, against float64 and closed forms."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import EPS

from vdm import bounds, gaussian, oracles, predictions
from vdm.predictions import KINDS, SIGMA_DATA, compose, convert, decompose, denoiser, error_factor

PAIRS = list(itertools.product(KINDS, KINDS))
STABLE = ("v", "u", "F")
# Relative, counted in half float32 spacings, of which every correctly rounded operation costs one and the exponential
# two: α and σ 3, r 3.5. The longest ways are F from x, with (z − α x)/σ 9, α times it 13, a sum 14 and 1/r 18.5, and
# the score from F, with σ/r 7.5, times z/r 13, a sum 14 and 1/σ 18. About 7 are seen.
RTOL = 10 * EPS

GAMMA = np.concatenate([np.linspace(-20, 20, 401), [-13.3, 13.3, 1e-3, 2 * np.log(SIGMA_DATA)]]).astype(np.float32)
# float64 columns that broadcast against the data below.
ALPHA, SIGMA = oracle.alpha(GAMMA)[:, None], oracle.sigma(GAMMA)[:, None]
RNG = np.random.default_rng(0)
X, NOISE = RNG.normal(0, SIGMA_DATA, (len(GAMMA), 8)), RNG.normal(size=(len(GAMMA), 8))
Z = (ALPHA * X + SIGMA * NOISE).astype(np.float32)


def rows(alpha, sigma) -> dict:
    """Each kind's definition a x + b ε as (a, b), in float64; F by Table 1 of Karras et al. for y = z/α = x + τ ε."""
    tau = sigma / alpha
    c_skip = SIGMA_DATA**2 / (tau**2 + SIGMA_DATA**2)
    one_minus_c_skip = tau**2 / (tau**2 + SIGMA_DATA**2)
    c_out = tau * SIGMA_DATA / np.sqrt(tau**2 + SIGMA_DATA**2)
    zero, one = np.zeros_like(alpha), np.ones_like(alpha)
    return {
        "x": (one, zero),
        "eps": (zero, one),
        "score": (zero, -1 / sigma),
        "v": (-sigma, alpha),
        "u": (-one, one),
        "F": (one_minus_c_skip / c_out, -c_skip * tau / c_out),  # (x − c_skip y)/c_out
    }


ROWS = rows(ALPHA, SIGMA)
VALUES = {kind: (a * X + b * NOISE).astype(np.float32) for kind, (a, b) in ROWS.items()}


def derivatives(source: str, target: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(∂target/∂source, ∂target/∂z, bound on |∂target/∂z|), by Cramer's rule for z = α x + σ ε, source = a x + b ε.

    The bound adds what the derivative subtracts: they differ only where both kinds contain both x and ε.
    """
    (a, b), (c, d) = (ROWS[kind] for kind in (source, target))
    determinant = ALPHA * b - SIGMA * a
    by_z, by_z_bound = c * b - d * a, np.abs(c * b) + np.abs(d * a)
    return (d * ALPHA - c * SIGMA) / determinant, by_z / determinant, by_z_bound / np.abs(determinant)


def allowed(source: str, target: str, value, z) -> np.ndarray:
    """The error that the conditioning allows: RTOL (|∂target/∂source| |source| + |∂target/∂z| |z|)."""
    by_value, _, by_z = derivatives(source, target)
    return RTOL * (np.abs(by_value * oracle.f64(value)) + by_z * np.abs(oracle.f64(z)))


@functools.cache
def converted(case: str) -> dict:
    """Every pair's conversion in one compiled program: of consistent data, of z alone and of the value alone."""
    zeros, ones = np.zeros_like(Z), np.ones_like(Z)
    values, z = {
        "data": (VALUES, Z), "z": (dict.fromkeys(KINDS, zeros), ones), "value": (dict.fromkeys(KINDS, ones), zeros)
    }[case]  # fmt: skip
    return _convert_all(values, z, GAMMA)


@jax.jit
def _convert_all(values, z, gamma):
    return {(source, target): convert(values[source], z, gamma, source, target) for source, target in PAIRS}


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_convert(source, target):
    """Within the bound of the float64 answer for the same float32 z and value."""
    by_value, by_z, _ = derivatives(source, target)
    expected = by_value * oracle.f64(VALUES[source]) + by_z * oracle.f64(Z)
    error = np.abs(converted("data")[source, target] - expected)
    assert np.all(error <= allowed(source, target, VALUES[source], Z))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_both_coefficients(source, target):
    """Each to float32 where the other term would hide it."""
    by_value, by_z, by_z_bound = derivatives(source, target)
    ones = np.ones(Z.shape)
    np.testing.assert_allclose(converted("value")[source, target], by_value * ones, rtol=RTOL)
    assert np.all(np.abs(converted("z")[source, target] - by_z) <= RTOL * by_z_bound)
    if not {source, target} <= set(STABLE):
        np.testing.assert_allclose(by_z_bound, np.abs(by_z))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_round_trip(source, target):
    there = converted("data")[source, target]
    back = convert(there, jnp.asarray(Z), jnp.asarray(GAMMA), target, source)
    carried = np.abs(derivatives(target, source)[0]) * allowed(source, target, VALUES[source], Z)
    assert np.all(np.abs(back - oracle.f64(VALUES[source])) <= carried + allowed(target, source, there, Z))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_itself(kind):
    np.testing.assert_array_equal(converted("data")[kind, kind], VALUES[kind])


@pytest.mark.parametrize(("source", "target"), [*itertools.product(STABLE, ("x", "eps"))])
def test_stable_kinds_magnify_no_error(source, target):
    """At any γ: both derivatives are of order 1, so x and ε come out to float32 accuracy."""
    by_value, by_z, _ = derivatives(source, target)
    assert np.max(np.abs(by_value)) <= 1
    assert np.max(np.abs(by_z)) < 1.2
    truth = X if target == "x" else NOISE
    assert np.max(np.abs(converted("data")[source, target] - truth)) < 40 * EPS


@pytest.mark.parametrize(("source", "target", "gamma"), [("eps", "x", 20), ("x", "eps", -20), ("eps", "x", 13.3)])
def test_what_the_docstring_calls_lost_is_lost(source, target, gamma):
    """float64 arithmetic on the float32 z and value errs by a twentieth of the bound: their last half spacing."""
    at = np.float32(gamma) == GAMMA
    by_value, by_z, _ = derivatives(source, target)
    exact = by_value * oracle.f64(VALUES[source]) + by_z * oracle.f64(Z)
    share = np.abs(exact - {"x": X, "eps": NOISE}[target]) / allowed(source, target, VALUES[source], Z)
    assert 1 / 60 < np.max(share[at]) <= 1 / 20


@pytest.mark.parametrize("kind", KINDS)
def test_pair_is_consistent(kind):
    """z = α x + σ ε, to the rounding of the larger term."""
    x, eps = decompose(jnp.asarray(VALUES[kind]), jnp.asarray(Z), jnp.asarray(GAMMA), kind)
    scale = ALPHA * np.abs(x) + SIGMA * np.abs(eps) + np.abs(Z)
    assert np.all(np.abs(ALPHA * oracle.f64(x) + SIGMA * oracle.f64(eps) - Z) <= RTOL * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_from_pair_is_the_definition(kind):
    x, eps = jnp.asarray(X, jnp.float32), jnp.asarray(NOISE, jnp.float32)
    by_x, by_eps = (a * oracle.f64(values) for a, values in zip(ROWS[kind], (x, eps), strict=True))
    error = np.abs(compose(x, eps, jnp.asarray(GAMMA), kind) - (by_x + by_eps))
    assert np.all(error <= RTOL * (np.abs(by_x) + np.abs(by_eps)))


def test_table_4_2():
    """As printed, but for the entries that are wrong or need α + σ = 1: the comments say what is printed."""
    z, v, u = (oracle.f64(values) for values in (Z, VALUES["v"], VALUES["u"]))
    x, eps, s = (oracle.f64(VALUES[kind]) for kind in ("x", "eps", "score"))
    total = ALPHA + SIGMA  # 1 in print, in all entries with u
    table = {
        ("eps", "x"): (z - SIGMA * eps) / ALPHA,
        ("score", "x"): (z + SIGMA**2 * s) / ALPHA,
        ("v", "x"): ALPHA * z - SIGMA * v,
        ("u", "x"): (z - SIGMA * u) / total,
        ("x", "eps"): (z - ALPHA * x) / SIGMA,
        ("score", "eps"): -SIGMA * s,
        ("v", "eps"): SIGMA * z + ALPHA * v,
        ("u", "eps"): (ALPHA * u + z) / total,
        ("x", "score"): (ALPHA * x - z) / SIGMA**2,
        ("eps", "score"): -eps / SIGMA,
        ("v", "score"): -(SIGMA * z + ALPHA * v) / SIGMA,  # printed −σz + αv
        ("u", "score"): -(ALPHA * u + z) / (SIGMA * total),  # printed −αu + z
        ("x", "v"): (ALPHA * z - x) / SIGMA,
        ("eps", "v"): (eps - SIGMA * z) / ALPHA,
        ("score", "v"): -SIGMA * (z + s) / ALPHA,
        ("u", "v"): (u + (ALPHA - SIGMA) * z) / total,  # printed u − z
        ("x", "u"): (z - total * x) / SIGMA,  # printed z − x
        ("eps", "u"): (eps * total - z) / ALPHA,  # printed ε(α − σ) − z
        ("score", "u"): -(SIGMA * s * total + z) / ALPHA,  # printed σs(σ − α) − z
        ("v", "u"): total * v + (SIGMA - ALPHA) * z,  # printed z + v
    }
    assert set(table) == {(source, target) for source, target in PAIRS if source != target} - {
        pair for pair in PAIRS if "F" in pair
    }
    for (source, target), expected in table.items():
        error = np.abs(converted("data")[source, target] - expected)
        assert np.all(error <= allowed(source, target, VALUES[source], Z)), (source, target)


def test_table_4_1():
    """The posterior mean given each prediction; the printed flow entry is this one for α_t + σ_t = 1."""
    rng = np.random.default_rng(1)
    gamma_s, gamma_t = np.asarray([(s, t) for s in range(-20, 20, 5) for t in range(-15, 21, 5) if s < t], float).T
    shape = (len(gamma_t), 3)
    x, eps = rng.normal(size=shape), rng.normal(size=shape)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = ((oracle.alpha(g)[:, None], oracle.sigma(g)[:, None])
                                              for g in (gamma_s, gamma_t))  # fmt: skip
    alpha_ts, var_ts = (values[:, None] for values in oracle.transition(gamma_s, gamma_t))
    z = alpha_t * x + sigma_t * eps
    value = {kind: a * x + b * eps for kind, (a, b) in rows(alpha_t, sigma_t).items()}
    value["energy"] = -value["score"]  # the energy's gradient
    mean = {
        "x": alpha_ts * sigma_s**2 / sigma_t**2 * z + alpha_s * var_ts / sigma_t**2 * x,
        "eps": z / alpha_ts - var_ts / (alpha_ts * sigma_t) * eps,
        "score": z / alpha_ts + var_ts / alpha_ts * value["score"],
        "energy": z / alpha_ts - var_ts / alpha_ts * value["energy"],
        "v": (1 - var_ts) / alpha_ts * z - var_ts * alpha_s / sigma_t * value["v"],
        "u": (sigma_t * (alpha_t + sigma_t) - var_ts) / (alpha_ts * sigma_t * (alpha_t + sigma_t)) * z
        - var_ts * alpha_s / (sigma_t * (alpha_t + sigma_t)) * value["u"],
    }
    with jax.enable_x64(True):
        z, gamma_s, gamma_t = (jnp.asarray(values) for values in (z, gamma_s, gamma_t))
        for kind, expected in mean.items():
            given = jnp.asarray(value[kind])
            network = (lambda z, _, g=given: (g * z).sum(1)) if kind == "energy" else (lambda *_, g=given: g)
            # A float64 prediction leaves the end of the other variable open to about 1e-16/1e-5.
            posterior = gaussian.posterior_from_eps(z, denoiser(network, kind)(z, gamma_t).eps, gamma_s, gamma_t)[0]
            np.testing.assert_allclose(posterior, expected, rtol=1e-6, atol=1e-6, err_msg=kind)
            if kind != "energy":
                x_hat = convert(given, z, gamma_t, kind, "x")
                posterior = gaussian.posterior(z, x_hat, gamma_s, gamma_t)[0]
                np.testing.assert_allclose(posterior, expected, rtol=1e-6, atol=1e-6, err_msg=kind)


def test_table_4_3():
    """Each loss in terms of the others' errors; printed 1/α² for the noise loss in v, which its own inverse refutes."""
    alpha, sigma = ALPHA[:, 0], SIGMA[:, 0]
    table = {
        ("eps", "x"): sigma**2 / alpha**2, ("v", "x"): sigma**2,
        ("x", "eps"): alpha**2 / sigma**2, ("v", "eps"): alpha**2,
        ("x", "v"): sigma**2 * (alpha**2 / sigma**2 + 1) ** 2, ("eps", "v"): alpha**2 * (sigma**2 / alpha**2 + 1) ** 2,
    }  # fmt: skip
    for (source, target), expected in table.items():
        np.testing.assert_allclose(error_factor(jnp.asarray(GAMMA), source, target) ** 2, expected, rtol=2 * RTOL)
    for source, target in PAIRS:
        factor = error_factor(jnp.float32(GAMMA[7]), source, target)
        assert factor.shape == ()
        np.testing.assert_allclose(factor, derivatives(source, target)[0][7, 0], rtol=RTOL)


def test_karras_preconditioning():
    """D(y) = c_skip y + c_out F(c_in y), y = z/α with noise τ = σ/α, of Karras et al. 2022, Table 1, at every γ."""

    def network(z, gamma):
        return jnp.cos(3 * z) + 0.1 * gamma[:, None]

    with jax.enable_x64(True):
        z, gamma = jnp.asarray(Z, float), jnp.asarray(GAMMA, float)
        eps_hat = np.asarray(denoiser(network, "F")(z, gamma).eps)
    y, tau = Z / ALPHA, SIGMA / ALPHA
    np.testing.assert_allclose(tau[:, 0], np.exp(oracle.f64(GAMMA) / 2))
    c_skip = SIGMA_DATA**2 / (tau**2 + SIGMA_DATA**2)
    c_out = tau * SIGMA_DATA / np.sqrt(SIGMA_DATA**2 + tau**2)
    c_in = 1 / np.sqrt(SIGMA_DATA**2 + tau**2)
    denoised = c_skip * y + c_out * (np.cos(3 * c_in * y) + 0.1 * GAMMA[:, None].astype(float))
    np.testing.assert_allclose(y - tau * eps_hat, denoised, rtol=1e-9, atol=1e-9)


def test_f_has_unit_variance():
    """So has what its network is given, and the two are uncorrelated, for data of standard deviation `SIGMA_DATA`."""
    gamma = jnp.asarray(GAMMA)
    seen = []
    zeros, ones = jnp.zeros((len(GAMMA), 1)), jnp.ones((len(GAMMA), 1))
    # By x/s and by ε, which have variance 1.
    by_x, by_eps = (compose(*pair, gamma, "F") for pair in ((SIGMA_DATA * ones, zeros), (zeros, ones)))
    for z in (SIGMA_DATA * gaussian.diffuse(ones, zeros, gamma), gaussian.diffuse(zeros, ones, gamma)):
        denoiser(lambda z, _: seen.append(z) or z, "F")(z, gamma)
    np.testing.assert_allclose(by_x**2 + by_eps**2, 1.0, rtol=2 * RTOL)
    np.testing.assert_allclose(seen[0] ** 2 + seen[1] ** 2, 1.0, rtol=2 * RTOL)
    np.testing.assert_allclose(by_x * seen[0] + by_eps * seen[1], 0.0, atol=2 * RTOL)


MIXTURE = oracles.mixture([0.3, 0.7], RNG.uniform(-1, 1, (2, 3)), [0.1, 0.3])


@pytest.mark.parametrize("kind", predictions.PREDICTIONS)
def test_an_exact_network_of_every_kind_is_the_oracle(kind):
    def network(z, gamma):
        if kind == "energy":
            return -MIXTURE.log_marginal(z, gamma)
        if kind == "F":  # undo the adapter's scaling of the input
            z = z * jnp.sqrt(jax.nn.sigmoid(gamma) + SIGMA_DATA**2 * jax.nn.sigmoid(-gamma))[:, None]
        return convert(MIXTURE.denoise(z, gamma), z, gamma, "eps", kind)

    with jax.enable_x64(True):
        z, gamma = jnp.asarray(Z[:, :3], float), jnp.asarray(GAMMA, float)
        expected = jax.jit(MIXTURE.denoise)(z, gamma)
        # x loses 1e-16/σ, which is 1/5e-5 at most.
        np.testing.assert_allclose(jax.jit(denoiser(network, kind))(z, gamma).eps, expected, rtol=1e-9, atol=1e-9)


def test_energy_trains():
    """The gradient of the diffusion loss, second-order in the energy, is that of the closed-form ε̂, also compiled."""

    def energy(parameters, z, gamma):
        var = jax.nn.sigmoid(gamma)[:, None]
        residual = z - jnp.sqrt(1 - var) * parameters["mean"][None]
        return jnp.sum(jnp.square(residual) / (2 * ((1 - var) * jnp.exp(2 * parameters["log_std"])[None] + var)), 1)

    def closed_form(parameters, z, gamma):
        return oracle.gaussian_eps(z, gamma[:, None], parameters["mean"][None], jnp.exp(parameters["log_std"])[None])

    def loss(make, parameters):
        return bounds.diffusion_loss_at(make(parameters), gamma, jnp.ones_like(gamma), x, noise).mean()

    with jax.enable_x64(True):
        gamma = jnp.linspace(-15, 15, 7)
        x, noise = (jnp.asarray(values[:7, :3]) for values in (X, NOISE))
        parameters = {"mean": jnp.array([0.1, -0.2, 0.3]), "log_std": jnp.array([-1.0, 0.0, 0.5])}
        ours = jax.jit(jax.value_and_grad(functools.partial(
            loss, lambda parameters: denoiser(functools.partial(energy, parameters), "energy")
        )))(parameters)  # fmt: skip
        expected = jax.value_and_grad(
            functools.partial(loss, lambda parameters: functools.partial(closed_form, parameters))
        )(parameters)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8), ours, expected)


def test_gradients_are_finite():
    """By value, z and γ, of every pair at once."""

    @jax.jit
    @jax.grad
    def gradient(arguments):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(_convert_all(*arguments)))

    for leaf in jax.tree.leaves(gradient((VALUES, Z, GAMMA))):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("kind", KINDS)
def test_zero_terminal_snr(kind):
    """At α = 0, γ = ∞, every kind still gives ε̂; x, v, u and F give x̂ too."""
    x, eps = (jnp.asarray(values[:2], jnp.float32) for values in (X, NOISE))
    x_hat, eps_hat = decompose(compose(x, eps, jnp.inf, kind), eps, jnp.inf, kind)
    np.testing.assert_allclose(eps_hat, eps, rtol=EPS)
    if kind not in ("eps", "score"):
        np.testing.assert_allclose(x_hat, x, atol=4 * EPS)


@pytest.mark.parametrize("kind", predictions.PREDICTIONS)
def test_denoiser_keeps_shape_and_dtype(kind):
    """Of z, for images, a scalar γ, and a network that computes in bfloat16; a scalar γ is every example's."""
    z = jnp.asarray(RNG.normal(size=(3, 4, 4, 2)), jnp.float32)

    def network(z, _):
        z = z.astype(jnp.bfloat16)
        return jnp.sum(z, (1, 2, 3)) if kind == "energy" else z

    denoise = denoiser(network, kind)
    one, other = denoise(z, 0.5), denoise(z, jnp.full(3, 0.5))
    for scalar, each in zip(one, other, strict=True):
        assert (scalar.shape, scalar.dtype) == (z.shape, z.dtype)
        np.testing.assert_allclose(scalar, each, rtol=RTOL, atol=RTOL)


def test_eps_is_passed_on_as_it_is():
    z, gamma = jnp.asarray(Z), jnp.asarray(GAMMA)
    np.testing.assert_array_equal(denoiser(lambda z, _: 0.3 * z, "eps")(z, gamma).eps, 0.3 * z)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (2, 3)])
def test_an_energy_that_is_not_one_number_an_example_is_refused(shape):
    with pytest.raises(ValueError, match=r"kind 'energy' has shape .* must be \(2,\), one number per example"):
        denoiser(lambda z, _: jnp.sum(z) * jnp.ones(shape), "energy")(jnp.ones((2, 3)), jnp.zeros(2))


def test_an_output_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"kind 'v' has shape \(2,\): must be \(2, 2\), the shape of z"):
        denoiser(lambda z, _: z.sum(1), "v")(jnp.ones((2, 2)), jnp.zeros(2))


ONES = jnp.ones((2, 3))


@pytest.mark.parametrize("call", [
    lambda: convert(ONES, ONES, 0.0, "noise", "x"), lambda: convert(ONES, ONES, 0.0, "x", "noise"),
    lambda: convert(ONES, ONES, 0.0, "noise", "noise"), lambda: decompose(ONES, ONES, 0.0, "noise"),
    lambda: compose(ONES, ONES, 0.0, "noise"), lambda: error_factor(0.0, "x", "noise"),
])  # fmt: skip
def test_unknown_kinds_are_refused(call):
    with pytest.raises(ValueError, match=r"='noise': must be one of x, eps, score, v, u, F$"):
        call()


def test_energy_is_a_prediction_but_no_linear_one():
    with pytest.raises(ValueError, match=r"source='energy': must be one of x, eps, score, v, u, F$"):
        convert(ONES, ONES, 0.0, "energy", "x")
    with pytest.raises(ValueError, match=r"kind='noise': must be one of x, eps, score, v, u, F, energy$"):
        denoiser(lambda z, _: z, "noise")


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(("answer", "says"), [
    (lambda z: z[:, :1], r"shape \(2, 1\): must be \(2, 3\), that of z"),
    (lambda z: z[0], r"shape \(3,\): must be"),
    (lambda z: 0.5, r"shape \(\): must be"),
    (lambda z: predictions.Prediction(z, z[:1]), r"shape \(1, 3\) and \(2, 3\): must be"),
    (lambda z: (z, z), r"a tuple: must be ε̂ or a Prediction\(x, eps\)"),
    (lambda z: [z, z], r"a list: must be"),
])  # fmt: skip
def test_an_answer_that_is_none_is_refused(answer, says):
    """Not broadcast to z."""
    with pytest.raises(ValueError, match=f"^the denoiser answers with {says}"):
        predictions.both(lambda z, gamma: answer(z))(jnp.ones((2, 3)), 0.0)


@pytest.mark.usefixtures("unannotated")
def test_what_is_no_function_is_no_denoiser():
    for other in (3, None, jnp.ones((2, 3)), "eps"):
        with pytest.raises(ValueError, match=r"^denoise=.*: must be a function"):
            predictions.both(other)
        with pytest.raises(ValueError, match=r"^network=.*: must be a function"):
            predictions.denoiser(other, "v")
