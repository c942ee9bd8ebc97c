"""A variational diffusion model of 8×8 digits in one file: train it, evaluate it in bits/dim, draw samples.

    python examples/minimal.py --steps=2000 --out=minimal.png

This takes about two minutes on two CPU cores. The model consists of γ(t), a network and a decoder p(x|z₀); everything
that follows from them is a pure function of `vdm`. The bound is that of Kingma et al. (2021).
"""

import argparse
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from sklearn.datasets import load_digits

from vdm import bounds, likelihoods, predictions, samplers, schedules, timesteps

LEVELS, SHAPE = 17, (8, 8, 1)


class Network(nn.Module):
    """Predict v from z and γ: a residual network, with Fourier features of z that separate neighboring gray levels."""

    channels: int = 32
    blocks: int = 4

    @nn.compact
    def __call__(self, z, gamma):
        gamma = jnp.broadcast_to(gamma, z.shape[:1])[:, None]
        angles = gamma * 2.0 ** jnp.arange(-4.0, 4.0)
        embedding = nn.swish(nn.Dense(self.channels)(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)))
        waves = [wave(2.0**n * jnp.pi * z) for n in (3, 4) for wave in (jnp.sin, jnp.cos)]
        h = nn.Conv(self.channels, (3, 3))(jnp.concatenate([z, *waves], axis=-1))
        for _ in range(self.blocks):
            r = nn.Conv(self.channels, (3, 3))(nn.swish(nn.LayerNorm()(h)))
            r = r + nn.Dense(self.channels)(embedding)[:, None, None]
            h = h + nn.Conv(self.channels, (3, 3))(nn.swish(nn.LayerNorm()(r)))
        return nn.Conv(z.shape[-1], (3, 3), kernel_init=nn.initializers.zeros)(h)


schedule = schedules.learned_linear(gamma_min=-7.5, gamma_max=5.0)
network = Network()


def init(key):
    network_key, schedule_key = jax.random.split(key)
    return {
        "network": network.init(network_key, jnp.zeros((1, *SHAPE)), jnp.zeros(1)),
        "schedule": schedule.init(schedule_key),
    }


def gamma_of(params):
    """Return the function t ↦ γ(t) = −log SNR(t)."""
    return functools.partial(schedule.gamma, params["schedule"])


def denoiser(params):
    """Return the function from (z, γ) to the network's estimates of the x and the ε in z = α x + σ ε."""
    return predictions.denoiser(functools.partial(network.apply, params["network"]), "v")


def bits_per_dim(params, key, images):
    """Return an unbiased single-draw estimate of the bound on −log₂ p(image) per pixel for each image: (batch,)."""
    key_t, key_eps, key_eps_0 = jax.random.split(key, 3)
    x, gamma = likelihoods.encode(images, LEVELS), gamma_of(params)
    eps, eps_0 = jax.random.normal(key_eps, x.shape), jax.random.normal(key_eps_0, x.shape)

    t = timesteps.stratified(key_t, len(images))
    diffusion = bounds.continuous_diffusion_loss(denoiser(params), gamma, x, t, eps)
    prior = bounds.prior_loss(x, gamma(1.0))
    reconstruction = bounds.reconstruction_loss(images, gamma(0.0), eps_0, LEVELS)
    return bounds.bits_per_dim(reconstruction + prior + diffusion, x[0].size)


def train(params, images, steps, batch_size=64):
    """Return the exponential moving average of the parameters after `steps` steps of Adam."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, steps)))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, n):
        params, opt_state, average = state
        batch_key, key = jax.random.split(jax.random.fold_in(jax.random.key(1), n))
        batch = images[jax.random.choice(batch_key, len(images), (batch_size,))]
        loss, gradient = jax.value_and_grad(lambda p: bits_per_dim(p, key, batch).mean())(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        decay = jnp.minimum(0.995, (1 + n) / (10 + n))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
        return (params, opt_state, average), loss

    state = params, optimizer.init(params), jax.tree.map(jnp.copy, params)
    for n in range(steps):
        state, loss = step(state, n)
        if (n + 1) % max(1, steps // 10) == 0:
            print(f"step {n + 1}: {loss:.3f} bits/dim", flush=True)
    return state[2]


def evaluate(params, images, draws):
    """Return (bits/dim of the images, its standard error over images), using several draws for each image."""
    draw = jax.jit(lambda key: bits_per_dim(params, key, images))
    each = np.mean([draw(key) for key in jax.random.split(jax.random.key(2), draws)], axis=0)
    return each.mean(), each.std(ddof=1) / np.sqrt(len(each))


def sample(params, num, steps):
    """Sample from the model: go down the noise levels, then take the most likely pixel values given z₀."""
    gammas = samplers.grid(gamma_of(params), steps)
    draw = functools.partial(samplers.sample, denoise=denoiser(params), sampler=samplers.ancestral(), gammas=gammas)
    z_0 = jax.jit(lambda key: draw(key, shape=(num, *SHAPE)))(jax.random.key(3))
    return likelihoods.mode(z_0, gammas[-1], LEVELS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="training steps")
    parser.add_argument("--draws", type=int, default=20, help="noise draws for each test image")
    parser.add_argument("--sampler_steps", type=int, default=250)
    parser.add_argument("--out", default="minimal.png")
    given = parser.parse_args()

    digits = load_digits().images.astype(np.uint8)[..., None]
    digits = jnp.asarray(np.random.default_rng(0).permutation(digits))
    params = train(init(jax.random.key(0)), digits[:-300], given.steps)
    print("test: {:.3f} ± {:.3f} bits/dim".format(*evaluate(params, digits[-300:], given.draws)))

    tiles = np.pad(sample(params, 64, given.sampler_steps)[..., 0], [(0, 0), (1, 1), (1, 1)]) * (255 // (LEVELS - 1))
    rows = tiles.reshape(8, 8, 10, 10).swapaxes(1, 2).reshape(80, 80).astype(np.uint8)
    Image.fromarray(rows).resize((640, 640), Image.Resampling.NEAREST).save(given.out)
    print(f"64 samples: {given.out}")


if __name__ == "__main__":
    main()
