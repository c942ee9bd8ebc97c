"""The model of google-research/vdm in float64 numpy, from its formulas and under its names, and random parameters."""

import numpy as np
from scipy.special import expit, log_softmax

GAMMA_MIN, GAMMA_MAX = -13.3, 5.0


def swish(x):
    return x * expit(x)


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def conv(p, x):
    """3×3 with zeros around."""
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [[x[:, i : i + height, j : j + width] @ p["kernel"][i, j] for j in range(3)] for i in range(3)]
    return np.sum(patches, axis=(0, 1)) + p["bias"]


def group_norm(p, x):
    """32 groups of neighbouring channels, epsilon 1e-6."""
    groups = x.reshape(*x.shape[:3], 32, -1)
    mean, var = (f(groups, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    return ((groups - mean) / np.sqrt(var + 1e-6)).reshape(x.shape) * p["scale"] + p["bias"]


def resnet_block(p, x, cond):
    h = conv(p["conv1"], swish(group_norm(p["GroupNorm_0"], x)))
    h = h + dense(p["cond_proj"], cond)[:, None, None, :]
    h = conv(p["conv2"], swish(group_norm(p["GroupNorm_1"], h)))
    return h + (dense(p["nin_shortcut"], x) if "nin_shortcut" in p else x)


def attention(p, x):
    h = group_norm(p["GroupNorm_0"], x).reshape(x.shape[0], -1, x.shape[-1])
    q, k, v = (dense(p[name], h) for name in "qkv")
    weights = np.exp(log_softmax(q @ k.swapaxes(1, 2) / np.sqrt(x.shape[-1]), axis=-1))
    return x + dense(p["proj_out"], weights @ v).reshape(x.shape)


def time_embedding(t, size):
    angles = 1000 * t[:, None] * np.exp(-np.log(10_000) / (size // 2 - 1) * np.arange(size // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def fourier(z):
    """Features of frequencies 2⁶ and 2⁷ times 2π, each channel's beside one another."""
    angles = np.repeat(z, 2, axis=-1) * np.tile(2 * np.pi * 2.0 ** np.arange(6, 8), z.shape[-1])
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def eps_hat(p, z, g_t, conditioning=0.0):
    """The network with parameters p, at noise levels g_t (batch,)."""
    channels = p["conv_in"]["bias"].size
    temb = time_embedding((g_t - GAMMA_MIN) / (GAMMA_MAX - GAMMA_MIN), channels)
    cond = np.concatenate([temb, np.full((len(z), 1), conditioning)], axis=1)
    cond = swish(dense(p["dense1"], swish(dense(p["dense0"], cond))))

    def attended(name, h):
        return attention(p[name], h) if name in p else h

    h = conv(p["conv_in"], np.concatenate([z, fourier(z)], axis=-1))
    hs = [h]
    depth = sum(name.startswith("down.block_") for name in p)
    for i in range(depth):
        h = attended(f"down.attn_{i}", resnet_block(p[f"down.block_{i}"], h, cond))
        hs.append(h)
    h = resnet_block(p["mid.block_1"], h, cond)
    h = attention(p["mid.attn_1"], h)
    h = resnet_block(p["mid.block_2"], h, cond)
    for i in range(depth + 1):
        h = resnet_block(p[f"up.block_{i}"], np.concatenate([h, hs.pop()], axis=-1), cond)
        h = attended(f"up.attn_{i}", h)
    return z + conv(p["conv_out"], swish(group_norm(p["GroupNorm_0"], h)))


def gamma(p, t):
    """γ(t) of a fixed ({}), scalar (w, b) or monotone (l1, l2, l3) schedule; t (batch,)."""
    if not p:
        return GAMMA_MIN + (GAMMA_MAX - GAMMA_MIN) * t
    if "w" in p:
        return p["b"] + np.abs(p["w"]) * t
    line = np.abs(p["l1"]["kernel"][0]) * t + p["l1"]["bias"]
    units = 2 * (expit(2 * (t[:, None] - 0.5) @ np.abs(p["l2"]["kernel"]) + p["l2"]["bias"]) - 0.5)
    return line + (units @ np.abs(p["l3"]["kernel"]))[:, 0] / p["l2"]["bias"].size


def losses(p, x, t, eps_0, eps):
    """(reconstruction, prior, diffusion) in nats an image, for times and noise given; continuous time."""
    gammas = p.get("gamma", {})
    g_0, g_1 = gamma(gammas, np.zeros(1)), gamma(gammas, np.ones(1))
    f = 2 * (x + 0.5) / 256 - 1
    values = 2 * (np.arange(256) + 0.5) / 256 - 1
    logits = -0.5 * ((f + np.exp(g_0 / 2) * eps_0)[..., None] - values) ** 2 * np.exp(-g_0)
    picked = np.take_along_axis(log_softmax(logits, axis=-1), x[..., None].astype(int), axis=-1)
    var_1 = expit(g_1)
    prior = 0.5 * np.sum((1 - var_1) * f**2 + var_1 - np.log(var_1) - 1, axis=(1, 2, 3))
    t, step = np.float64(t), 1e-6
    g_t = gamma(gammas, t)
    slope = (gamma(gammas, t + step) - gamma(gammas, t - step)) / (2 * step)
    var_t = expit(g_t)[:, None, None, None]
    z_t = np.sqrt(1 - var_t) * f + np.sqrt(var_t) * eps
    error = np.sum((eps - eps_hat(p["score_model"], z_t, g_t)) ** 2, axis=(1, 2, 3))
    return -picked.sum(axis=(1, 2, 3, 4)), prior, 0.5 * slope * error


def params(seed, depth=1, channels=32, everywhere=False, schedule="scalar", hidden=6):
    """Random parameters of its names and shapes, float32: scales of norms about 1, kernels that keep the variance."""
    rng = np.random.default_rng(seed)

    def array(*shape, center=0.0, scale=0.1):
        return np.float32(center + scale * rng.normal(size=shape))

    def linear(*shape, bias=True):
        kernel = array(*shape, scale=np.prod(shape[:-1]) ** -0.5)
        return {"kernel": kernel, "bias": array(shape[-1])} if bias else {"kernel": kernel}

    def norm(size):
        return {"scale": array(size, center=1.0), "bias": array(size)}

    def block(inputs):
        parts = {
            "GroupNorm_0": norm(inputs), "conv1": linear(3, 3, inputs, channels),
            "cond_proj": linear(4 * channels, channels, bias=False),
            "GroupNorm_1": norm(channels), "conv2": linear(3, 3, channels, channels),
        }  # fmt: skip
        return parts | ({} if inputs == channels else {"nin_shortcut": linear(inputs, channels)})

    def attn():
        return {"GroupNorm_0": norm(channels)} | {k: linear(channels, channels) for k in ("q", "k", "v", "proj_out")}

    network = {
        "dense0": linear(channels + 1, 4 * channels), "dense1": linear(4 * channels, 4 * channels),
        "conv_in": linear(3, 3, 15, channels), "mid.block_1": block(channels), "mid.attn_1": attn(),
        "mid.block_2": block(channels), "GroupNorm_0": norm(channels), "conv_out": linear(3, 3, channels, 3),
    }  # fmt: skip
    for way, count, inputs in (("down", depth, channels), ("up", depth + 1, 2 * channels)):
        for i in range(count):
            network[f"{way}.block_{i}"] = block(inputs)
            network |= {f"{way}.attn_{i}": attn()} if everywhere else {}
    gammas = {
        "fixed": {},
        # Negative: it is their absolute values that count.
        "scalar": {"w": np.float32([-15.1]), "b": np.float32([-10.6])},
        "nnet": {
            "l1": {"kernel": np.float32([[-14.0]]), "bias": np.float32([-12.0])},
            "l2": {"kernel": array(1, hidden, scale=3.0), "bias": array(hidden, scale=1.0)},
            "l3": {"kernel": array(hidden, 1, scale=6.0)},
        },
    }[schedule]
    return {"score_model": network} | ({"gamma": gammas} if gammas else {})
