"""`python -m vdm.official`: a checkpoint of the official names and shapes, against its formulas in float64 numpy."""

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import official_model
import pytest
from commands import error_line
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from vdm import bounds, gaussian, likelihoods, official, parallel
from vdm import model as model_lib
from vdm.errors import InputError
from vdm.model import Draws
from vdm.programs.evaluate import Evaluate
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.records import read_config
from vdm.training.state import abstract_state

SIZE = 4
KINDS = {"scalar": {"schedule": "scalar"}, "nnet": {"schedule": "nnet", "everywhere": True}}


def tree(kind: str = "scalar", **changed: Any) -> dict[str, Any]:
    """Their train state, as Flax turns it into dicts."""
    params, ema = (official_model.params(seed, **(KINDS[kind] | changed)) for seed in (0, 1))
    count = {"count": np.int32(7), "mu": params, "nu": params}
    return {"step": 7, "params": params, "ema_params": ema, "opt_state": {"0": count, "1": {}, "2": {}}}


def saved(path: Path, state: dict[str, Any]) -> Path:
    path.write_bytes(flax.serialization.msgpack_serialize(state))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_a_checkpoint_has_its_gamma_its_predictions_and_its_bound(tmp_path, capsys, kind):
    """Imported with the command, restored as evaluate.py does it, and compared in each of its numbers."""
    checkpoints, workdir = tmp_path / "checkpoints-0", tmp_path / "run"
    checkpoints.mkdir()
    saved(checkpoints / "ckpt-9.flax", tree(kind) | {"step": 3})
    saved(checkpoints / "ckpt-10.flax", tree(kind))
    images = np.random.default_rng(2).integers(0, 256, size=(8, SIZE, SIZE, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", train=images, test=images[:4])
    official.main([str(checkpoints), f"--workdir={workdir}", f"--size={SIZE}", f"--data=npz:{tmp_path / 'data.npz'}"])
    attention = "everywhere" if kind == "nnet" else "middle"
    assert f"step 7, 32 channels, 1 blocks down, attention {attention}" in capsys.readouterr().out

    config = read_config(workdir)
    model = model_lib.from_config(config)
    with Checkpoints(workdir / "checkpoints", read_only=True) as imported:
        state = imported.restore_one(abstract_state(config, parallel.make_mesh(1)))
    assert int(state.step) == 7
    theirs = tree(kind)
    assert_embeds(state.variables, theirs["params"])
    assert_embeds(state.ema, theirs["ema_params"])

    params = jax.tree.map(np.float64, theirs["ema_params"])
    t = np.linspace(0, 1, 9, dtype=np.float32)
    gamma = official_model.gamma(params["gamma"], np.float64(t))
    np.testing.assert_allclose(model.gamma(state.ema, jnp.asarray(t)), gamma, rtol=2e-6, atol=5e-6)

    rng, num = np.random.default_rng(3), 4
    x, t = images[:num], np.float32([0.03, 0.3, 0.6, 0.99])
    eps_0, eps = rng.normal(size=(2, *x.shape)).astype(np.float32)

    @jax.jit
    def ours(draws):
        """The network is compiled once: both ask it the same."""
        gamma_t, weight = bounds.noise_levels(lambda t: model.gamma(state.ema, t), draws.t, None)
        z_t = gaussian.diffuse(likelihoods.encode(x, 256), draws.eps, gamma_t)
        eps_hat = model.denoise(state.ema, z_t, gamma_t)
        return z_t, gamma_t, eps_hat, model.bound_at(state.ema, {"image": jnp.asarray(x)}, draws, gamma_t, weight)

    z_t, gamma_t, eps_hat, bound = ours(Draws(jnp.asarray(t), jnp.asarray(eps), jnp.asarray(eps_0)))
    wanted = official_model.eps_hat(params["score_model"], np.float64(z_t), np.float64(gamma_t))
    assert np.std(wanted - z_t) > 0.2
    # Angles up to 1000 (of the time) and 2⁸π |z| are off by some 1e-4 in float32, before five blocks.
    np.testing.assert_allclose(eps_hat, wanted, atol=3e-3)
    for term, exact in zip(bound, official_model.losses(params, np.int64(x), t, eps_0, eps), strict=True):
        np.testing.assert_allclose(term, exact, rtol=3e-3, atol=1e-5)

    if kind == "scalar":
        evaluate = Evaluate(config, workdir, "latest", Console(file=io.StringIO()))
        evaluate.run.config.evaluation.batch_size = num
        evaluate.run.config.evaluation.draws = 1
        (result,) = evaluate.bound(None, None)
        prior = official_model.losses(params, np.int64(x), t, eps_0, eps)[1].mean() / (x[0].size * np.log(2))
        np.testing.assert_allclose(result.prior, prior, rtol=1e-4)
        assert json.loads((workdir / "evaluations" / "step_7_draws_1_T_inf.json").read_text())["checkpoint_step"] == 7
    assert "has a run already" in error_line(official.main, [str(checkpoints), f"--workdir={workdir}"], capsys)


def assert_embeds(variables: Any, params: Any) -> None:
    """Every one of their arrays is there to the bit; of the embedding, all but the row of the conditioning."""
    theirs = {leaf.tobytes() for leaf in jax.tree.leaves(params["score_model"])}
    ours = {np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(variables["network"])}
    dense0 = params["score_model"]["dense0"]["kernel"]
    assert theirs - ours == {dense0.tobytes()}
    assert ours - theirs == {dense0[:-1].tobytes()}


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        (lambda s: s.pop("ema_params"), ["has opt_state, params, step", "must have step, params, ema_params"]),
        (lambda s: s["params"].pop("score_model"), ["params has gamma", "score_model"]),
        (lambda s: s["ema_params"]["score_model"].pop("up.block_1"), ["network/up_1/", "shape none"]),
        (lambda s: s["params"]["score_model"].update(other={"kernel": np.ones(2)}), ["score_model/other/kernel"]),
        (lambda s: s["ema_params"]["score_model"]["conv_in"].pop("kernel"), ["not of google-research/vdm"]),
        (lambda s: s["ema_params"]["gamma"].update(b=np.float32([-4])), ["γ runs from -4 to 11.1", "-4.15"]),
        (lambda s: s["ema_params"]["gamma"].update(c=np.float32([1])), ["gamma is not of google-research/vdm"]),
    ],
)
def test_other_checkpoints_are_refused_and_nothing_is_written(tmp_path, capsys, change, mentions):
    state = tree()
    change(state)
    error = error_line(official.main, [str(saved(tmp_path / "x.flax", state)), f"--workdir={tmp_path / 'run'}"], capsys)
    for mention in mentions:
        assert mention in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.flax"]


def test_what_is_no_checkpoint_is_refused(tmp_path, capsys):
    path = saved(tmp_path / "ckpt-1.flax", tree())
    path.write_bytes(path.read_bytes()[:-100])
    for argument, mention in (
        (path, "cut short"),
        (tmp_path / "none.flax", "No such file"),
        (saved(tmp_path / "list.flax", [1, 2]), "has type list"),
        (Path(__file__), "not a checkpoint"),
    ):
        assert mention in error_line(official.main, [str(argument), f"--workdir={tmp_path / 'run'}"], capsys)
    (tmp_path / "empty").mkdir()
    assert "ckpt-N.flax" in error_line(
        official.main, [str(tmp_path / "empty"), f"--workdir={tmp_path / 'run'}"], capsys
    )
    assert not (tmp_path / "run").exists()


def deep(levels: int) -> Any:
    return np.ones(1) if levels == 0 else {"a": deep(levels - 1)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update(step=-1), "step=-1: must be a whole number from 0"),
        (lambda s: s.update(step=2**40), "must be a whole number from 0 to 2147483647"),
        (lambda s: s.update(step=np.ones(3)), "must be a whole number"),
        (lambda s: s.update(step=np.float32(2)), "must be a whole number"),
        (lambda s: s.update(step=None), "step=None: must be a whole number"),
        (lambda s: s.update(params=3), "params has type int; must have score_model"),
        (lambda s: s.update(ema_params=np.ones(2)), "ema_params has an array of float64; must have score_model"),
        (lambda s: s["params"].update(score_model=np.ones(2)), "params/score_model: found an array"),
        (lambda s: s["params"].update(gamma=[1]), "params/gamma: found type list"),
        (
            lambda s: s["params"]["score_model"].update(conv_in="a"),
            "score_model/conv_in: found type str",
        ),
        (lambda s: s["params"]["score_model"]["conv_in"].update(bias=None), "conv_in/bias: found type NoneType"),
        (lambda s: s["params"]["score_model"]["conv_in"].update(bias=np.ones(2, complex)), "found an array of complex"),
        (lambda s: s["params"]["score_model"]["conv_in"]["bias"].fill(np.nan), "conv_in/bias: has values that are NaN"),
        (
            lambda s: s["ema_params"]["gamma"].update(w=np.array([1e300])),
            "gamma/w: has values that are NaN or infinite",
        ),
        (lambda s: s["params"]["score_model"].update(deep(9)), "a/a/a/a: found type dict; must be an array of numbers"),
    ],
)
def test_what_is_no_tree_of_finite_arrays_is_one_line(tmp_path, change, says):
    state = tree()
    change(state)
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        official.read(saved(tmp_path / "x.flax", state))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("part", ["score_model", "gamma"])
def test_every_missing_array_is_one_line(part):
    """Shapes and names that no model of theirs has; those of the network are compared where it is traced."""
    params = official_model.params(0, schedule="nnet")
    config = official.config_of(params)
    for module, arrays in params[part].items():
        for name in arrays:
            for wrong in (None, np.ones(()), np.ones((3, 3, 3))):
                if part == "score_model" and module not in ("conv_in", "dense0"):
                    continue
                inner = {n: a for n, a in arrays.items() if n != name} | ({} if wrong is None else {name: wrong})
                changed = params | {part: params[part] | {module: inner}}
                with contextlib.suppress(InputError):
                    official.config_of(changed)
                    official.schedule_variables(changed["gamma"], -13.3, 5.0)
                    official.without_conditioning(official.network_variables(changed["score_model"]), 32)
                    assert part == "score_model", (module, name)
    assert config.network.channels == 32


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_is_one_line_or_a_tree(data):
    content = bytearray(ENCODED)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of a file is numbers; its structure is at the begin of each array.
        at = data.draw(st.integers(0, len(content) - 1) | st.sampled_from(STRUCTURE))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    with tempfile.NamedTemporaryFile(suffix=".flax") as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(InputError):
            found = official.read(Path(file.name))
            for params in (found.params, found.ema_params):
                official.config_of(params)
                official.schedule_variables(params.get("gamma", {}), -13.3, 5.0)
                official.without_conditioning(official.network_variables(params["score_model"]), 32)


PARAMS = official_model.params(0, schedule="scalar")
ENCODED = flax.serialization.msgpack_serialize({"step": 7, "params": PARAMS, "ema_params": PARAMS})
STRUCTURE = [
    m.start() + k for m in re.finditer(rb"kernel|bias|score_model|params|float32|step", ENCODED) for k in (-1, 9)
]


def test_a_curve_with_too_little_of_a_straight_line_is_refused():
    gamma = official_model.params(0, schedule="nnet")["gamma"]
    gamma["l1"]["kernel"] = np.float32([[0.01]])
    gamma["l1"]["bias"] = np.float32([-4.15])
    with pytest.raises(InputError, match="straight line has a share of"):
        official.schedule_variables(gamma, -13.3, 5.0)


def test_a_fixed_schedule_has_no_variables():
    params = official_model.params(0, schedule="fixed")
    config = official.config_of(params)
    assert config.schedule.name == "linear"
    assert official.variables(params, config)["schedule"] == {}
