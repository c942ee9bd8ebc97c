"""What a network computes in, read off the programs: of every product and convolution, forward and backward."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import model as model_lib
from vdm import parallel, parts, precisions
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.ode import OdeEvaluator
from vdm.model import Model
from vdm.programs.train import train
from vdm.training.objective import Objective
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, jit_train_step

MARK = {"float32": "HIGHEST", "tf32": "HIGH", "bfloat16": "HIGH"}
BATCH = 2


def batch() -> dict[str, jax.ShapeDtypeStruct]:
    index = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    image = jax.ShapeDtypeStruct((BATCH, 4, 4, 1), jnp.uint8)
    return {"image": image, "index": index, "offset": jax.ShapeDtypeStruct((BATCH,), jnp.float32)}


def abstract(model: Model) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0))


def evaluated(model: Model) -> Any:
    program = Evaluator(model, parallel.make_mesh(1), BATCH)._batch_bound
    return program.lower(abstract(model), jax.random.key(0), batch(), 1, None, None)


def sampled(model: Model) -> Any:
    settings = SamplingConfig(num=BATCH, steps=2, precision=model.precision)
    # Made in float32, as a run's model is: the settings decide.
    sampler = ImageSampler(model.computed_in("float32"), parallel.make_mesh(1), settings)
    return sampler._run.lower(abstract(model), sampler._of_model.leading, jax.random.key(0), jnp.asarray(0), None)


def trained(model: Model, optimizer_name: str = "adamw") -> Any:
    config, mesh = tiny.config(), parallel.make_mesh(1)
    config.training.precision, config.optimizer.name = model.precision, optimizer_name
    model, optimizer = model_lib.for_training(config, model.computed_in("float32")), make_optimizer(config)
    with jax.numpy_dtype_promotion("standard"):
        state = jax.eval_shape(lambda: init_state(model, Objective(), optimizer, 0))
        step = jit_train_step(model, Objective(), optimizer, config, mesh)
        return step.lower(state, jax.eval_shape(empty_metrics), {"image": batch()["image"]})


def products(text: str) -> list[str]:
    """Lines of a StableHLO module with a product or a convolution, its attributes in it."""
    return [line for line in text.splitlines() if "stablehlo.dot_general" in line or "stablehlo.convolution" in line]


def in_bfloat16(line: str) -> bool:
    """Whether its first operand is."""
    return re.search(r": \(tensor<[\dx]+bf16>", line) is not None


@pytest.mark.parametrize("program", [evaluated, sampled, trained])
@pytest.mark.parametrize("precision", precisions.PRECISIONS)
def test_programs_compute_in_what_they_say(program: Callable[[Model], Any], precision: str) -> None:
    """Whatever JAX's own default is when they are traced: it is part of the model, not of where it is called."""
    with jax.default_matmul_precision("bfloat16"):
        found = products(program(tiny.pixelwise().computed_in(precision)).as_text())
    # Two layers; their gradients by the input (which depends on γ) and by the weights.
    assert len(found) == (6 if program is trained else 2)
    for line in found:
        assert re.findall(r"\b(HIGHEST|HIGH|DEFAULT)\b", line) == [MARK[precision]] * 2, line
        assert in_bfloat16(line) == (precision == "bfloat16")


@pytest.mark.parametrize("precision", precisions.PRECISIONS)
def test_products_of_the_optimizer_are_marked_as_those_of_the_network(precision: str) -> None:
    with jax.default_matmul_precision("bfloat16"):
        found = products(trained(tiny.pixelwise().computed_in(precision), "muon").as_text())
    assert len(found) > 6
    for line in found:
        assert re.findall(r"\b(HIGHEST|HIGH|DEFAULT)\b", line) == [MARK[precision]] * 2, line


@pytest.mark.parametrize("precision", precisions.PRECISIONS)
def test_it_is_in_what_is_lowered_for_a_gpu(precision: str) -> None:
    model = tiny.model().computed_in(precision)
    z = jax.ShapeDtypeStruct((BATCH, 4, 4, 1), jnp.float32)
    denoise = jax.jit(lambda variables, z: model.denoise(variables, z, jnp.zeros(BATCH)))
    found = products(jax.export.export(denoise, platforms=["cuda"])(abstract(model), z).mlir_module())
    assert all(len(re.findall(rf"\b{MARK[precision]}\b", line)) == 2 for line in found)
    # Two convolutions of each of the five blocks, between the first and the last one.
    blocks = [in_bfloat16(line) for line in found if "stablehlo.convolution" in line]
    assert blocks == ([False, *[True] * 10, False] if precision == "bfloat16" else [False] * 12)


def test_the_ode_is_in_float32_alone() -> None:
    model, mesh = tiny.pixelwise(), parallel.make_mesh(1)
    program = OdeEvaluator(model, mesh, 16, num_probes=1)._batch_bound
    shapes = {name: shape for name, shape in batch().items() if name != "offset"}
    found = products(program.lower(abstract(model), jax.random.key(0), 0, jnp.float32(1e-2), shapes).as_text())
    assert found
    assert all(line.count("HIGHEST") == 2 for line in found)
    with pytest.raises(InputError, match=r"config\.evaluation\.precision='tf32': must be float32 for the ODE"):
        OdeEvaluator(model.computed_in("tf32"), mesh, 1)


@jax.custom_vjp
def halved(x: jax.Array) -> jax.Array:
    return 0.5 * x


halved.defvjp(lambda x: (0.5 * x, None), lambda _, g: (g @ (0.5 * jnp.eye(g.shape[-1])),))


class Own(nn.Module):
    """A network without a field `dtype`, whose backward pass has a product of its own."""

    @nn.compact
    def __call__(self, z: Any, gamma: Any, condition: Any = None, train: bool = False) -> Any:
        return nn.Dense(z.shape[-1])(halved(nn.Dense(3)(z)))


def test_a_network_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Products are marked without its help, those of its own backward pass too; for bfloat16 it needs a `dtype`."""
    own = replace(tiny.model(), network=Own())
    found = products(trained(own).as_text())
    assert len(found) == 7
    assert all(line.count("HIGHEST") == 2 for line in found)
    with pytest.raises(ValueError, match=r"^the network Own has no field dtype; must be float32 or tf32$"):
        own.computed_in("bfloat16")
    with pytest.raises(ValueError, match=r"^precision='half': must be one of float32, tf32, bfloat16$"):
        own.computed_in("half")
    typed = tiny.pixelwise()
    assert typed.computed_in("tf32").network is typed.network
    rounded = typed.computed_in("bfloat16")
    assert (rounded.network.dtype, rounded.computed_in("float32").network.dtype) == (jnp.bfloat16, jnp.float32)

    # Of a config it is one line before anything is written: also of what is asked for only at the end.
    monkeypatch.setitem(parts.PARTS["network"], "own", Own)
    for group in ("training", "evaluation", "sampling"):
        config = tiny.run_config(tmp_path, steps=1)
        config.network.name = "own"
        getattr(config, group).precision = "bfloat16"
        with pytest.raises(InputError, match=rf"config\.{group}\.precision='bfloat16': the network Own has no"):
            train(config, tmp_path / "run")
        assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("platform", "version", "capability", "wanted"),
    [("cpu", "", None, True), ("gpu", "cuda 12", "7.5", True), ("gpu", "cuda 12", "8.0", False),
     ("gpu", "cuda 13", "10.0", False), ("gpu", "rocm", "gfx942", False), ("tpu", "", None, False)],
)  # fmt: skip
def test_where_tf32_is_known_to_be_float32(platform: str, version: str, capability: str, wanted: bool) -> None:
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(platform=platform, client=client, compute_capability=capability)
    assert precisions.is_float32("tf32", device) == wanted
    assert precisions.is_float32("float32", device)
    assert not precisions.is_float32("bfloat16", device)


def test_the_roundings_are_those_of_the_docstring() -> None:
    """Of numbers to the nearest with 24, 11 and 8 binary digits: 2⁻²⁴, 2⁻¹¹ and 2⁻⁸ at most, and nearly so."""
    x = np.linspace(1, 2, 100_001)
    for dtype, digits in ((np.float32, 24), (jnp.bfloat16, 8)):
        error = np.abs(x.astype(dtype).astype(np.float64) - x) / x
        assert 0.9 * 2.0**-digits < error.max() <= 2.0**-digits
