"""`python -m vdm.plots holes` and `traversals`: of runs on disk, a picture or one line and status 2."""

import jax
import numpy as np
import pytest
import tiny
from commands import error_line
from PIL import Image

from vdm import parallel
from vdm.config import Config, DataConfig, SamplingConfig
from vdm.data import in_memory
from vdm.plots import holes
from vdm.predecessors.config import ModelConfig, PredecessorConfig, from_config
from vdm.programs import latent_figures
from vdm.programs.commands import plots as command
from vdm.runs.open import Run

KEY = jax.random.key(0)
IMAGES = {"image": np.asarray(tiny.images(30))}
POINTS = {"image": np.random.default_rng(0).normal(0, 0.4, (30, 2)).astype(np.float32)}


def run_of(path, name, split, levels):
    """A run without a checkpoint: its variables are given."""
    dataset = in_memory(split, split, levels=levels)
    data = DataConfig(name=dataset.info.name, shape=dataset.info.shape, levels=levels)
    config = PredecessorConfig(data=data, model=ModelConfig(name=name, width=8, depth=1))
    model = from_config(config)
    return Run(path, config, model, parallel.make_mesh(1), 1, tiny.perturbed(model.init(KEY)), None, dataset)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Runs of each kind, by the names of their folders."""
    folder, diffusion = tmp_path_factory.mktemp("runs"), tiny.pixelwise()
    config = Config(data=tiny.config().data, sampling=SamplingConfig(steps=2))
    variables = tiny.variables(diffusion)
    runs = {
        "points": run_of(folder / "points", "vae(latents=2)", POINTS, 0),
        "digits": run_of(folder / "digits", "vae(latents=3)", IMAGES, 17),
        "diffusion": Run(folder / "diffusion", config, diffusion, parallel.make_mesh(1), 1, variables, None),
    }
    return {str(run.path): run for run in runs.values()}


@pytest.fixture
def runs(opened, monkeypatch):
    """Their paths, as texts."""
    monkeypatch.setattr(latent_figures, "open_run", lambda path, checkpoint: opened[str(path)])
    return {run.path.name: path for path, run in opened.items()}


def test_holes_of_several_runs(tmp_path, opened, runs, monkeypatch, capsys):
    checkpoints = []
    monkeypatch.setattr(latent_figures, "open_run", lambda run, at: checkpoints.append(at) or opened[str(run)])
    monkeypatch.setattr(holes, "POINTS", 100)
    monkeypatch.setattr(holes, "CELLS", 20)
    path = tmp_path / "holes.png"
    command.main(["holes", f"--runs={runs['points']},{runs['points']}:100", f"--out={path}"])
    assert capsys.readouterr().out.strip() == str(path)
    assert checkpoints == ["latest", "100"]
    with Image.open(path) as picture:
        width, height = picture.size
    assert 1.3 < width / height < 1.7


@pytest.mark.parametrize("others", [[], ["diffusion"]])
def test_traversals_with_and_without_a_diffusion_model(tmp_path, runs, monkeypatch, others):
    monkeypatch.setattr(latent_figures, "FRAMES", 2)
    path = tmp_path / "traversals.png"
    command.main(["traversals", f"--runs={','.join(runs[name] for name in ['digits', *others])}", f"--out={path}"])
    with Image.open(path) as picture:
        # Three latents, and where there are any three pairs, of 96 pixels each.
        rows = (picture.size[1] - 20) // 98
    assert rows in ((6, 7) if others else (3, 4))


@pytest.mark.parametrize(
    ("figure", "of", "mentions"),
    [
        ("holes", ["digits"], ["digits: ", "3 latents; must be points, (2,), and 2 latents"]),
        ("holes", ["diffusion"], ["diffusion: has no learned latents"]),
        ("traversals", ["diffusion"], ["diffusion: has no learned latents"]),
        ("traversals", ["points"], ["points: data of shape (2,); must be images"]),
        ("traversals", ["digits", "digits"], ["and, if any, one of a diffusion model"]),
        ("traversals", ["digits", "diffusion", "diffusion"], ["and, if any, one of a diffusion model"]),
        ("holes", [], ["--runs=: goes with holes and traversals, which need it"]),
    ],
)
def test_other_runs_are_refused(tmp_path, runs, capsys, figure, of, mentions):
    flags = [f"--runs={','.join(runs[name] for name in of)}"] * bool(of)
    line = error_line(command.main, [figure, f"--out={tmp_path / 'plot.png'}", *flags], capsys)
    for mention in mentions:
        assert mention in line
    assert not list(tmp_path.iterdir())


def test_runs_that_are_not_there_and_figures_of_none_are_refused(tmp_path, capsys):
    out = f"--out={tmp_path / 'plot.png'}"
    assert "nowhere" in error_line(command.main, ["holes", f"--runs={tmp_path / 'nowhere'}", out], capsys)
    assert "--runs=somewhere: goes with" in error_line(command.main, ["codec", "--runs=somewhere", out], capsys)
