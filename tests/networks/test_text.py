"""Captions in the networks: padding and dropped captions change nothing, and each image sees its own caption alone."""

import functools
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from oracle import f64

from vdm import parallel
from vdm.networks import ADM, MLP, DiT, UNet
from vdm.networks.attention import Context, SelfAttention, attend, plain_attention
from vdm.networks.text import TextEncoder

VOCABULARY, LENGTH, SHAPE, NUM = 11, 6, (4, 4, 1), 4
TEXTS = jnp.array([[3, 5, 2, 0, 0, 0], [7, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0] * LENGTH])
"""Of three tokens, one, as many as there is room for, and none."""
OTHERS = jnp.array([[4, 4, 0, 0, 0, 0], [10, 9, 8, 7, 6, 5], [0] * LENGTH, [1, 0, 0, 0, 0, 0]])
COMMON = {"channels": 8, "depth": 1, "gamma_min": -7.0, "gamma_max": 4.0, "fourier": (3,), "vocabulary": VOCABULARY,
          "text_channels": 8, "text_depth": 1}  # fmt: skip
NETWORKS = {
    "unet": UNet(**COMMON),
    "adm": ADM(**COMMON, multipliers=(1,), attention_at=()),
    "dit": DiT(**COMMON, patch=2, heads=2),
    "mlp": MLP(**COMMON),
}
Z, GAMMA = jax.random.normal(jax.random.key(0), (NUM, *SHAPE)), jnp.array([-6.0, -2.0, 0.5, 3.0])


def condition(text: Any, dropped: Any = False) -> dict[str, Any]:
    return {"text": text, "dropped": jnp.broadcast_to(jnp.asarray(dropped), (NUM,))}


@functools.cache
def compiled(name: str) -> tuple[Any, Any]:
    """(variables off their start, the compiled network) of the same image and γ in every row but for `Z`."""
    network = NETWORKS[name]
    shapes = jax.eval_shape(network.init, jax.random.key(0), Z, GAMMA, condition(TEXTS))
    variables = tiny.random_variables(shapes)
    return variables, jax.jit(lambda z, gamma, condition: network.apply(variables, z, gamma, condition))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_sees_its_own_caption_alone(name: str) -> None:
    """Of whatever lengths the others are; without the first, nothing else here would say anything."""
    _, apply = compiled(name)
    found = apply(Z, GAMMA, condition(TEXTS))
    assert np.isfinite(found).all()
    for k in range(NUM):
        alone = apply(Z, GAMMA, condition(OTHERS.at[k].set(TEXTS[k])))
        np.testing.assert_allclose(alone[k], found[k], rtol=1e-5, atol=1e-5)
        others = np.delete(np.arange(NUM), k)
        assert np.all(np.max(np.abs(alone - found), axis=(1, 2, 3))[others] > 1e-3)
    moved = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(apply(Z[moved], GAMMA[moved], condition(TEXTS[moved])), found[moved], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_dropped_is_one_model_whatever_the_captions(name: str) -> None:
    _, apply = compiled(name)
    found = apply(Z, GAMMA, condition(TEXTS, True))
    np.testing.assert_array_equal(found, apply(Z, GAMMA, condition(OTHERS, True)))
    # And some dropped: those as if all were, the others as if none.
    mixed = apply(Z, GAMMA, condition(TEXTS, jnp.array([True, False, True, False])))
    of_none = apply(Z, GAMMA, condition(TEXTS))
    np.testing.assert_allclose(mixed[::2], found[::2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mixed[1::2], of_none[1::2], rtol=1e-5, atol=1e-5)
    assert np.all(np.max(np.abs(found - of_none), axis=(1, 2, 3)) > 1e-3)


def test_a_caption_without_tokens_is_no_dropped_one() -> None:
    """It is a caption like others, of which nothing is known; its gradient is finite, too."""
    variables, apply = compiled("unet")
    empty = jnp.zeros_like(TEXTS)
    assert np.max(np.abs(apply(Z, GAMMA, condition(empty)) - apply(Z, GAMMA, condition(TEXTS, True)))) > 1e-3
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.square(NETWORKS["unet"].apply(v, Z, GAMMA, condition(TEXTS))))))(
        variables
    )
    flat = {"/".join(path): np.abs(leaf) for path, leaf in flax.traverse_util.flatten_dict(gradient["params"]).items()}
    assert all(np.isfinite(leaf).all() for leaf in flat.values())
    # It flows into every parameter of the encoder but the keys' bias, which no softmax sees, tokens that none has …
    of_text = {name: leaf for name, leaf in flat.items() if name.startswith("text/")}
    assert len(of_text) == 20
    assert all(leaf.max() > 1e-6 for name, leaf in of_text.items() if not name.endswith("key/bias"))
    used = np.unique(TEXTS[TEXTS > 0])
    of_tokens = of_text["text/token/embedding"].max(axis=1)
    assert of_tokens[used].min() > 0
    # … and, as what is padding is in nothing, not the token of padding.
    assert of_tokens[np.setdiff1d(np.arange(VOCABULARY), used)].max() == 0


@pytest.mark.parametrize("name", ["unet", "adm", "dit"])
def test_names_of_parameters(name: str) -> None:
    """Without captions they are as they were; with them the rest has the same names and shapes."""
    network = NETWORKS[name]
    shapes = [jax.eval_shape(network.init, jax.random.key(0), Z, GAMMA, c) for c in (None, condition(TEXTS))]
    plain, of_text = (flax.traverse_util.flatten_dict(each["params"], sep="/") for each in shapes)
    assert not any(word in path for path in plain for word in ("text", "context"))
    assert {path: leaf.shape for path, leaf in plain.items()}.items() <= {
        path: leaf.shape for path, leaf in of_text.items()
    }.items()
    more = {
        path.split("/")[-2] if "attention" in path or "block" in path else path for path in set(of_text) - set(plain)
    }
    assert {"context_key", "context_value"} <= more


def test_the_encoder_hides_padding() -> None:
    """More of it, with places of its own, changes no state, and no mean over them; nor does what the others are."""
    encoder = TextEncoder(VOCABULARY, 8, 2)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), TEXTS)
    variables = tiny.random_variables(shapes)
    states = encoder.apply(variables, TEXTS)
    assert states.mask.tolist() == (TEXTS != 0).tolist()
    longer = jnp.pad(TEXTS, ((0, 0), (0, 3)))
    params = variables["params"] | {
        "place": jnp.pad(variables["params"]["place"], ((0, 3), (0, 0)), constant_values=9.0)
    }
    more = encoder.apply({"params": params}, longer)
    assert more.mask.tolist() == (longer != 0).tolist()
    np.testing.assert_allclose(more.pooled, states.pooled, rtol=1e-5, atol=1e-5)
    there = np.asarray(states.mask)
    np.testing.assert_allclose(more.tokens[:, :LENGTH][there], states.tokens[there], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        states.pooled[0], np.mean(np.asarray(states.tokens[0, :3], np.float64), axis=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(states.pooled[3], 0)
    for k in range(NUM):
        np.testing.assert_allclose(encoder.apply(variables, TEXTS[k : k + 1]).pooled[0], states.pooled[k], atol=1e-5)
    # Places count: the order of words means something.
    turned = encoder.apply(variables, TEXTS[:1].at[:, :3].set(TEXTS[:1, 2::-1]))
    assert np.max(np.abs(turned.pooled - states.pooled[:1])) > 1e-3


def test_states_of_a_frozen_encoder() -> None:
    """Row 0 is of the whole, rows of zeros are padding, in whatever order."""
    encoder = TextEncoder(None, 8)
    rows = jax.random.normal(jax.random.key(1), (2, 6, 5)).at[0, 4:].set(0).at[1, 2:].set(0)
    variables = tiny.random_variables(jax.eval_shape(encoder.init, jax.random.key(0), rows))
    states = encoder.apply(variables, rows)
    assert states.tokens.shape == (2, 5, 8)
    assert states.pooled.shape == (2, 5)
    assert states.mask.tolist() == [[True] * 3 + [False] * 2, [True] + [False] * 4]
    attention = SelfAttention(2)
    x = jax.random.normal(jax.random.key(2), (2, 2, 3, 8))
    of_attention = tiny.random_variables(jax.eval_shape(attention.init, jax.random.key(0), x, states.context))
    found = attention.apply(of_attention, x, states.context)
    order = jnp.array([0, 5, 3, 1, 4, 2])
    turned = encoder.apply(variables, rows[:, order])
    np.testing.assert_array_equal(turned.pooled, states.pooled)
    np.testing.assert_allclose(attention.apply(of_attention, x, turned.context), found, rtol=1e-5, atol=1e-5)


def test_a_hidden_context_is_none() -> None:
    """Attention whose whole context is hidden is attention without it; and hidden tokens may be anything."""
    attention = SelfAttention(2)
    x = jax.random.normal(jax.random.key(2), (3, 2, 3, 8))
    tokens, mask = jax.random.normal(jax.random.key(3), (3, 5, 4)), jnp.arange(5)[None] < jnp.array([[0], [2], [5]])
    variables = tiny.random_variables(jax.eval_shape(attention.init, jax.random.key(0), x, Context(tokens, mask)))
    found = attention.apply(variables, x, Context(tokens, mask))
    without = attention.apply(variables, x)
    np.testing.assert_allclose(found[0], without[0], rtol=1e-6, atol=1e-6)
    assert np.min(np.max(np.abs(found - without), axis=(1, 2, 3))[1:]) > 1e-3
    junk = jnp.where(mask[..., None], tokens, 1e4)
    np.testing.assert_allclose(attention.apply(variables, x, Context(junk, mask)), found, rtol=1e-6, atol=1e-6)
    longer = Context(jnp.pad(tokens, ((0, 0), (0, 4), (0, 0)), constant_values=7.0), jnp.pad(mask, ((0, 0), (0, 4))))
    np.testing.assert_allclose(attention.apply(variables, x, longer), found, rtol=1e-6, atol=1e-6)


def test_masked_attention_is_that_of_the_keys_there_are() -> None:
    """Against float64, key by key; without any it is 0, and so is its gradient, which is finite."""
    query, key, value = (jax.random.normal(jax.random.key(k), (3, n, 2, 4)) for k, n in enumerate((5, 7, 7)))
    mask = jnp.array([[True] * 7, [True, False, True, False, False, True, False], [False] * 7])
    found = plain_attention(query, key, value, mask)
    scores = np.einsum("bqhc,bkhc->bhqk", f64(query), f64(key)) / 2
    for row in range(2):
        keys = np.flatnonzero(mask[row])
        weights = np.exp(scores[row][:, :, keys])
        weights /= weights.sum(axis=-1, keepdims=True)
        expected = np.einsum("hqk,khc->qhc", weights, f64(value)[row, keys])
        np.testing.assert_allclose(found[row], expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(found[2], 0)
    gradient = jax.grad(lambda *qkv: jnp.sum(jnp.square(plain_attention(*qkv, mask))), argnums=(0, 1, 2))
    for each in gradient(query, key, value):
        assert np.isfinite(each).all()
        np.testing.assert_array_equal(each[2], 0)


def test_bfloat16_and_rematerialised_blocks() -> None:
    """The encoder stays float32; what comes out differs by rounding alone, and by recomputation in nothing."""
    variables, apply = compiled("unet")
    exact = apply(Z, GAMMA, condition(TEXTS))
    network = NETWORKS["unet"]
    again = jax.jit(network.clone(remat=True).apply)(variables, Z, GAMMA, condition(TEXTS))
    np.testing.assert_allclose(again, exact, rtol=1e-5, atol=1e-5)
    rounded = jax.jit(network.clone(dtype=jnp.bfloat16).apply)(variables, Z, GAMMA, condition(TEXTS))
    assert rounded.dtype == jnp.float32
    error = np.sqrt(np.mean(np.square(rounded - exact)) / np.mean(np.square(exact - Z)))
    assert 2**-14 < error < 2**-9 * np.sqrt(2 * 80)
    states = jax.eval_shape(TextEncoder(VOCABULARY, 8, 1).init_with_output, jax.random.key(0), TEXTS)[0]
    assert {states.tokens.dtype, states.pooled.dtype} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(("pixels", "keys", "fused"), [(4, 6, True), (3, 6, False), (4, 7, False)])
def test_fused_attention_takes_the_mask(monkeypatch: pytest.MonkeyPatch, pixels: int, keys: int, fused: bool) -> None:
    """Of even numbers, which its backward pass needs; the same numbers come out."""
    asked, of_jax = [], jax.nn.dot_product_attention

    def watched(query: Any, key: Any, value: Any, mask: Any = None, implementation: Any = None) -> Any:
        asked.append(implementation)
        return of_jax(query, key, value, mask=mask)

    monkeypatch.setattr("vdm.networks.attention.largest_fused_head", lambda: 128)
    monkeypatch.setattr(jax.nn, "dot_product_attention", watched)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *qkv, cuda, default: cuda(*qkv))
    shapes = ((2, pixels, 1, 8), (2, keys, 1, 8), (2, keys, 1, 8))
    query, key, value = (jax.random.normal(jax.random.key(k), s, jnp.bfloat16) for k, s in enumerate(shapes))
    mask = jnp.arange(keys)[None] < jnp.array([[keys], [2]])
    # JAX's own of other types than float32 is not for strict promotion.
    with jax.numpy_dtype_promotion("standard"):
        found = attend(query, key, value, mask)
    assert asked == ["cudnn"] * fused
    # A rounding to 8 bits of each.
    np.testing.assert_allclose(
        found.astype(jnp.float32), plain_attention(query, key, value, mask).astype(jnp.float32), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_gradient_with_captions_lowers_for_other_platforms(platform: str) -> None:
    variables, _ = compiled("unet")
    apply = NETWORKS["unet"].clone(dtype=jnp.bfloat16, remat=True).apply
    gradient = jax.jit(jax.grad(lambda v, z, text: jnp.mean(jnp.square(apply(v, z, GAMMA, condition(text))))))
    assert jax.export.export(gradient, platforms=[platform])(variables, Z, TEXTS).platforms == (platform,)


def test_captions_stay_with_their_images_on_eight_devices() -> None:
    variables, apply = compiled("dit")
    mesh = parallel.make_mesh(8)
    twice = {"z": Z, "gamma": GAMMA, **condition(TEXTS, jnp.array([False, True, False, False]))}
    twice = {name: np.concatenate([np.asarray(each)] * 2) for name, each in twice.items()}
    spread = parallel.shard_batch(twice, mesh)
    assert len(spread["text"].sharding.device_set) == 8
    of_devices = jax.jit(
        lambda b: NETWORKS["dit"].apply(variables, b["z"], b["gamma"], {k: b[k] for k in ("text", "dropped")})
    )(spread)
    expected = apply(Z, GAMMA, condition(TEXTS, jnp.array([False, True, False, False])))
    np.testing.assert_allclose(np.asarray(of_devices), np.concatenate([expected] * 2), rtol=1e-5, atol=1e-5)


def test_captions_need_their_number_of_tokens() -> None:
    with pytest.raises(ValueError, match="vocabulary=None: must be the number of tokens"):
        TextEncoder(None).init(jax.random.key(0), TEXTS)
