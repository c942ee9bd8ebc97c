"""benchmarks/accelerator.py: parts with limits, counts of kernels and traces, on hand-made and on real programs."""

import ast
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from vdm.config import Config, validate

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The program, whose own modules can be imported as well."""
    sys.path.insert(0, str(BENCHMARKS))
    import accelerator

    yield accelerator
    sys.path.remove(str(BENCHMARKS))


# A GPU's program as XLA prints it, cut down.
PROGRAM = """HloModule jit_train_step, is_scheduled=true

%fused_bits (param_0: u32[8]) -> pred[8] {
  %param_0 = u32[8]{0} parameter(0)
  %shift.1 = u32[8]{0} shift-right-logical(%param_0, %param_0)
  %xor.1 = u32[8]{0} xor(%shift.1, %param_0)
  ROOT %compare.1 = pred[8]{0} compare(%xor.1, %param_0), direction=LT
}

%fused_dot (param_0: bf16[4,6], param_1: bf16[6,10]) -> f32[4,10] {
  %param_0 = bf16[4,6]{1,0} parameter(0)
  %param_1 = bf16[6,10]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,10]{1,0} dot(%param_0, %param_1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (param: (s32[], f32[4,10])) -> (s32[], f32[4,10]) {
  %param = (s32[], f32[4,10]{1,0}) parameter(0)
  %get-tuple-element.9 = f32[4,10]{1,0} get-tuple-element(%param), index=1
  %copy.9 = f32[4,10]{0,1} copy(%get-tuple-element.9)
  %zero = s32[] constant(0)
  ROOT %tuple.9 = (s32[], f32[4,10]{1,0}) tuple(%zero, %copy.9)
}

ENTRY %main (x: bf16[2,8,8,3], k: bf16[5,3,3,3], a: bf16[4,6], b: bf16[6,10], bits: u32[8]) -> f32[4,10] {
  %x = bf16[2,8,8,3]{3,2,1,0} parameter(0)
  %k = bf16[5,3,3,3]{3,2,1,0} parameter(1)
  %a = bf16[4,6]{1,0} parameter(2)
  %b = bf16[6,10]{1,0} parameter(3)
  %bits = u32[8]{0} parameter(4)
  %conv.1 = (bf16[2,8,8,5]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(train_step)/jvp(UNet)/down_3/conv_0/conv_general_dilated"}
  %get-tuple-element.1 = bf16[2,8,8,5]{3,2,1,0} get-tuple-element(%conv.1), index=0
  %conv.2 = (bf16[5,3,3,3]{3,2,1,0}, u8[16]{0}) custom-call(%x, %get-tuple-element.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter", metadata={op_name="jit(train_step)/transpose(jvp(UNet))/up_12/conv_1/conv_general_dilated"}
  %fusion.1 = pred[8]{0} fusion(%bits), kind=kLoop, calls=%fused_bits, metadata={op_name="jit(train_step)/jvp(UNet)/up_0/Dropout_0/jit(_bernoulli)/lt"}
  %gemm_fusion.1 = f32[4,10]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused_dot
  %zero.1 = s32[] constant(0)
  %tuple.1 = (s32[], f32[4,10]{1,0}) tuple(%zero.1, %gemm_fusion.1)
  %while.1 = (s32[], f32[4,10]{1,0}) while(%tuple.1), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  ROOT %get-tuple-element.2 = f32[4,10]{1,0} get-tuple-element(%while.1), index=1
}
"""  # noqa: E501


def test_kernels_of_a_program(bench: ModuleType) -> None:
    from accelerator_parts.hlo import kernels

    conv, of_kernel, bits, product, copy = kernels(PROGRAM)
    image, filters, out = 2 * 8 * 8 * 3, 5 * 3 * 3 * 3, 2 * 8 * 8 * 5
    assert (conv.kind, conv.place, conv.flops) == ("convolution", "down/conv_0", 2 * out * 27)
    assert conv.num_bytes == 2 * (image + filters + out)
    # The gradient of the filters takes as many products as the convolution.
    assert (of_kernel.kind, of_kernel.place, of_kernel.flops) == ("convolution", "backward up/conv_1", conv.flops)
    assert of_kernel.num_bytes == 2 * (image + filters + out) + 16
    assert (bits.kind, bits.place, bits.num_bytes, bits.flops) == ("random bits", "up/Dropout", 8 * 4 + 8, 0)
    assert (product.kind, product.flops) == ("product", 2 * 4 * 6 * 10)
    assert (copy.kind, copy.num_bytes, copy.launches) == ("copy", 2 * 4 * 40, 7)
    assert copy.floor(flops_per_second=1.0, bytes_per_second=10.0) == 32.0
    assert product.floor(flops_per_second=10.0, bytes_per_second=1e9) == 48.0


@pytest.fixture(scope="module")
def program() -> tuple[Any, tuple[jax.Array, ...]]:
    """A compiled convolution with its two gradients and a product, and its arguments."""

    def loss(image: jax.Array, filters: jax.Array, weights: jax.Array) -> jax.Array:
        h = jax.lax.conv_general_dilated(image, filters, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sum(jnp.sin(h) @ weights)

    arguments = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5)), jnp.ones((5, 6))
    return jax.jit(jax.grad(loss, (0, 1))).lower(*arguments).compile(), arguments


def test_flops_of_a_real_program(bench: ModuleType, program: tuple[Any, Any]) -> None:
    """On a CPU gradients are convolutions, too, with axes in other places and padding that does not count."""
    from accelerator_parts.hlo import kernels

    compiled, _ = program
    found = [kernel for kernel in kernels(compiled.as_text()) if kernel.kind == "convolution"]
    once = 2 * (2 * 8 * 8 * 5) * 27
    assert [kernel.flops for kernel in found] == [once] * 3


def test_trace_of_a_real_program(bench: ModuleType, program: tuple[Any, Any], tmp_path: Path) -> None:
    from accelerator_parts import trace

    compiled, arguments = program
    jax.block_until_ready(compiled(*arguments))

    def run() -> None:
        for _ in range(4):
            jax.block_until_ready(compiled(*arguments))

    launches = trace.record(run, tmp_path)
    found = trace.report(launches, compiled.as_text(), num_runs=4, longest=100)
    convolutions = [row for row in found["longest"] if row["what"].startswith("convolution")]
    assert sum(row["launches"] for row in convolutions) == 3
    assert all(row["flops_per_second"] > 0 for row in convolutions)
    assert sum(row["share"] for row in found["longest"]) == pytest.approx(1)
    assert sum(found["by_kind"].values()) == pytest.approx(found["kernel_seconds"])
    assert 4 * found["kernel_seconds"] == pytest.approx(sum(launch.seconds for launch in launches))


def test_trace_of_a_gpu_has_its_streams_alone(bench: ModuleType) -> None:
    """Its other lines repeat the same time by module and by step; the host's launches are no kernels."""
    from accelerator_parts import trace

    def line(name: str, *found: tuple[str, str, float]) -> SimpleNamespace:
        kernels = [SimpleNamespace(name=n, stats=[("hlo_op", op)], duration_ns=1e6 * ms) for n, op, ms in found]
        return SimpleNamespace(name=name, events=kernels)

    convolution = ("sm90_xmma_fprop_bf16", "conv.1", 3.0)
    streams = line("Stream #13(Compute)", convolution, convolution, ("loop_fusion_1", "fusion.1", 2.0))
    device = SimpleNamespace(name="/device:GPU:0", lines=[streams, line("XLA Modules", ("jit_f", "jit_f", 9.0))])
    host = SimpleNamespace(name="/host:CPU", lines=[line("python", ("launch", "conv.1", 1.0))])
    launches = list(trace.events(SimpleNamespace(planes=[host, device])))
    found = trace.report(launches, PROGRAM, num_runs=2)
    assert found["by_kind"] == pytest.approx({"convolution": 3e-3, "random bits": 1e-3})
    first = found["longest"][0]
    assert (first["what"], first["launches"]) == ("convolution down/conv_0", 1)
    assert first["flops_per_second"] == pytest.approx(2 * (2 * 8 * 8 * 5) * 27 / 3e-3)


PARTS_OF_OURS = """
import time

def works(figures, answer):
    figures.add(answer=answer)

def fails(figures):
    figures.add(before=1)
    raise ValueError("no such thing")

def sleeps(figures):
    figures.add(before=2)
    time.sleep(100)
"""


def test_a_part_that_fails_or_hangs_loses_only_itself(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "parts_of_ours.py").write_text(PARTS_OF_OURS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    limits = {"sleeps": 5.0, "fails": 60.0, "works": 60.0}
    parts = [bench.Part(name, limit, f"parts_of_ours:{name}") for name, limit in limits.items()]
    parts[2] = bench.Part("works", 60.0, "parts_of_ours:works", {"answer": 42})
    with pytest.raises(SystemExit) as stopped:
        bench.main([f"--out={tmp_path / 'out'}", "--budget=500"], parts)
    assert stopped.value.code == 1
    result = json.loads((tmp_path / "out" / "accelerator.json").read_text())["parts"]
    assert result["sleeps"]["status"] == "cut off at its limit of 5 s"
    assert result["sleeps"]["figures"] == {"before": 2}
    assert result["fails"]["status"] == "failed (status 1)"
    assert result["fails"]["figures"] == {"before": 1}
    assert result["fails"]["said"][-1] == "ValueError: no such thing"
    assert (result["works"]["status"], result["works"]["figures"]) == ("ok", {"answer": 42})
    assert "works: ok" in capsys.readouterr().out


def test_no_part_begins_without_time(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.main([f"--out={tmp_path}", "--budget=0", "--parts=machine,verify"])
    result = json.loads((tmp_path / "accelerator.json").read_text())["parts"]
    assert {part["status"] for part in result.values()} == {"not run: no time left"}
    assert "not run: --parts=machine,verify" in capsys.readouterr().out


def test_bad_options_are_one_line(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, said in (
        ("--parts=machine,mystery", "'mystery' is not one of machine"),
        ("--out=/proc/x", "--out=/proc/x"),
    ):
        with pytest.raises(SystemExit) as stopped:
            bench.main([f"--out={tmp_path}", option])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


def test_every_part_names_a_function_and_fits(bench: ModuleType) -> None:
    """Read, not imported: that would take seconds."""
    assert len({part.name for part in bench.PARTS}) == len(bench.PARTS)
    for part in bench.PARTS:
        module, _, name = part.function.partition(":")
        tree = ast.parse((BENCHMARKS / f"{module.replace('.', '/')}.py").read_text())
        functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {"figures", *part.arguments} <= {argument.arg for argument in functions[name].args}
        assert part.limit < bench.BUDGET


def test_every_variant_changes_what_there_is(bench: ModuleType) -> None:
    """One that the package no longer has would be an error in the table, on a GPU alone."""
    from accelerator_parts import predictions
    from accelerator_parts.variants import VARIANTS, applied

    for variant in VARIANTS:
        with applied(variant):
            validate(variant.config(Config()))
    assert {variant.name for variant in VARIANTS} | set(predictions.FLAGS) == set(predictions.VARIANTS)


def test_table(bench: ModuleType) -> None:
    """Shares are of the ceilings that the first part measured; what failed has no rows."""
    from accelerator_parts import predictions, table

    machine = {"device_kind": "NVIDIA H100", "bfloat16_flops_per_second": 8e14, "bfloat16_datasheet": 1e15}
    step = {
        "case": "cifar10", "precision": "bfloat16", "batch_size": 128, "queued_step_seconds": 0.04,
        "step_seconds": 0.041, "step_seconds_range": [0.04, 0.05], "images_per_second": 3200.0,
        "model_flops_per_second": 5e14, "compile_seconds": 60.0, "trace_seconds": 9.0,
    }  # fmt: skip
    loop = {
        "step_seconds": 0.041,
        "checkpoint_seconds": 0.5,
        "images_per_second": 3122.0,
        "logged_images_per_second": 3100.0,
    }
    variants = {
        "baseline": {"step_seconds": 0.010, "step_seconds_range": [0.0099, 0.0101], "batch_size": 128},
        "no_dropout": {"step_seconds": 0.009, "batch_size": 128},
        "batch_256": {"step_seconds": 0.019, "batch_size": 256},
        "other": {"error": "no such field"},
    }
    found = {"machine": machine, "cifar10_bfloat16": step, "loop": loop, "variants": variants, "verify": {}}
    rows = {row.what: row for row in table.rows({name: {"figures": figures} for name, figures in found.items()})}
    assert "62.5% of the matmul peak, 50.0% of the data sheet" in rows["cifar10 step, bfloat16, batch 128"].note
    assert rows["vdm train, cifar10 (bfloat16): a step"].note.startswith("+2.5%")
    assert rows["  no_dropout"].measured == "-1.00 ms (-10.0%)"
    assert rows["  batch_256"].measured == "-0.50 ms (-5.0%)"
    assert rows["  other"].note == "no such field"
    assert "vdm.verify" not in rows
    assert rows["  no_dropout"].predicted == predictions.VARIANTS["no_dropout"][0]
    found["machine"] = machine | {"device_kind": "cpu"}
    assert {row.predicted for row in table.rows({name: {"figures": figures} for name, figures in found.items()})} == {
        ""
    }


def test_paired_differences(bench: ModuleType) -> None:
    import numpy as np
    from accelerator_parts.precision import changed, paired

    found = paired(np.array([1.0, 2.0, 3.0]))
    assert found == pytest.approx({"difference": 2.0, "stderr": 1 / math.sqrt(3), "largest": 3.0})
    images = np.array([[3, 250], [7, 7]], np.uint8)
    exact = np.array([[5, 250], [7, 7]], np.uint8)
    assert changed(images, exact) == {"rms_levels": 1.0, "share_changed": 0.25}
