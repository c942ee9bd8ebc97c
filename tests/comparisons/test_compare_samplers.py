"""The comparison of samplers as a whole, on a tiny run: what it leaves, that it goes on where it stopped, refusals."""

import io
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from grey import grey, of_pixels, pixels_of
from rich.console import Console

from vdm import parts
from vdm.comparisons.samplers import MODE, SamplersSettings
from vdm.comparisons.samplers import measure as program
from vdm.config import Config, EvaluationConfig, SamplingConfig, ScheduleConfig
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.metrics.mmd import Mmd
from vdm.keys import Stream, stream_key
from vdm.programs.compare import compare
from vdm.programs.train import train
from vdm.runs.folder import lock
from vdm.runs.open import open_run
from vdm.runs.records import read_config

NAMES = ["ancestral-4.json", "ddim_0-1.json", "heun_karras-1.json", "heun_karras-2.json"]
# The first to be measured, of one call, is in the table of noises alone.
SETTINGS = SamplersSettings(
    samplers=("heun@karras",), calls=(2, 5), noises=("ddim(0)",), noise_steps=(1,), reference_calls=4, samples=10
)
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samplers")
    config = tiny.run_config(folder, 4, log_every=4, evaluate_every=0)
    config.seed = 3
    config.schedule = ScheduleConfig(name="linear", gamma_min=-7.0)
    config.evaluation = EvaluationConfig(batch_size=100, draws=1, max_images=100)
    config.sampling = SamplingConfig(num=4, steps=2, batch_size=8, clip="static")
    # Before the fixture of conftest.py that does this for tests.
    with jax.numpy_dtype_promotion("standard"):
        train(config, folder / "run", console=QUIET)
    return folder


def run(
    folder: Path, workdir: str, config: Config | None = None, checkpoint: str = "latest", **changes
) -> tuple[str, str]:
    settings, config, out = replace(SETTINGS, **changes), config or read_config(folder / "run"), io.StringIO()
    console = Console(file=out, width=200)
    return compare(MODE, config, settings, folder / workdir, console, folder / "run", checkpoint), out.getvalue()


def test_cells_are_each_measured_once_the_cheapest_first() -> None:
    found = program.cells(SamplersSettings())
    assert len(found) == len(set(found))
    assert [cell.calls for cell in found] == sorted(cell.calls for cell in found)
    for text, steps, calls in (
        ("heun", 2, 4), ("heun", 50, 100), ("ddim(0)", 1000, 1000), ("ancestral", 1000, 1000), ("unipc", 5, 5),
        ("dpm_solver_pp(2)@uniform", 20, 20), ("ddim(0.2)", 10, 10), ("predictor_corrector", 10, 20),
    ):  # fmt: skip
        assert program.Cell(text, steps, calls) in found
    assert {cell.sampler for cell in found if cell.calls == 1000} == {"ancestral", *SamplersSettings().noises}
    # One call is less than a step of heun.
    few = SamplersSettings(samplers=("heun", "ddim"), calls=(1,), noises=())
    assert program.cells(few) == [("ddim", 1, 1), ("ancestral", 1000, 1000)]


def test_a_comparison_cut_off_ends_as_one_that_was_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, printed = run(folder, "whole")
    assert "100% done, 0:00 left" in printed
    measure = program._Samplers._measure

    def measure_or_cut(self, cell):
        if cell.calls == 4:
            raise tiny.Cut
        return measure(self, cell)

    with monkeypatch.context() as patch:
        patch.setattr(program._Samplers, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(folder, "broken")
    # What there is of it is a table already, without the column of the reference.
    assert "| heun@karras | " in (folder / "broken" / "samplers.md").read_text()
    assert "calls to ancestral" not in (folder / "broken" / "samplers.md").read_text()
    count = []
    monkeypatch.setattr(program._Samplers, "_measure", lambda self, cell: count.append(cell) or measure(self, cell))
    again, _ = run(folder, "broken")
    assert 0 < len(count) < len(NAMES)
    assert again == table
    left, right = (json.loads((folder / name / "samplers.json").read_text()) for name in ("whole", "broken"))
    assert left["outcomes"] == right["outcomes"]
    assert left["calls_needed"] == right["calls_needed"]


def test_what_it_leaves(folder: Path) -> None:
    whole = folder / "whole"
    assert sorted(path.name for path in (whole / "cells").iterdir()) == NAMES
    assert (whole / "samplers.png").stat().st_size > 0
    record = json.loads((whole / "samplers.json").read_text())
    assert record["checkpoint_step"] == 4
    found = {(o["sampler"], o["steps"]): o for o in record["outcomes"]}
    assert {f"{s}-{n}": o["calls"] for (s, n), o in found.items()} == {
        "ancestral-4": 4,
        "ddim(0)-1": 1,
        "heun@karras-1": 2,
        "heun@karras-2": 4,
    }
    assert all(o["metrics"]["mmd"]["stderr"] > 0 for o in found.values())
    # One cell by hand: the sampler, grid, clipping, images and key that the config says.
    config = read_config(folder / "run")
    trained = open_run(folder / "run")
    sampling = replace(config.sampling, num=10, steps=2, sampler="heun", grid="karras")
    images, _ = ImageSampler(trained.model, trained.mesh, sampling)(
        trained.variables, stream_key(3, Stream.SAMPLING), 10
    )
    mmd = Mmd(of_pixels(trained.dataset.train, 17))
    measured = found["heun@karras", 2]["metrics"]["mmd"]
    np.testing.assert_allclose(measured["value"], mmd.estimate(pixels_of(images, 17)).value, atol=1e-6)
    np.testing.assert_allclose(record["noise_floors"]["mmd"], mmd.noise_floor(10), rtol=1e-6)
    assert record["calls_needed"]["mmd"]["ancestral"] == 4


def test_a_second_metric_needs_no_more_than_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS["metric"], "grey", grey)
    before = json.loads((folder / "whole" / "cells" / "heun_karras-1.json").read_text())["metrics"]
    table, printed = run(folder, "whole", metrics=("mmd", "grey"), calls=(2,), noises=("heun@karras",))
    record = json.loads((folder / "whole" / "samplers.json").read_text())
    assert [set(o["metrics"]) for o in record["outcomes"]] == [{"mmd", "grey"}] * 2
    floor = record["noise_floors"]["grey"]
    assert table.count(f"| grey difference, levels (noise floor {floor:.3f}) | ") == 2
    assert table.count("| 1000 MMD² (noise floor ") == 2
    measured = record["outcomes"][0]["metrics"]["grey"]
    assert f"| heun@karras | {measured['value']:.3f} ± {measured['stderr']:.3f} |" in table
    assert set(record["calls_needed"]) == {"mmd", "grey"}
    assert "grey difference is at most 2 standard errors" in table
    assert "grey difference" in printed
    # The same images, so the same MMD.
    after = json.loads((folder / "whole" / "cells" / "heun_karras-1.json").read_text())["metrics"]
    assert after["mmd"] == before["mmd"]


def test_only_what_depends_on_a_change_is_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count: list[program.Cell] = []
    measured = {"metrics": {"mmd": {"value": 1.0, "without": np.arange(10.0).tolist()}}}
    monkeypatch.setattr(program._Samplers, "_measure", lambda self, cell: count.append(cell) or measured)
    run(folder, "whole", noise_steps=(1, 3))
    assert count == [("ddim(0)", 3, 3)]
    count.clear()
    monkeypatch.setattr(program, "weights_digest", lambda variables: "other weights")
    run(folder, "whole")
    assert len(count) == len(NAMES)


def test_bad_input_is_refused_and_nothing_written(folder: Path) -> None:
    with pytest.raises(InputError, match=r"comparison\.samples=2: must be 3 or more"):
        run(folder, "refused", samples=2)
    with pytest.raises(InputError, match=r"comparison\.samplers=.*grid='edm'"):
        run(folder, "refused", samplers=("heun@edm",))
    discrete = read_config(folder / "run")
    discrete.objective = replace(discrete.objective, num_steps=3)
    with pytest.raises(InputError, match=r"ancestral of 4 steps, but the model has 3; .*reference_calls must be at"):
        run(folder, "refused", discrete)
    with pytest.raises(
        InputError, match=r"comparison\.metrics=\('class_accuracy',\): class_accuracy: needs the labels"
    ):
        run(folder, "refused", metrics=("class_accuracy",))
    with pytest.raises(InputError, match=r"comparison\.metrics=\('fid',\): .*weights"):
        run(folder, "refused", metrics=("fid",))
    with pytest.raises(InputError, match="nowhere"):
        run(folder, "refused", metrics=("fd_classifier",), classifier="nowhere")
    with pytest.raises(InputError, match="'9'"):
        run(folder, "refused", checkpoint="9")
    assert not (folder / "refused").exists()


def test_two_in_one_folder_are_refused(folder: Path) -> None:
    with lock(folder / "locked"), pytest.raises(InputError, match="locked: another run is writing here"):
        run(folder, "locked")
