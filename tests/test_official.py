"""Agreement with the numbers of the official implementation (google-research/vdm), where its draws are recorded.

The file lies outside the repository; see the README beside it. Tolerances are those its README states.
"""

from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import bounds, gaussian, likelihoods, schedules, timesteps
from vdm.networks import UNet
from vdm.networks.unet import fourier_features, time_embedding

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


def params_of_monotone(name: str) -> tuple[schedules.Schedule, dict]:
    """Our learned_monotone with the parameters that make it the official learned network's curve.

    Theirs: γ(t) = |l1| t + b + Σ_k [2 sigmoid(2 (t − ½) |l2_k| + c_k) − 1] |l3_k|/1024. So γ(t) − γ(0) has our form,
    with slopes 2|l2_k|, biases c_k − |l2_k| and weights |l1| and 2|l3_k|/1024, to be normalised.
    """
    l1, l2, l3 = (np.abs(oracle.f64(value("sched", name, f"l{n}_kernel"))).ravel() for n in (1, 2, 3))
    b, c = (oracle.f64(value("sched", name, f"l{n}_bias")) for n in (1, 2))

    def gamma(t: float) -> float:
        units = 2 / (1 + np.exp(-(2 * (t - 0.5) * l2 + c))) - 1
        return float((l1 * t + b + np.sum(units * l3) / 1024)[0])

    schedule = schedules.learned_monotone(gamma(0.0), gamma(1.0), hidden=1024)
    weights = np.concatenate([l1, 2 * l3 / 1024])
    weights /= weights.sum()
    # Ours holds a share FLOOR of the straight line back from the softmax.
    weights[0] -= schedules.FLOOR
    slopes = 2 * l2
    shape = {
        "slope": slopes + np.log(-np.expm1(-slopes)),  # inverse softplus
        "bias": c - l2,
        "line": np.log(weights[0]),
        "weight": np.log(weights[1:]),
    }
    params = schedule.init(jax.random.key(0))
    return schedule, {**params, "shape": jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), shape)}


@cache
def schedule_of(name: str) -> tuple[schedules.Schedule, dict]:
    if name == "fixed":
        return schedules.linear(float(value("sched/fixed/gamma_min")), float(value("sched/fixed/gamma_max"))), {}
    if name == "scalar":
        low = float(value("sched/scalar/b")[0])
        schedule = schedules.learned_linear(low, low + abs(float(value("sched/scalar/w")[0])))
        return schedule, schedule.init(jax.random.key(0))
    return params_of_monotone(name)


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


# Official names of modules, and ours.
BLOCKS = {
    "down.block_0": "down_0", "mid.block_1": "middle_0", "mid.block_2": "middle_1",
    "up.block_0": "up_0", "up.block_1": "up_1",
}  # fmt: skip
IN_A_BLOCK = {
    "GroupNorm_0": "norm_0", "conv1": "conv_0", "cond_proj": "condition", "GroupNorm_1": "norm_1", "conv2": "conv_1",
    "nin_shortcut": "shortcut",
}  # fmt: skip
IN_ATTENTION = {"GroupNorm_0": "norm", "q": "query", "k": "key", "v": "value", "proj_out": "out"}
AT_THE_TOP = {
    "dense0": "embed_0", "dense1": "embed_1", "conv_in": "conv_in", "GroupNorm_0": "norm_out", "conv_out": "conv_out",
}  # fmt: skip


def network_params() -> dict:
    """Their parameters under our names."""
    ours: dict = {}
    for path, leaf in reference().items():
        if not path.startswith("net/params/"):
            continue
        first, *rest = path.removeprefix("net/params/").split("/")
        if first in BLOCKS:
            module, (second, kind) = ours.setdefault(BLOCKS[first], {}), rest
            module.setdefault(IN_A_BLOCK[second], {})[kind] = jnp.asarray(leaf)
        elif first == "mid.attn_1":
            module, (second, kind) = ours.setdefault("middle_attention", {}), rest
            module.setdefault(IN_ATTENTION[second], {})[kind] = jnp.asarray(leaf)
        else:
            ours.setdefault(AT_THE_TOP[first], {})[rest[0]] = jnp.asarray(leaf)
    return {"params": ours}


def test_network():
    """The whole network with their parameters. 32 channels in 32 groups: theirs does not adapt the groups."""
    network = UNet(channels=32, depth=1, gamma_min=-13.3, gamma_max=5.0, fourier=(7, 8), groups=32)
    condition = array("net/conditioning")[:, None]
    params = network_params()
    shapes = jax.eval_shape(network.init, jax.random.key(0), array("net/z"), array("net/g_t"), condition)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    eps_hat = jax.jit(network.apply)(params, array("net/z"), array("net/g_t"), condition)
    np.testing.assert_allclose(eps_hat, value("net/eps_hat"), **TOLERANCE)
    assert np.max(np.abs(eps_hat - value("net/z"))) > 0.1
