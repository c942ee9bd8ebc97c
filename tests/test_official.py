"""Agreement with the numbers of the official implementation (google-research/vdm), where its draws are recorded.

The file lies outside the repository; see the README beside it. Tolerances are those its README states.
"""

from functools import cache, partial
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import bounds, gaussian, likelihoods, official, schedules, timesteps
from vdm.networks import UNet
from vdm.networks.embeddings import fourier_features, time_embedding

PATH = Path(__file__).parents[2] / "shared" / "reference" / "official_vdm.npz"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason=f"no reference values at {PATH}")

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@cache
def reference() -> dict[str, np.ndarray]:
    with np.load(PATH) as values:
        return dict(values)


def value(*parts) -> np.ndarray:
    return reference()["/".join(str(part) for part in parts)]


def array(*parts) -> jax.Array:
    return jnp.asarray(value(*parts))


@cache
def schedule_of(name: str) -> tuple[schedules.Schedule, dict]:
    if name == "fixed":
        return schedules.linear(float(value("sched/fixed/gamma_min")), float(value("sched/fixed/gamma_max"))), {}
    if name == "scalar":
        theirs = {part: value("sched/scalar", part) for part in ("w", "b")}
        schedule = schedules.learned_linear()
    else:
        layers = [("l1", "kernel"), ("l1", "bias"), ("l2", "kernel"), ("l2", "bias"), ("l3", "kernel")]
        theirs = {layer: {} for layer, _ in layers}
        for layer, kind in layers:
            theirs[layer][kind] = value("sched", name, f"{layer}_{kind}")
        schedule = schedules.learned_monotone(hidden=1024)
    return schedule, jax.tree.map(jnp.asarray, official.schedule_variables(theirs, -13.3, 5.0))


def gamma_of(name: str):
    schedule, params = schedule_of(name)
    return partial(schedule.gamma, params)


@pytest.mark.parametrize("name", ["fixed", "scalar", "nnet_init", "nnet"])
def test_schedules(name):
    schedule, params = schedule_of(name)
    gamma, slope = schedules.gamma_and_slope(schedule, params, array("sched/t"))
    np.testing.assert_allclose(gamma, value("sched", name, "gamma"), **TOLERANCE)
    np.testing.assert_allclose(slope, value("sched", name, "dgamma_dt"), **TOLERANCE)


def test_encode():
    np.testing.assert_allclose(likelihoods.encode(array("enc/x"), 256), value("enc/f"), **TOLERANCE)


@pytest.mark.parametrize("k", range(4))
def test_decoder(k):
    gamma_0 = np.float32(value("dec/gamma_0")[k])
    z_0 = jnp.asarray(value("dec", k, "z_rescaled") * oracle.alpha(gamma_0), jnp.float32)
    logs = jax.nn.log_softmax(likelihoods.logits(z_0, gamma_0, 256), axis=-1)
    np.testing.assert_allclose(logs, value("dec", k, "logprobs"), **TOLERANCE)
    log_prob = likelihoods.log_prob(array("dec/x"), z_0, gamma_0, 256)
    np.testing.assert_allclose(log_prob, value("dec", k, "logprob"), **TOLERANCE)


@pytest.mark.parametrize("name", ["scalar", "nnet"])
def test_most_probable_values(name):
    gamma_0 = gamma_of(name)(jnp.float32(0))
    np.testing.assert_array_equal(likelihoods.mode(array("gen/z_0"), gamma_0, 256), value("gen", name, "x"))


@pytest.mark.parametrize("name", ["scalar", "nnet"])
@pytest.mark.parametrize("n", range(4))
def test_ancestral_step(name, n):
    get = partial(array, "step", name, n)
    gamma = gamma_of(name)
    # Their steps count down from i = 0 at t = 1.
    num_steps, i = int(get("T")), int(get("T")) - int(get("i"))
    np.testing.assert_allclose([i / num_steps, (i - 1) / num_steps], [get("t"), get("s")], rtol=1e-6, atol=1e-7)
    gamma_s, gamma_t = gamma((i - 1) / num_steps), gamma(i / num_steps)
    np.testing.assert_allclose([gamma_s, gamma_t], [get("gamma_s"), get("gamma_t")], rtol=1e-6)
    # With their γ: γ_t − γ_s of a thousandth would magnify the last bit of ours.
    mean, var = gaussian.posterior_from_eps(get("z_t"), get("eps_hat"), get("gamma_s"), get("gamma_t"))
    np.testing.assert_allclose(mean + jnp.sqrt(var) * get("eps"), value("step", name, n, "z_s"), **TOLERANCE)


@pytest.mark.parametrize("name", ["scalar", "nnet"])
@pytest.mark.parametrize("num_steps", [0, 10, 1000])
@pytest.mark.parametrize("times", ["anti", "iid"])
def test_losses(name, num_steps, times):
    """Every term of the bound for their images, times, noise and predictions; nats an image, and bits/dim."""
    get = partial(array, "loss", name, f"T{num_steps}", times)
    gamma, eps = gamma_of(name), get("eps")
    x = likelihoods.encode(get("x"), 256)
    seen = []

    def denoise(z, gamma_t):
        seen.append((z, gamma_t))
        return get("eps_hat")

    reconstruction = bounds.reconstruction_loss(get("x"), gamma(jnp.float32(0)), get("eps_0"), 256)
    prior = bounds.prior_loss(x, gamma(jnp.float32(1)))
    if num_steps:
        i = jnp.round(get("t") * num_steps).astype(jnp.int32)
        diffusion = bounds.discrete_diffusion_loss(denoise, gamma, x, i, eps, num_steps)
    else:
        diffusion = bounds.continuous_diffusion_loss(denoise, gamma, x, get("t"), eps)

    ((z_t, gamma_t),) = seen
    np.testing.assert_allclose(gamma_t, get("gamma_t"), **TOLERANCE)
    np.testing.assert_allclose(z_t, get("z_t"), **TOLERANCE)
    np.testing.assert_allclose(reconstruction, get("loss_recon"), **TOLERANCE)
    np.testing.assert_allclose(prior, get("loss_klz"), **TOLERANCE)
    # γ_t − γ_s of a thousandth of the range has lost three digits in float32, theirs and ours.
    np.testing.assert_allclose(diffusion, get("loss_diff"), rtol=1e-3 if num_steps == 1000 else 1e-4)
    bits = bounds.bits_per_dim(jnp.mean(reconstruction + prior + diffusion), x[0].size)
    np.testing.assert_allclose(bits, get("bpd"), rtol=1e-3 if num_steps == 1000 else 1e-4)


@pytest.mark.parametrize("name", ["scalar", "nnet"])
@pytest.mark.parametrize("num_steps", [0, 10, 1000])
def test_stratified_times(name, num_steps):
    """Theirs are t₀ + k/B, wrapped, and in discrete time the step's end: ours with the same offset."""
    get = partial(value, "loss", name, f"T{num_steps}", "anti")
    t = timesteps._wrap(jnp.float32(get("t0")) + jnp.arange(8, dtype=jnp.float32) / 8)
    if num_steps:
        t = timesteps.to_steps(t, num_steps) / num_steps
    np.testing.assert_allclose(t, get("t"), **TOLERANCE)


def test_fourier_features():
    np.testing.assert_allclose(fourier_features(array("net/fourier_in"), (7, 8)), value("net/fourier_out"), **TOLERANCE)


def test_time_embedding():
    np.testing.assert_allclose(time_embedding(array("net/temb_t"), 32), value("net/temb"), **TOLERANCE)


def unflatten(prefix: str) -> dict:
    """The tree of the values under a prefix."""
    flat = {path.removeprefix(prefix): leaf for path, leaf in reference().items() if path.startswith(prefix)}
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def test_network():
    """The whole network with their parameters. 32 channels in 32 groups: theirs does not adapt the groups."""
    network = UNet(channels=32, depth=1, gamma_min=-13.3, gamma_max=5.0, fourier=(7, 8), groups=32)
    condition = array("net/conditioning")[:, None]
    theirs = jax.tree.map(jnp.asarray, official.network_variables(unflatten("net/params/")))
    # They append the conditioning to the embedding of γ; for us its row of the kernel is a linear map of its own.
    kernel = theirs["embed_0"]["kernel"]
    embed = {**theirs["embed_0"], "kernel": kernel[:-1]}
    params = {"params": {**theirs, "embed_0": embed, "condition": {"condition": {"kernel": kernel[-1:]}}}}
    shapes = jax.eval_shape(network.init, jax.random.key(0), array("net/z"), array("net/g_t"), condition)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    eps_hat = jax.jit(network.apply)(params, array("net/z"), array("net/g_t"), condition)
    np.testing.assert_allclose(eps_hat, value("net/eps_hat"), **TOLERANCE)
    assert np.max(np.abs(eps_hat - value("net/z"))) > 0.1
