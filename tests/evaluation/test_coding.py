"""A network's coder answers with the same bits wherever it must: with other threads, devices, batches and processes."""

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from commands import environment
from jax import export, lax

from vdm import predictions, schedules
from vdm.codec import chunk
from vdm.codec.chain import Chain, compiled
from vdm.evaluation.coding import COMPILER, chain_of, fingerprint, x_hat
from vdm.evaluation.products import by_products
from vdm.model import Model, Variables

TESTS = Path(__file__).parents[1]
SHAPE, LEVELS, T, BATCH, CLASSES = (8, 8, 3), 17, 2, 8, 3
# Of this size XLA's own convolutions, of 16 channels and of dilated inputs, have other bits on 8 threads than on 2.
LABEL = {"label": jax.ShapeDtypeStruct((), jnp.int32)}


class Network(nn.Module):
    """Narrow convolutions of both kinds that XLA splits by threads, a norm, a softmax, and labels if there are any."""

    channels: int = 16
    activation: Any = nn.silu

    @nn.compact
    def __call__(self, z: Any, gamma: Any, condition: Any = None, train: bool = False) -> Any:
        h = nn.Conv(self.channels, (3, 3))(z)
        if condition is not None:
            h = h + nn.Embed(CLASSES, self.channels)(condition["label"])[:, None, None]
        h = h + jnp.reshape(jnp.sin(gamma), (-1, 1, 1, 1))
        h = nn.Conv(self.channels, (3, 3))(self.activation(nn.LayerNorm()(h)))
        h = nn.ConvTranspose(self.channels, (3, 3), strides=(2, 2))(h)
        return z + nn.Conv(z.shape[-1], (3, 3), strides=(2, 2))(nn.softmax(h))


def made(conditional: bool = True, **fields: Any) -> tuple[Model, Variables]:
    """The same in every process."""
    condition = LABEL if conditional else {}
    model = Model(schedules.linear(-5.0, 3.0), Network(), SHAPE, LEVELS, condition=condition, **fields)
    shapes = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
    return model, tiny.random_variables(shapes)


@functools.cache
def coder() -> Chain:
    return chain_of(*made(), T, BATCH)


IMAGES = np.asarray(tiny.images(30, SHAPE, LEVELS))
LABELS = np.random.default_rng(1).integers(0, CLASSES, len(IMAGES))
Z, GAMMA = np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype(np.float32), np.float32(-1)
LABELS_OF_Z = LABELS[:BATCH].astype(np.int32)


def decode_there(folder: str) -> None:
    """In a process of its own: decodes the words of a folder to images.npz, by the model and by x_hat.bin alone."""
    chain = coder()
    images, labels = chunk.pop(chain, np.load(f"{folder}/words.npy"), len(IMAGES), CLASSES)
    exported, _ = chunk.pop(of_exported(folder), np.load(f"{folder}/exported.npy"), len(IMAGES))
    x_hat = np.asarray(chain.predict(Z, GAMMA, LABELS_OF_Z))
    np.savez(f"{folder}/images.npz", images=images, labels=labels, exported=exported, x_hat=x_hat)


def of_exported(folder: str | Path) -> Chain:
    """With the program in a folder, and nothing of the model's; as denoiser.bin, it takes a γ for each image."""
    program = export.deserialize(bytearray(Path(folder, "x_hat.bin").read_bytes()))
    predict = compiled(lambda z, gamma: program.call(z, jnp.broadcast_to(gamma, z.shape[:1])))
    return Chain(predict, np.linspace(3.0, -5.0, T + 1), SHAPE, LEVELS, BATCH)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What a process with one device and two threads makes of what was encoded here, where there are eight of both."""
    from vdm.export.programs import denoiser, to_weights

    folder = tmp_path_factory.mktemp("coded")
    words, rate = chunk.push(coder(), IMAGES, LABELS, CLASSES)
    assert rate.images > 20
    np.save(folder / "words.npy", words)
    model, variables = made(conditional=False)
    function = by_products(functools.partial(denoiser(model), to_weights(variables)))
    like = jax.ShapeDtypeStruct((BATCH, *SHAPE), jnp.float32), jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    program = export.export(jax.jit(function), platforms=["cpu"])(*like)
    (folder / "x_hat.bin").write_bytes(program.serialize())
    np.save(folder / "exported.npy", chunk.push(of_exported(folder), IMAGES)[0])
    where = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}:{TESTS / 'evaluation'}", "NPROC": "2"}
    code = f"import test_coding; test_coding.decode_there({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], env=environment(1, **where), check=True, timeout=300)
    with np.load(folder / "images.npz") as found:
        return dict(found)


def test_another_process_with_other_threads_and_devices_decodes(there: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(there["x_hat"], coder().predict(Z, GAMMA, LABELS_OF_Z))
    np.testing.assert_array_equal(there["images"], IMAGES)
    np.testing.assert_array_equal(there["labels"], LABELS)


def test_what_is_encoded_with_an_exported_program_is_decoded_with_it_elsewhere(there: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(there["exported"], IMAGES)


def test_no_convolution_of_the_coder_is_split_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the text of what is compiled: all of this network's are of the kinds that are."""
    texts: list[str] = []

    def seen(lowered: Any, *options: Any) -> Any:
        program = compile_(lowered, *options)
        texts.append(program.as_text() or "")
        return program

    compile_ = jax.stages.Lowered.compile
    monkeypatch.setattr(jax.stages.Lowered, "compile", seen)
    chain_of(*made(), T, BATCH)
    model, variables = made()
    jax.jit(functools.partial(x_hat, model)).lower(variables, Z, GAMMA, LABELS_OF_Z).compile()
    own, plain = texts
    assert "convolution(" in plain
    assert "convolution(" not in own


def test_an_image_is_answered_alike_whatever_else_is_in_the_batch() -> None:
    predict = coder().predict
    expected = np.asarray(predict(Z, GAMMA, LABELS_OF_Z))
    assert np.std(expected) > 0.1
    for other in (np.random.default_rng(2).normal(size=Z.shape), 0 * Z, 1e6 * np.sign(Z)):
        batch = np.concatenate([Z[:1], other[1:].astype(np.float32)])
        labels = np.concatenate([LABELS_OF_Z[:1], 0 * LABELS_OF_Z[1:]])
        np.testing.assert_array_equal(np.asarray(predict(batch, GAMMA, labels))[0], expected[0])


def test_every_device_answers_alike() -> None:
    last = chain_of(*made(), T, BATCH, device=jax.devices()[-1])
    answer = last.predict(Z, GAMMA, LABELS_OF_Z)
    assert answer.devices() == {jax.devices()[-1]} != {jax.devices()[0]}
    np.testing.assert_array_equal(answer, coder().predict(Z, GAMMA, LABELS_OF_Z))


def test_it_is_the_model_that_answers() -> None:
    model, variables = made()
    expected = jax.jit(functools.partial(x_hat, model))(variables, Z, GAMMA, LABELS_OF_Z)
    scale = float(jnp.max(jnp.abs(expected)))
    # Convolutions as products add up in another order: some 10 layers, each of rounding errors of 2⁻²⁴ of its scale.
    np.testing.assert_allclose(coder().predict(Z, GAMMA, LABELS_OF_Z), expected, atol=1e-4 * scale)


@pytest.mark.parametrize("fields", [{"lhs_dilation": (2, 1)}, {"rhs_dilation": (1, 2)}, {"window_strides": (2, 3)}, {}])
@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NHWC")])
def test_convolutions_as_products(fields: dict[str, Any], layout: tuple[str, str, str]) -> None:
    rng = np.random.default_rng(0)
    shape, window = ((2, 7, 6, 3), (3, 2, 3, 5)) if layout[0] == "NHWC" else ((2, 3, 7, 6), (5, 3, 3, 2))
    x, kernel = (rng.normal(size=size).astype(np.float32) for size in (shape, window))
    given = {"window_strides": (1, 1), "padding": ((1, -1), (0, 2)), "dimension_numbers": layout} | fields

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        scanned, _ = lax.scan(lambda x, _: (x + 1, lax.conv_general_dilated(x, kernel, **given)), x, length=2)
        return jax.jit(functools.partial(lax.conv_general_dilated, **given))(scanned, kernel)

    products = by_products(convolve)
    assert "conv_general_dilated[" not in str(jax.make_jaxpr(products)(x, kernel))
    # 18 products of a few units each.
    np.testing.assert_allclose(products(x, kernel), convolve(x, kernel), atol=18 * 10 * 2.0**-23)


def test_the_program_lowers_for_cuda_and_tpu() -> None:
    """With products in float32, which is more than their default, and nothing that is compiled into jaxlib."""
    model, variables = made()
    model = dataclasses.replace(model, network=Network(64))
    variables = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
    like = jax.ShapeDtypeStruct
    given = like((BATCH, *SHAPE), jnp.float32), like((), jnp.float32), like((BATCH,), jnp.int32)
    program = export.export(jax.jit(functools.partial(x_hat, model)), platforms=["cuda", "tpu"])(variables, *given)
    text = program.mlir_module()
    assert text.count("stablehlo.convolution(") >= 4
    assert "custom_call @" not in text
    assert "HIGHEST" in text
    assert "precision DEFAULT" not in text


def test_options_of_the_compiler_are_known_to_it() -> None:
    """The names of a GPU's too: the compiler refuses others, whatever it compiles for."""
    lowered = jax.jit(jnp.sin).lower(1.0)
    assert lowered.compile(COMPILER)(1.0) == jnp.sin(1.0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        lowered.compile({"xla_gpu_autotune": "0"})


def test_what_cannot_be_coded() -> None:
    with pytest.raises(ValueError, match="num_steps=3: must be 5"):
        chain_of(*made(num_steps=5), 3, BATCH)
    model, variables = made()
    other = dataclasses.replace(model, condition=LABEL | {"tokens": jax.ShapeDtypeStruct((7,), jnp.int32)})
    with pytest.raises(ValueError, match="is conditioned on label, tokens; must be on labels alone"):
        chain_of(other, variables, T, BATCH)
    for num_steps in (0, -1):
        with pytest.raises(ValueError, match=f"num_steps={num_steps}"):
            chain_of(*made(), num_steps, BATCH)
    guided = predictions.Guided(lambda z, gamma: predictions.Prediction(z, z))
    with pytest.raises(ValueError, match="denoise: is guided or clipped"):
        compiled(guided)(np.zeros((BATCH, *SHAPE)), np.float32(0), None)


def test_fingerprints() -> None:
    model, variables = made()
    own = fingerprint(model, variables)
    assert own == fingerprint(*made())
    wider = schedules.linear(-5.0, 3.1)
    fields: list[dict[str, Any]] = [
        {"schedule": wider}, {"levels": 16}, {"prediction": "v"}, {"num_steps": T}, {"shape": (8, 8, 2)},
        {"network": Network(activation=nn.gelu)}, {"condition": {}},
    ]  # fmt: skip
    others = [fingerprint(dataclasses.replace(model, **field), variables) for field in fields]
    moved = jax.tree.map(lambda x: x.at[(0,) * x.ndim].add(2.0**-20), variables)
    assert len({own, *others, fingerprint(model, moved)}) == len(others) + 2
