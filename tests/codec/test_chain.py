import jax.numpy as jnp
import numpy as np
import pytest
from coded import gammas, normal, points, predict, stack, values
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm import oracles
from vdm.codec import chunk, normals
from vdm.codec.chain import Chain, compiled
from vdm.codec.normals import Stack

RNG = np.random.default_rng(0)
LINEAR = "linear", -7.0, 5.0
NORMAL = normal(0.1, 0.4)
BINS = 0.5, 0.7, 1.0, 3.3, 256.0


def chain(shape=(3, 2, 1), levels=17, num_steps=4, batch_size=4, bins=1.0, of=NORMAL) -> Chain:
    return Chain(predict(of), gammas(*LINEAR, num_steps), shape, levels, batch_size, bins)


def adversarial(shape: tuple[int, ...], levels: int) -> np.ndarray:
    """Constant, extreme, one pixel on, one off, noise of all levels and of the outermost two, a ramp."""
    top, size = levels - 1, int(np.prod(shape))
    images = np.zeros((8, *shape), np.uint8)
    images[1] = top
    images[2].flat[size // 2] = top
    images[3] = top
    images[3].flat[size // 2] = 0
    images[4] = levels // 2
    images[5] = RNG.integers(0, levels, shape)
    images[6] = top * RNG.integers(0, 2, shape)
    images[7].flat = np.arange(size) % levels
    return images


def assert_comes_back(coder: Chain, images: np.ndarray, labels: np.ndarray | None = None, classes: int = 0) -> int:
    """The chunk decodes; its words are returned."""
    words, rate = chunk.push(coder, images, labels, classes)
    found, of = chunk.pop(coder, words, len(images), classes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)
    assert (of is None) == (labels is None)
    assert labels is None or of.tolist() == labels.tolist()
    assert rate.seeds + rate.images == len(images)
    return len(words)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 1), (2, 3, 3), (3, 2, 4)])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_adversarial_images_come_back(shape, levels):
    images = adversarial(shape, levels)
    for num_steps in (1, 7):
        coder = chain(shape, levels, num_steps)
        assert_comes_back(coder, np.concatenate([images, images[::-1]]))
        # On random bits, without seeds: each alone.
        for image in images:
            bits = stack(2000)
            before = bits.get_compressed().tolist()
            coder.push(bits, image[None], 7)
            np.testing.assert_array_equal(coder.pop(bits, 1, 7), image[None])
            assert bits.get_compressed().tolist() == before


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 20),
    st.sampled_from([1, 4]),
    st.integers(1, 12),
    st.sampled_from(BINS),
    st.data(),
)
def test_any_number_of_images_of_any_steps_comes_back(num, batch_size, num_steps, bins, data):
    """Fewer than a batch, as many and more; whatever the grid."""
    levels = data.draw(st.sampled_from([2, 17, 256]))
    images = data.draw(st.integers(0, 2**32 - 1).map(np.random.default_rng))
    images = images.integers(0, levels, (num, 2, 2, 1)).astype(np.uint8)
    assert_comes_back(chain((2, 2, 1), levels, num_steps, batch_size, bins), images)


def test_a_thousand_steps_come_back():
    coder = Chain(predict(NORMAL), gammas("cosine", -13.3, 5.0, 1000), (2, 2, 1), 256, 2)
    assert_comes_back(coder, RNG.integers(0, 256, (2, 2, 2, 1), np.uint8))


def test_images_come_back_from_an_empty_stack():
    """What is not there to be borrowed is made, and gone in the end."""
    coder, bits, images = chain(num_steps=10), Stack(), RNG.integers(0, 17, (4, 3, 2, 1), np.uint8)
    coder.push(bits, images, 3)
    np.testing.assert_array_equal(coder.pop(bits, 4, 3), images)
    assert bits.is_empty()


def test_labels_come_back_and_are_given_to_the_denoiser():
    """The exact denoiser of each class codes its images in fewer bits than that of another."""
    means, std = np.array([-0.8, 0.0, 0.8])[:, None, None, None], 0.05
    exact = oracles.mixture(np.full(3, 1 / 3), means * np.ones((3, 4, 4, 1)), np.full(3, std))

    def of_labels(labels):
        def denoise(z, gamma):
            answers = jnp.stack([exact.denoise_component(k)(z, gamma) for k in range(3)])
            return jnp.take_along_axis(answers, labels[None, :, None, None, None], axis=0)[0]

        return denoise

    coder = Chain(compiled(of_labels, labels=True), gammas(*LINEAR, 10), (4, 4, 1), 256, 6)
    labels = RNG.integers(0, 3, 20)
    x = means[labels] + std * RNG.normal(size=(20, 4, 4, 1))
    images = np.clip(np.rint((x + 1) * 128 - 0.5), 0, 255).astype(np.uint8)
    right = assert_comes_back(coder, images, labels.astype(np.int32), 3)
    wrong = assert_comes_back(coder, images, (labels.astype(np.int32) + 1) % 3, 3)
    assert wrong > 1.2 * right
    # One class only: no bits, or nearly.
    assert_comes_back(coder, images[labels == 0], np.zeros(sum(labels == 0), np.int32), 1)


def test_a_denoiser_far_from_the_data_escapes_and_comes_back(monkeypatch):
    escapes = []

    def counted(stack, beyond):
        escapes.append(len(beyond))
        return push(stack, beyond)

    push = normals._push_distances
    monkeypatch.setattr(normals, "_push_distances", counted)
    images = adversarial((3, 2, 1), 17)
    for far in (30.0, -3e4):
        escapes.clear()
        coder = Chain(lambda z, gamma, labels, far=far: far + 0 * z, gammas(*LINEAR, 5), (3, 2, 1), 17, 4)
        assert_comes_back(coder, images)
        assert sum(escapes) > 3 * images[2:].size, "most of the latents"


def test_a_denoiser_that_is_not_finite_is_refused():
    for answer in (np.nan, np.inf, 1e30):
        coder = Chain(lambda z, gamma, labels, answer=answer: answer + 0 * z, gammas(*LINEAR, 3), (3, 2, 1), 17, 4)
        with pytest.raises(ValueError, match="mean is not finite, or too large"):
            coder.push(stack(100), np.zeros((1, 3, 2, 1), np.uint8), 0)


def test_another_denoiser_another_number_or_other_words_are_other_images_or_refused():
    """Never a crash, nor the images."""
    coder, images = chain(num_steps=5), RNG.integers(0, 17, (12, 3, 2, 1), np.uint8)
    words, _ = chunk.push(coder, images)
    other = chain(num_steps=5, of=normal(0.1, 0.38))
    refused = 0
    for decoder, code in [(other, words), *((coder, damaged) for damaged in damage(words, 40))]:
        try:
            found, _ = chunk.pop(decoder, code, len(images))
        except ValueError:
            refused += 1
        else:
            assert found.shape == images.shape
            assert not np.array_equal(found, images)
    assert refused > 20


def damage(words: np.ndarray, num: int):
    """A bit flipped, words cut off at either end, others put in."""
    for i in range(num):
        code = words.copy()
        if i % 3 == 0:
            code[RNG.integers(len(code))] ^= 1 << int(RNG.integers(32))
        elif i % 3 == 1:
            code = code[RNG.integers(1, len(code)) :] if i % 2 else code[: RNG.integers(len(code))]
        else:
            code = RNG.integers(1, 1 << 32, RNG.integers(40), dtype=np.uint32)
        if not np.array_equal(code, words):
            yield code


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="images: are none"):
        chunk.push(chain(), np.zeros((0, 3, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="num=0: must be 1 or more"):
        chunk.pop(chain(), np.ones(9, np.uint32), 0)


def test_what_no_chain_can_be_made_of_is_refused():
    make = lambda gammas, bins=1.0: Chain(predict(normal(0, 1)), np.array(gammas), (1,), 2, 1, bins)  # noqa: E731
    for bad in ([5.0], [1.0, 2.0], [5.0, 0.0, 0.0], [5.0, 1e-6, 0.0], [5.0, np.nan]):
        with pytest.raises(ValueError, match="gammas: must be"):
            make(bad)
    for bins in (0.49, 257.0, np.nan):
        with pytest.raises(ValueError, match=r"bins=.*must be from 0.5 to 256"):
            make([5.0, 0.0], bins)


def test_only_one_latent_is_borrowed_for_however_many_steps():
    """The lowest that the stack comes is what `bits_borrowed` says, less what x gives back."""
    for num_steps, bins in ((10, 1.0), (60, 1.0), (60, 4.0)):
        coder = chain((8, 8, 1), 17, num_steps, 16, bins, of=points(np.full(17, 1 / 17)))
        images = RNG.integers(0, 17, (16, 8, 8, 1), np.uint8)
        lows = [lowest(coder, images, number) for number in range(2)]
        spread = 5 * np.sqrt(images.size)
        assert max(lows) < coder.bits_to_start(16)
        assert min(lows) > 0.85 * coder.bits_borrowed * images.size - spread


def lowest(coder: Chain, images: np.ndarray, number: int) -> int:
    """How many bits below its first height the stack comes while images are pushed."""
    heights = []

    class Watched(normals.Normals):
        def draw(self, stack, mean):
            drawn = super().draw(stack, mean)
            heights.append(stack.num_valid_bits())
            return drawn

    for part in (coder._first, *(step.forward for step in coder._steps)):
        part.__class__ = Watched
    bits = stack(1 << 14, seed=number)
    start = bits.num_valid_bits()
    coder.push(bits, images, number)
    return start - min(heights)


def test_a_chunk_pays_for_no_bits_that_it_does_not_use():
    """As many bits as on a stack that is never low, to 5 standard deviations: nothing is lost where it begins."""
    coder, num = chain((6, 6, 1), 17, 30, 16, of=points(np.full(17, 1 / 17))), 120
    images = RNG.integers(0, 17, (num, 6, 6, 1), np.uint8)
    words, rate = chunk.push(coder, images)
    bits = stack()
    start = bits.num_valid_bits()
    for first in range(rate.seeds, num, 16):
        coder.push(bits, images[first : first + 16], first)
    high = bits.num_valid_bits() - start
    # Of one image the number of bits varies by less than 0.5 √dims.
    assert abs(rate.bits - high) < 5 * 0.5 * np.sqrt(2 * images.size) + 60
    assert abs(32 * len(words) - rate.bits - rate.seed_bits) < 64


def test_values_are_where_the_likelihood_has_them():
    coder = chain((17, 1, 1))
    images = np.arange(17, dtype=np.uint8).reshape(1, 17, 1, 1)
    z_0 = coder._up_first(images) * coder._widths[0] / coder._alpha_0
    np.testing.assert_allclose(z_0, values(17), rtol=0, atol=1e-14)
    p = coder._probabilities(np.rint(coder._up_first(images)).astype(np.int64), 1)
    assert p.shape == (17, 17)
    assert np.argmax(p, axis=1).tolist() == list(range(17))
