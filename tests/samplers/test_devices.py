"""The same images from one device, from eight by pmap, and from one program over a mesh."""

from functools import partial

import affine
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import parallel, samplers

GAMMAS, SHAPE, KEY = jnp.asarray(affine.GAMMAS), (16, 3), jax.random.key(2)
SAMPLER = samplers.ddim(0.5)


def denoiser(variables):
    """A denoiser that its variables change."""
    return lambda z, gamma: variables["scale"] * affine.denoise(z, gamma)


VARIABLES = {"scale": jnp.float32(0.9)}


@pytest.fixture(scope="module")
def pmapped():
    return samplers.pmapped(denoiser, SAMPLER, SHAPE)


def one_device(variables, first=0):
    sample = partial(samplers.sample, denoise=denoiser(variables), sampler=SAMPLER, shape=SHAPE, first=first)
    return np.asarray(jax.jit(lambda key: sample(key, gammas=GAMMAS))(KEY))


def close(images, others):
    # The same operations in other vector lengths: the last bits, and x̂ magnifies them by 1/α₁ = 7.
    np.testing.assert_allclose(images, others, rtol=1e-5, atol=1e-5)


def test_pmap_on_eight_devices_makes_the_images_of_one(pmapped):
    images = pmapped(KEY, GAMMAS, VARIABLES)
    assert {shard.data.shape for shard in images.addressable_shards} == {(2, 3)}
    assert len(images.sharding.device_set) == 8
    close(images, one_device(VARIABLES))
    other = {"scale": jnp.float32(0.7)}
    close(pmapped(KEY, GAMMAS, other, first=5), one_device(other, first=5))


def test_pmap_on_chosen_devices(pmapped):
    images = samplers.pmapped(denoiser, SAMPLER, SHAPE, jax.devices()[2:4])(KEY, GAMMAS, VARIABLES)
    assert images.sharding.device_set == set(jax.devices()[2:4])
    close(images, pmapped(KEY, GAMMAS, VARIABLES))


def test_one_program_over_a_mesh_makes_the_images_of_one_device():
    sharding = parallel.batch_sharding(parallel.make_mesh())
    draw = jax.jit(partial(samplers.sample, denoise=denoiser(VARIABLES), sampler=SAMPLER, shape=SHAPE),
                   out_shardings=sharding)  # fmt: skip
    images = draw(KEY, gammas=GAMMAS)
    assert len(images.sharding.device_set) == 8
    close(images, one_device(VARIABLES))
    # Each device works on its share, with nothing to tell the others.
    program = draw.lower(KEY, gammas=GAMMAS).compile().as_text()
    assert "f32[2,3]" in program
    assert "f32[16,3]" not in program
    assert "all-" not in program


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    for batch in (12, 0):
        with pytest.raises(ValueError, match=rf"shape=\({batch}, 3\).*multiple of 8 devices"):
            samplers.pmapped(denoiser, SAMPLER, (batch, 3))


def test_donated_latents_become_the_images():
    _, z_1 = samplers.initial_latents(KEY, SHAPE)
    draw = jax.jit(partial(samplers.sample_from, denoise=affine.denoise, sampler=SAMPLER), donate_argnames="z_1")
    expected, before = samplers.sample(KEY, affine.denoise, SAMPLER, GAMMAS, SHAPE), z_1.unsafe_buffer_pointer()
    images = draw(KEY, gammas=GAMMAS, z_1=z_1)
    assert z_1.is_deleted()
    assert images.unsafe_buffer_pointer() == before
    close(images, expected)
