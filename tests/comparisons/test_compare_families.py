"""The comparison of families as a whole, tiny: what it leaves, that it goes on where it stopped, what is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm.comparisons.families import MODE, FamiliesSettings
from vdm.comparisons.families import measure as program
from vdm.comparisons.families.latents import Diffusion
from vdm.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
)
from vdm.errors import InputError
from vdm.programs.compare import compare
from vdm.runs.open import open_run

SETTINGS = FamiliesSettings(
    depths=(2,), inferences=("top_down",), latents=2, width=8, depth=1, seeds=1, importance=3, samples=100, points=50
)
FOLDERS = ("vae-T_1-seed_3", "hvae_top_down-T_2-seed_3", "vdm-T_2-seed_3", "vdm-T_inf-seed_3")


def small() -> Config:
    return Config(
        seed=3,
        data=DataConfig(name="clusters"),
        schedule=ScheduleConfig(name="linear", gamma_min=-8.0, gamma_max=5.0),
        network=NetworkConfig(name="mlp", channels=8, depth=1, dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        training=TrainingConfig(steps=6, batch_size=8, log_every=2, evaluate_every=0, sample_every=0),
        evaluation=EvaluationConfig(batch_size=1000, draws=2),
        sampling=SamplingConfig(num=4, steps=2, batch_size=100),
    )


def run(config: Config, workdir: Path, **changes) -> tuple[str, str]:
    out = io.StringIO()
    return compare(MODE, config, replace(SETTINGS, **changes), workdir, Console(file=out, width=200)), out.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A comparison that was cut off at its second run, and has gone on."""
    folder = tmp_path_factory.mktemp("families")
    measure = program._Families._measure

    def measure_or_cut(self, member, config, path):
        if path.name == FOLDERS[1]:
            raise tiny.Cut
        return measure(self, member, config, path)

    # Whole runs, whose optimiser mixes counts with floats.
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(program._Families, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(small(), folder)
        patch.undo()
        # What there is of it is a table already.
        assert "| VAE, T = 1 | " in (folder / "families.md").read_text()
        table, printed = run(small(), folder)
    assert "training vae" not in printed
    assert "training hvae" not in printed
    assert "training vdm-T_2" in printed
    assert "100% done, 0:00 left" in printed
    return folder, table


def test_what_it_leaves(done) -> None:
    folder, table = done
    assert table + "\n" == (folder / "families.md").read_text()
    assert (folder / "families.png").exists()
    outcomes = json.loads((folder / "families.json").read_text())["outcomes"]
    names = ["VAE, T = 1", "HVAE, top-down, T = 2", "VDM, T = 2", "VDM, T = ∞"]
    assert [outcome["member"] for outcome in outcomes] == names
    for outcome in outcomes[:-1]:
        # The terms are those of the bound, and more draws do not loosen it by more than chance.
        total = outcome["reconstruction"] + sum(outcome["rates"])
        assert total == pytest.approx(outcome["bits_per_dim"], abs=0.2 * abs(outcome["bits_per_dim"]) + 0.5)
        assert outcome["importance"] < outcome["bits_per_dim"] + 0.5
    assert [len(outcome["rates"]) for outcome in outcomes[:-1]] == [1, 2, 3]
    assert outcomes[-1]["rates"] is outcomes[-1]["importance"] is None
    # By construction a diffusion model's aggregate posterior is close to its prior.
    assert abs(outcomes[-1]["hole"]["kl"]) < 0.05


def test_measured_again_it_is_the_same(done) -> None:
    folder, table = done
    (folder / FOLDERS[0] / "outcome.json").unlink()
    again, _ = run(small(), folder)
    assert again == table


def test_the_rates_of_a_diffusion_model_are_its_bound(done) -> None:
    """Of T steps, reconstruction and rates add up to `Evaluator`'s bound, within four of its standard errors."""
    found = Diffusion(open_run(done[0] / FOLDERS[2])).bound()
    assert abs(found["reconstruction"] + sum(found["rates"]) - found["bits_per_dim"]) < 4 * found["stderr"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (2, 2)}, r"comparison\.depths=\(2, 2\): must all be different"),
        ({"depths": (1,)}, r"comparison\.depths"),
        ({"coder": "conv"}, r"comparison, VAE, T = 1: "),
        ({"metrics": ("fid",)}, "comparison.metrics"),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, changes, message) -> None:
    with pytest.raises(InputError, match=message):
        run(small(), tmp_path / "new", **changes)
    assert not list((tmp_path / "new").glob("*/config.json"))


def test_a_conditional_model_is_refused(tmp_path: Path) -> None:
    config = small()
    config.network.condition = ("label",)
    with pytest.raises(InputError, match="predecessors are not conditioned"):
        run(config, tmp_path)


def test_samples_from_the_aggregate_posterior_are_not_those_from_the_prior(done) -> None:
    vae = program.Predecessor(open_run(done[0] / FOLDERS[0]), "mode")
    prior, aggregate = vae.samples(50), vae.samples_from_aggregate(50)
    assert aggregate is not None
    assert prior.shape == aggregate.shape == (50, 2)
    assert not np.allclose(prior, aggregate)
