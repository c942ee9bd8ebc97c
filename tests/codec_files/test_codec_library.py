"""`codec.encode` and `codec.decode`: the images again, or one line, and never other images."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_codec
from tiny_codec import DENOISE, GAMMAS, LEVELS, SHAPE

from vdm import codec, oracles, samplers, schedules
from vdm.codec import coding, container
from vdm.codec.container import Container, Damaged
from vdm.errors import InputError


@pytest.mark.parametrize(("num", "chunk"), [(1, 8), (2, 1), (8, 8), (20, 8), (20, 100)])
def test_the_images_come_back(num, chunk):
    images = tiny_codec.images(num)
    coded = codec.encode(images, DENOISE, GAMMAS, LEVELS, chunk=chunk, batch_size=4)
    assert Container.of_bytes(coded).header.num_chunks == -(-num // chunk)
    np.testing.assert_array_equal(codec.decode(coded, DENOISE, GAMMAS), images)


def test_a_chunk_decodes_without_the_others():
    file = Container.of_bytes(tiny_codec.coded(20, chunk=8))
    for k in (2, 0, 1):
        found = coding.decode_chunk(tiny_codec.chain(), file, k)
        np.testing.assert_array_equal(found.images, tiny_codec.images(20)[file.header.numbers(k)])
        assert found.labels is None
        assert found.names is None


@pytest.mark.parametrize("classes", [1, 3])
def test_labels_are_coded_and_used(classes):
    """Each class has an oracle of its own: with the labels given, images take fewer bits than by the other's."""
    values = np.array([-0.6, 0.6, 0.0])[:classes].reshape(-1, 1, 1, 1)
    parts = [oracles.gaussian(np.full((1,), value), np.full((1,), 1e-2)).denoise for value in values.ravel()]

    def denoise(labels):
        return lambda z, gamma: jnp.stack([part(z, gamma) for part in parts])[labels, jnp.arange(len(z))]

    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 60)
    x = values[labels][:, 0] + 0.1 * rng.normal(size=(60, 1, 1))
    images = np.clip(np.rint((x[..., 0] + 1) * LEVELS / 2 - 0.5), 0, LEVELS - 1).astype(np.uint8)
    given = {"levels": LEVELS, "classes": classes, "batch_size": 8}
    coded = codec.encode(images, denoise, GAMMAS, labels=labels, **given)
    found = codec.decode_labelled(coded, denoise, GAMMAS)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    if classes > 1:
        other = codec.encode(images, denoise, GAMMAS, labels=(labels + 1) % classes, **given)
        assert len(other) > len(coded)


def test_another_model_never_gives_other_images():
    coded = tiny_codec.coded(20)
    other = oracles.gaussian(np.zeros(SHAPE), np.full(SHAPE, 0.11)).denoise
    with pytest.raises(Damaged, match=r"chunk 0 \(images 0 to 7\): does not decode here to what was coded"):
        codec.decode(coded, other, GAMMAS)
    gammas = np.asarray(samplers.grid(lambda t: schedules.linear(-6.5, 3.0).gamma({}, t), len(GAMMAS) - 1))
    with pytest.raises(Damaged, match="does not decode"):
        codec.decode(coded, DENOISE, gammas)


def test_images_are_held_against_their_digest():
    """Payload and index are whole, and the images are not those that were coded."""
    file = Container.of_bytes(tiny_codec.coded(8))
    entry = file.entries[0]._replace(digest=bytes(8))
    coded = container.front(file.header, [entry]) + tiny_codec.coded(8)[file.front_size :]
    with pytest.raises(Damaged, match=r"chunk 0 \(images 0 to 7\): does not decode here to what was coded"):
        codec.decode(coded, DENOISE, GAMMAS)


def test_a_file_of_something_else_is_one_line():
    coded = tiny_codec.coded(3, model="a")
    with pytest.raises(InputError, match="file: T is 2; must be 1, as it is here"):
        codec.decode(coded, DENOISE, GAMMAS[1:], model="a")
    with pytest.raises(InputError, match="file: model is 'a'; must be 'b', as it is here"):
        codec.decode(coded, DENOISE, GAMMAS, model="b")


IMAGES = tiny_codec.images(3)


@pytest.mark.parametrize(
    ("images", "given", "said"),
    [
        (IMAGES.astype(np.int32), {}, "images: are int32"),
        (IMAGES[:0], {}, "images: are uint8"),
        (IMAGES + np.uint8(10), {}, "images: have values up to"),
        (IMAGES, {"labels": np.zeros(3, int)}, "labels: there are some, and classes=0"),
        (IMAGES, {"classes": 3}, "labels: there are none, and classes=3"),
        (IMAGES, {"classes": 3, "labels": np.zeros(2, int)}, r"labels: are int64 \(2,\)"),
        (IMAGES, {"classes": 3, "labels": np.full(3, 3)}, "labels: are from 3 to 3; must be from 0 to 2"),
        (IMAGES, {"chunk": 0}, "codec.encode.chunk=0"),
        (IMAGES, {"batch_size": 0}, "codec.encode.batch_size=0"),
    ],
)
def test_what_cannot_be_coded_is_one_line(images, given, said):
    with pytest.raises(ValueError, match=said):
        codec.encode(images, DENOISE, GAMMAS, LEVELS, **given)


@pytest.mark.parametrize("gammas", [np.ones(()), [], [1.0], [[1.0, 0.0]]])
def test_gammas_are_several(gammas):
    with pytest.raises(ValueError, match="gammas: are of shape"):
        codec.encode(IMAGES, DENOISE, gammas, LEVELS)


def test_where_it_was_made_is_said(monkeypatch):
    """Of another version, what does not decode may be its fault."""
    here = coding.here()
    assert here == coding.here()
    assert here.other_than(here) == []
    monkeypatch.setattr(coding, "here", lambda device=None: codec.Header().made_on)
    coded = tiny_codec.coded(20)
    monkeypatch.undo()
    other = oracles.gaussian(np.zeros(SHAPE), np.full(SHAPE, 0.3)).denoise
    with pytest.raises(Damaged, match=r"\(jax unknown there, 0"):
        codec.decode(coded, other, GAMMAS)
