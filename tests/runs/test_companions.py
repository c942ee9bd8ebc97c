"""A weaker checkpoint as what a run's guidance leads away from: opened, refused, and exported beside the model."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import model as model_lib
from vdm.config import to_dict
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler
from vdm.export import load
from vdm.export import programs as export
from vdm.files import write_json
from vdm.keys import Stream, stream_key
from vdm.programs import sample
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.companions import open_companions
from vdm.runs.open import Run, open_run
from vdm.training.objective import Objective
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics

STEPS = (3, 12)
EARLIER: dict[str, Any] = {}
"""The moving average of the first."""
LABELS = np.array([2, 0, 1], np.int32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The later of two checkpoints of a model with labels, of random numbers."""
    folder = tmp_path_factory.mktemp("companions") / "run"
    config = tiny.config(condition=("label",))
    config.data = dataclasses.replace(config.data, entries=("label int32",), classes=3)
    model, optimizer = model_lib.from_config(config), make_optimizer(config)
    state = jax.jit(lambda: init_state(model, Objective(), optimizer, 0))()
    with Checkpoints(folder / "checkpoints", keep=2) as checkpoints:
        for step in STEPS:
            EARLIER["ema"] = EARLIER.get("ema") or tiny.perturbed(state.ema, seed=step, scale=0.1)
            of_step = state._replace(step=jnp.int32(step), ema=tiny.perturbed(state.ema, seed=step, scale=0.1))
            checkpoints.save(of_step, empty_metrics(), {"next_index": step}, wait=True)
    write_json(folder / "config.json", to_dict(config))
    return open_run(folder)


def network(variables):
    return jax.tree.leaves(variables["network"])


@pytest.mark.parametrize("which", ["oldest", "3", "RUN:3"])
def test_a_checkpoint_by_its_step_or_run(run: Run, which: str) -> None:
    assert run.step == STEPS[1]
    text = f"autoguidance(1.0, weak={which.replace('RUN', str(run.path))!r})"
    weak = open_companions(run, text)["weak"]
    assert any(np.any(a != b) for a, b in zip(network(weak.variables), network(run.variables), strict=True))
    for a, b in zip(network(weak.variables), network(EARLIER["ema"]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (weak.what.shape, weak.what.condition) == (run.model.shape, run.model.condition)
    assert open_companions(run, "classifier_free(2.0)") == {}


@pytest.mark.parametrize(("text", "says"), [
    ("autoguidance(weak='12')", "weak='12' is step 12, the model itself; must be another checkpoint or run"),
    ("autoguidance(weak='latest')", "weak='latest' is step 12, the model itself; must be another"),
    ("autoguidance(weak='')", "weak='': must be oldest, latest, best, a step, RUN or RUN:CHECKPOINT"),
    ("autoguidance(weak='5')", "checkpoint '5': not latest, best or one of [3, 12]"),
    ("autoguidance(weak='nowhere')", "nowhere"),
    ("autoguidance(weak=3)", "weak=3: must be a string"),
    ("leading", "must be one of none, classifier_free"),
])  # fmt: skip
def test_what_is_not_there_is_one_line(run: Run, text: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        open_companions(run, text)
    assert str(caught.value).startswith(f"guidance={text!r}: ")
    assert "\n" not in str(caught.value)


def test_a_run_of_other_classes_is_refused(run: Run, tmp_path: Path) -> None:
    """Its name may have a colon."""
    text = f"autoguidance(weak='{tmp_path}/an:other:3')"
    own, other = tmp_path / "own", tmp_path / "an:other"
    for folder, classes in ((own, ["a", "b", "c"]), (other, ["a", "c", "b"])):
        shutil.copytree(run.path, folder)
        assert open_companions(run, text.replace(str(other), str(folder)))["weak"].what.condition == run.model.condition
        write_json(folder / "run.json", {"data": {"classes": classes}})
    run = open_run(own)
    with pytest.raises(InputError, match=re.escape("was trained with the classes ['a', 'c', 'b']; must be ['a', ")):
        open_companions(run, text)


def test_a_trajectory_needs_no_other_companions(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(run.path, own)
    write_json(own / "run.json", {"data": {"classes": ["a", "b", "c"]}})
    config = dataclasses.replace(run.config)
    config.sampling = dataclasses.replace(config.sampling, guidance="autoguidance(1.0, weak='3')", steps=2)
    drawn = sample.Sample(config, own, "latest", 0, Console(quiet=True), tmp_path)
    assert len(drawn._gammas([0, 1])) == 2


@pytest.mark.slow
def test_an_export_has_the_weaker_model_too(run: Run, tmp_path: Path) -> None:
    """And its sampler draws the images of sample.py."""
    text, out = "autoguidance(2.0, weak='3')", tmp_path / "exported"
    export.main([f"--run={run.path}", f"--out={out}", f"--guidance={text}", "--steps=2", "--platforms=cpu"])
    names = set(np.load(out / "weights.npz"))
    own = set(export.to_weights(run.variables))
    assert names == own | {f"weak/{name}" for name in own}
    images = load.draw(7, 2, 3, folder=out, condition={"label": LABELS})
    settings = dataclasses.replace(run.config.sampling, num=3, steps=2, batch_size=3, guidance=text)
    sampler = ImageSampler(run.model, run.mesh, settings, companions=open_companions(run, text))
    expected, _ = sampler(run.variables, stream_key(7, Stream.SAMPLING), 3, first=2, condition={"label": LABELS})
    assert np.mean(images != expected) < 0.05  # of 48 values one or two may be rounded to the next level
    plain, _ = sampler(
        run.variables,
        stream_key(7, Stream.SAMPLING),
        3,
        first=2,
        condition={"label": LABELS},
        guidance="autoguidance(0, weak='3')",
    )
    assert np.mean(plain != expected) > 0.2
