"""Variance exploding and flow as rescalings: coordinates, round trips, the same bound and the same samples in each.

What a process is, and its losses and ODEs, are written here in its own coordinates, in float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import EPS
from scipy.special import expit, softmax

from vdm import bounds, gaussian, oracles, predictions, processes
from vdm.processes import KINDS, adopt, view

PROCESSES = {"exploding": processes.variance_exploding(), "flow": processes.flow()}
TRAINED_AS = {"exploding": "x", "flow": "u"}
GAMMA = np.concatenate([np.linspace(-20, 20, 81), [-13.3, 13.3, 1e-3]]).astype(np.float32)
RNG = np.random.default_rng(0)
X, NOISE = RNG.uniform(-1, 1, (len(GAMMA), 4)), RNG.normal(size=(len(GAMMA), 4))
WEIGHT, BIAS = RNG.normal(0, 0.5, (4, 4)), RNG.normal(0, 0.1, 4)
every_process = pytest.mark.parametrize("name", PROCESSES)


def native(name: str, gamma) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a, b, time) with y = a x + b ε; 1 − t as the other sigmoid, which does not cancel."""
    s, t = np.exp(oracle.f64(gamma) / 2), expit(oracle.f64(gamma) / 2)
    return {"exploding": (np.ones_like(s), s, s), "flow": (expit(-oracle.f64(gamma) / 2), t, t)}[name]


def tanh_network(z, level):
    """Bounded and smooth in both arguments; its derivative in z is at most |WEIGHT|, in the level |BIAS|."""
    weight, bias = (jnp.asarray(values, z.dtype) for values in (WEIGHT, BIAS))
    return jnp.tanh(z @ weight + gaussian.expand(level, z) * bias[None])


def native_network(y, time):
    """The same for a latent and a time that may be large."""
    time = jnp.asarray(time)
    return tanh_network(y / (1 + gaussian.expand(time, y)), time / (1 + time))


VP = predictions.denoiser(tanh_network, "v")
MODELS = {"vp": VP} | {n: adopt(native_network, PROCESSES[n], TRAINED_AS[n]) for n in PROCESSES}


def time_back(name: str, gamma, eps: float) -> np.ndarray:
    """How far γ may be from gamma(time(γ)) with spacing `eps`.

    Time errs by 2 spacings of itself, t by 2 of 1: that is times dγ/dt = 2/(t (1−t)), or times 2/s. The logarithm and
    its argument add 2 spacings of 1 each, and one of γ.
    """
    margin = native(name, gamma)[0]
    return eps * (4 / margin + 4 + np.abs(oracle.f64(gamma)))


@every_process
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coordinates(name, dtype):
    """c α and c σ are the coefficients, time is the process's own, and c z is its latent."""
    process, eps = PROCESSES[name], np.finfo(dtype).eps
    a, b, time = native(name, GAMMA)
    with jax.enable_x64(dtype == np.float64):
        gamma, x, noise = (jnp.asarray(values, dtype) for values in (GAMMA, X, NOISE))
        c, times = oracle.f64(process.scale(gamma)), process.time(gamma)
        y = oracle.f64(process.scale(gamma)[:, None] * gaussian.diffuse(x, noise, gamma))
    np.testing.assert_allclose(c * oracle.alpha(GAMMA), a, rtol=3 * eps)
    np.testing.assert_allclose(c * oracle.sigma(GAMMA), b, rtol=3 * eps)
    np.testing.assert_allclose(times, time, rtol=2 * eps)
    terms = a[:, None] * oracle.f64(x), b[:, None] * oracle.f64(noise)
    assert np.all(np.abs(y - sum(terms)) <= 6 * eps * sum(np.abs(term) for term in terms))


@every_process
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_time_tells_gamma(name, dtype):
    process = PROCESSES[name]
    with jax.enable_x64(dtype == np.float64):
        gamma = jnp.asarray(GAMMA, dtype)
        back = process.gamma(process.time(gamma))
    assert back.dtype == dtype
    assert np.all(np.abs(oracle.f64(back) - GAMMA) <= time_back(name, GAMMA, np.finfo(dtype).eps))


def test_what_the_docstring_calls_lost_is_lost():
    flow = PROCESSES["flow"]
    for middle, lost in ((10, 3e-5), (20, 3e-3)):
        gamma = jnp.linspace(middle - 0.2, middle, 200)
        assert lost / 2 < np.max(np.abs(flow.gamma(flow.time(gamma)) - gamma)) < 1.5 * lost
    assert flow.time(jnp.float32(33.2)) < 1 == flow.time(jnp.float32(33.3))


def test_the_ends_of_the_flow():
    """At t = 1 y is ε, at t = 0 it is x: a network of v or u gives the other."""
    y = jnp.asarray(X, jnp.float32)
    for model in (VP, MODELS["flow"]):
        for time, own, sign in ((1.0, "eps", -1), (0.0, "x", 1)):
            here, u = (view(model, PROCESSES["flow"], kind)(y, jnp.float32(time)) for kind in (own, "u"))
            np.testing.assert_array_equal(here, y)
            other = view(model, PROCESSES["flow"], "x" if own == "eps" else "eps")(y, jnp.float32(time))
            np.testing.assert_allclose(u, sign * (other - y), rtol=EPS, atol=0)
            assert np.all(np.isfinite(u))
            assert np.std(other) > 0.1


def solve(value, y, a, b, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, ε) with y = a x + b ε from a prediction, in float64."""
    match kind:
        case "x":
            return value, (y - a * value) / b
        case "eps":
            return (y - b * value) / a, value
        case _:
            return (y - b * value) / (a + b), (y + a * value) / (a + b)


@every_process
@pytest.mark.parametrize("kind", KINDS)
def test_adopt_solves_the_native_equation(name, kind):
    """Also for one time for all. float64 leaves 1e-16/α of an "eps", 1e-16/σ of an "x" and of γ open, 5e-12 at most."""
    a, b, time = (values[:, None] for values in native(name, GAMMA))
    y = a * X + b * NOISE
    z = oracle.alpha(GAMMA)[:, None] * X + oracle.sigma(GAMMA)[:, None] * NOISE
    with jax.enable_x64(True):
        denoise = adopt(native_network, PROCESSES[name], kind)
        x_hat, eps_hat = denoise(jnp.asarray(z), jnp.asarray(GAMMA, float))
        value = oracle.f64(native_network(jnp.asarray(y), jnp.asarray(time[:, 0])))
        scalar = denoise(jnp.asarray(z[:3]), jnp.asarray(GAMMA[1], float))
        np.testing.assert_array_equal(scalar, denoise(jnp.asarray(z[:3]), jnp.full(3, GAMMA[1], float)))
    expected_x, expected_eps = solve(value, y, a, b, kind)
    np.testing.assert_allclose(x_hat, expected_x, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(eps_hat, expected_eps, rtol=1e-9, atol=1e-10)


@every_process
@pytest.mark.parametrize("kind", KINDS)
def test_view_shows_what_the_denoiser_thinks(name, kind):
    a, b, time = native(name, GAMMA)
    y = a[:, None] * X + b[:, None] * NOISE
    alpha, sigma = oracle.alpha(GAMMA)[:, None], oracle.sigma(GAMMA)[:, None]
    z = alpha * X + sigma * NOISE
    with jax.enable_x64(True):
        v = oracle.f64(tanh_network(jnp.asarray(z), jnp.asarray(GAMMA, float)))
        shown = view(VP, PROCESSES[name], kind)(jnp.asarray(y), jnp.asarray(time))
    x_hat, eps_hat = alpha * z - sigma * v, sigma * z + alpha * v
    # What float64 leaves of γ in t, 5e-12, and nothing else.
    np.testing.assert_allclose(shown, {"x": x_hat, "eps": eps_hat, "u": eps_hat - x_hat}[kind], rtol=0, atol=1e-10)


@every_process
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(name, kind):
    """adopt(view(denoise)) is denoise, to what float32 tells of γ and of the prediction's other half.

    c z/c errs by 7 spacings of z, and γ by `time_back`. The derivatives of (x̂, ε̂) = (α z − σ v, σ z + α v) are at most
    1 + |WEIGHT| in z, and in γ at most (|z| + |v|)/2 + |BIAS|, as those of α and σ are at most 1/2. Arithmetic adds 6
    spacings of |z| + |v|. What "x" and "eps" carry over to the other half is divided by σ or by α, and 6 spacings of z.
    """
    z = jnp.asarray(oracle.alpha(GAMMA)[:, None] * X + oracle.sigma(GAMMA)[:, None] * NOISE, jnp.float32)
    gamma = jnp.asarray(GAMMA)
    there = view(VP, PROCESSES[name], kind)
    x_hat, eps_hat = adopt(there, PROCESSES[name], kind)(z, gamma)
    expected_x, expected_eps = VP(z, gamma)
    size = np.max(np.abs(z), axis=1, keepdims=True)
    slope = 1 + np.abs(WEIGHT).sum(0)[None]
    of_gamma = time_back(name, GAMMA, EPS)[:, None] * ((size + 1) / 2 + np.abs(BIAS)[None])
    one = 7 * EPS * size * slope + of_gamma + 6 * EPS * (size + 1)
    worse = {"x": 1 / oracle.sigma(GAMMA), "eps": 1 / oracle.alpha(GAMMA), "u": np.ones(len(GAMMA))}[kind][:, None]
    factor_x, factor_eps = {"x": (1, worse), "eps": (worse, 1), "u": (2, 2)}[kind]
    assert np.all(np.abs(oracle.f64(x_hat) - expected_x) <= factor_x * (one + 6 * EPS * size))
    assert np.all(np.abs(oracle.f64(eps_hat) - expected_eps) <= factor_eps * (one + 6 * EPS * size))


def native_loss(name: str, network, x, noise, time, slope):
    """The diffusion loss of one sample in the process's coordinates; `slope` is d time/dτ for the uniform time τ.

    Exploding: −½ SNR' ‖x − D‖² dτ with SNR = s⁻² is s⁻³ ‖x − D‖² ds. Flow: at fixed y an error e of ε̂ is one of
    −e t/(1−t) of x̂ and so e/(1−t) of û, and dγ = 2 dt/(t (1−t)): ½ ‖ε − ε̂‖² dγ is (1−t)/t ‖u − û‖² dt.
    """
    t = time[:, None]
    if name == "exploding":
        return slope / time**3 * jnp.sum(jnp.square(x - network(x + t * noise, time)), 1)
    return slope * (1 - time) / time * jnp.sum(jnp.square(noise - x - network((1 - t) * x + t * noise, time)), 1)


@every_process
@pytest.mark.parametrize("model", MODELS)
def test_the_same_bound(name, model):
    """Sample by sample, in float64, for γ from −20 to 20: of every model in every process."""
    kind = TRAINED_AS[name]
    # The network itself where it is of this process.
    network = native_network if model == name else view(MODELS[model], PROCESSES[name], kind)
    with jax.enable_x64(True):
        x, noise, tau = jnp.asarray(X), jnp.asarray(NOISE), jnp.linspace(0, 1, len(GAMMA))

        def gamma(tau):
            return 20 * jnp.sin(np.pi * (tau - 0.5))

        def native_time(tau):
            half = gamma(tau) / 2
            return jnp.exp(half) if name == "exploding" else 1 / (1 + jnp.exp(-half))

        ones = jnp.ones_like(tau)
        levels, times = (jax.jvp(f, (tau,), (ones,)) for f in (gamma, native_time))
        ours = bounds.diffusion_loss_at(MODELS[model], *levels, x, noise)
        theirs = native_loss(name, network, x, noise, *times)
    # 1e-16 of x̂ are 1e-16/σ of ε̂ at the data's end, and of 1 − t as much of γ at the other: 1e-11 of the loss.
    np.testing.assert_allclose(ours[1:-1], theirs[1:-1], rtol=1e-8)


STEPS = 10
LEVELS = np.linspace(5, -13.3, STEPS + 1)
START = RNG.normal(size=(8, 4))


def ddim(denoise, gammas, z, noise=None, seen=None):
    """z_s = α_s x̂ + σ_s ε̂: every z of the way. `noise`, if any, is added to each; `seen` is what γ is taken to be."""
    noise, seen = np.zeros(STEPS + 1, gammas.dtype) if noise is None else noise, gammas if seen is None else seen
    path = [z + noise[0]]
    for i in range(STEPS):
        x_hat, eps_hat = predictions.both(denoise)(path[-1], seen[i])
        alpha, sigma = jnp.sqrt(jax.nn.sigmoid(-gammas[i + 1])), jnp.sqrt(jax.nn.sigmoid(gammas[i + 1]))
        path.append(alpha * x_hat + sigma * eps_hat + noise[i + 1])
    return jnp.stack(path)


def euler_exploding(denoised, s, y):
    """Euler's method for dy/ds = (y − D(y, s))/s, Eq. 4 of Karras et al. (2022)."""
    for i in range(STEPS):
        y = y + (s[i + 1] - s[i]) * (y - denoised(y, s[i])) / s[i]
    return y


def euler_flow(velocity, t, y):
    """Euler's method for dy/dt = u(y, t)."""
    for i in range(STEPS):
        y = y + (t[i + 1] - t[i]) * velocity(y, t[i])
    return y


EULER = {"exploding": euler_exploding, "flow": euler_flow}


@functools.cache
def samples(model: str, dtype, factor: float = 1.0) -> dict[str, np.ndarray]:
    """The last latent of each method as a z; `factor` makes the scale of `view` wrong."""

    @jax.jit
    def run(gammas, start, coordinates):
        results = {"vp": ddim(MODELS[model], gammas, start)[-1]}
        for name, right in PROCESSES.items():
            process = right._replace(scale=lambda gamma, scale=right.scale: factor * scale(gamma))
            # A model's own network in its own process, if nothing is to be wrong.
            own = model == name and factor == 1
            network = native_network if own else view(MODELS[model], process, TRAINED_AS[name])
            times, first, last = coordinates[name]
            results[name] = EULER[name](network, times, first * start) / last
        return results

    def coordinate(name):
        a, _, times = native(name, LEVELS)
        c = a / oracle.alpha(LEVELS)
        return jnp.asarray(times, dtype), jnp.asarray(c[0], dtype), jnp.asarray(c[-1], dtype)

    with jax.enable_x64(dtype == np.float64):
        gammas, start = jnp.asarray(LEVELS, dtype), jnp.asarray(START, dtype)
        return {k: oracle.f64(z) for k, z in run(gammas, start, {n: coordinate(n) for n in PROCESSES}).items()}


@functools.cache
def derivatives(model: str) -> tuple[np.ndarray, ...]:
    """|∂ last latent/∂ every z|, |∂ last latent/∂ every γ seen|, every |z|, and |x̂| + |ε̂| before every step."""
    with jax.enable_x64(True):
        gammas, start = jnp.asarray(LEVELS), jnp.asarray(START)

        @jax.jit
        def by_both(z):
            def last(noise, seen):
                return ddim(MODELS[model], gammas, z[None], noise[:, None], seen)[-1, 0]

            return jax.jacfwd(last, (0, 1))(jnp.zeros((STEPS + 1, 4)), gammas)

        by_z, by_gamma = zip(*(by_both(z) for z in start), strict=True)
        path = ddim(MODELS[model], gammas, start)
        guesses = [sum(jnp.abs(half) for half in MODELS[model](path[i], gammas[i])) for i in range(STEPS)]
        return tuple(np.abs(np.stack(values)) for values in (by_z, by_gamma, path, guesses))


def float32_allows(model: str, name: str) -> np.ndarray:
    """What rounding on the way can do to the last latent, to first order: each error times its derivative.

    The z after a step is off by 10 spacings of the sizes that were added, the largest of y/c_s = c_t/c_s z, x̂ and ε̂:
    3 for the latent and its scale, 4 for the network's matrix product and tanh, 3 for (x̂, ε̂) and the step. γ is off by
    `time_back` where it passes through a time.
    """
    by_z, by_gamma, path, guesses = derivatives(model)
    a = {n: native(n, LEVELS)[0] for n in PROCESSES}
    c = {n: a[n] / oracle.alpha(LEVELS) for n in PROCESSES} | {"vp": np.ones(STEPS + 1)}
    added = (c[name][:-1] / c[name][1:])[:, None, None] * path[:-1] + guesses
    sizes = np.max(np.concatenate([path[:1], added]), axis=2)
    of_gamma = np.max([EPS * np.abs(LEVELS)] + [time_back(n, LEVELS, EPS) for n in {model, name} - {"vp"}], axis=0)
    return 10 * EPS * np.einsum("bkij,ib->bk", by_z, sizes) + by_gamma @ of_gamma


@every_process
@pytest.mark.parametrize("model", MODELS)
def test_the_same_samples(name, model):
    """DDIM is Euler's method in s and in t, whatever process the network is of."""
    exact, single = samples(model, np.float64), samples(model, np.float32)
    # float64 is 5e8 times finer than float32, whose bound is about 1e-4.
    np.testing.assert_allclose(exact[name], exact["vp"], rtol=0, atol=1e-12)
    assert np.std(exact["vp"]) > 0.1
    for method in (name, "vp"):
        assert np.all(np.abs(single[method] - exact["vp"]) <= float32_allows(model, method))


@every_process
def test_a_wrong_scale_is_seen(name):
    """c off by 1% is far outside the bounds of `test_the_same_samples`."""
    wrong = np.abs(samples("vp", np.float32, 1.01)[name] - samples("vp", np.float64)["vp"])
    assert np.median(wrong / float32_allows("vp", name)) > 10


PRIORS, MEANS, STDS = np.asarray([0.3, 0.7]), RNG.uniform(-1, 1, (2, 4)), np.asarray([0.1, 0.3])
MIXTURE = oracles.mixture(PRIORS, MEANS, STDS)


def posterior_mean(y, a, b) -> np.ndarray:
    """E[x | y = a x + b ε] for the mixture, in float64: y is N(a m_k, a² s_k² + b²) in component k."""
    a, b = a[:, None, None], b[:, None, None]
    variance = a**2 * STDS[None, :, None] ** 2 + b**2
    residual = y[:, None] - a * MEANS[None]
    logits = np.log(PRIORS) - 0.5 * np.sum(residual**2 / variance + np.log(variance), axis=2)
    means = MEANS[None] + a * STDS[None, :, None] ** 2 / variance * residual
    return np.sum(softmax(logits, axis=1)[:, :, None] * means, axis=1)


@every_process
def test_the_oracle_is_the_posterior_mean(name):
    """Viewed in the process; and the process's exact network, adopted, is the oracle."""
    process, kind = PROCESSES[name], TRAINED_AS[name]
    a, b, time = native(name, GAMMA)
    y = a[:, None] * X + b[:, None] * NOISE
    x_hat = posterior_mean(y, a, b)
    eps_hat = (y - a[:, None] * x_hat) / b[:, None]
    expected = {"x": x_hat, "u": eps_hat - x_hat}[kind]
    with jax.enable_x64(True):
        shown = view(MIXTURE.denoise, process, kind)(jnp.asarray(y), jnp.asarray(time))
        z = gaussian.diffuse(jnp.asarray(X), jnp.asarray(NOISE), jnp.asarray(GAMMA, float))
        adopted = adopt(lambda *_: jnp.asarray(expected), process, kind)(z, jnp.asarray(GAMMA, float)).eps
        denoised = MIXTURE.denoise(z, jnp.asarray(GAMMA, float))
    # Its ε̂ leaves 1e-16/α of x̂ open, its x̂ 1e-16/σ of ε̂; γ comes to 1e-11 from t.
    np.testing.assert_allclose(shown, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(adopted, denoised, rtol=1e-9, atol=1e-9)


def test_errors():
    flow = PROCESSES["flow"]
    for make in (view, adopt):
        with pytest.raises(ValueError, match="kind='score': must be one of x, eps, u"):
            make(VP, flow, "score")
    with pytest.raises(ValueError, match=r"must be \(3, 4\)"):
        adopt(lambda y, t: y[:, :2], flow, "u")(jnp.zeros((3, 4)), jnp.float32(0))
