"""The programs in examples/, at their small size, as scripts or as notebooks, and the code of own_parts.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from docs_hooks import examples

ROOT = Path(__file__).parents[1]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "VDM_EXAMPLES": "small", "MPLBACKEND": "agg"}

NUMBER = r"-?\d+(?:\.\d+)?"


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, check=False, cwd=folder, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def said_by(name: str) -> str:
    """What the example prints, executed as for its page: where the site was built before, the outputs are there."""
    notebook = examples.executed(name, "small")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, line)]


def row(said: str, begins: str) -> list[float]:
    """The numbers of the one line that begins so, behind it."""
    (line,) = [line for line in said.splitlines() if line.startswith(begins)]
    return numbers(line.removeprefix(begins))


def test_minimal_trains_evaluates_and_samples(tmp_path):
    """It is short, and already after 60 steps better than the 17 levels of a pixel by themselves: log₂ 17 = 4.09."""
    path = ROOT / "examples" / "minimal.py"
    assert len(path.read_text().splitlines()) < 150
    said = run(
        [sys.executable, str(path), "--steps=60", "--draws=2", "--sampler_steps=20", "--out=drawn.png"], tmp_path
    )
    bits = float(re.search(r"test: ([\d.]+) ± [\d.]+ bits/dim", said)[1])
    assert 1 < bits < 4.09
    assert Image.open(tmp_path / "drawn.png").size == (640, 640)


def test_toy_learns_and_its_bound_is_above_the_truth(tmp_path):
    """As a script, which leaves no file where it runs."""
    said = run([sys.executable, str(ROOT / "examples" / "toy.py")], tmp_path)
    assert not list(tmp_path.iterdir())
    untrained, trained = row(said, "bound, untrained:")[0], row(said, "bound on the test points:")[0]
    difference, error = row(said, "difference, point by point:")
    assert trained < untrained
    assert difference > -3 * error


def test_discrete_bounds_fall_with_more_steps_towards_continuous_time():
    """The noise is the same, so they fall strictly; and so do the factors, to γ' = 12.5."""
    said = said_by("discrete_vs_continuous")
    bounds = row(said, "trained at ∞, evaluated at T")
    assert len(bounds) == 5
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1] + 0.1
    factors = [float(factor) for factor in re.findall(r"factor ([\d.]+)", said)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == 12.5


def test_a_learned_schedule_has_less_variance_and_the_same_bound():
    said = said_by("learned_schedule")
    lines = [line for line in said.splitlines() if "variance of one draw" in line]
    (before, error, before_variance), (after, other_error, after_variance) = map(numbers, lines)
    assert after_variance < before_variance / 1.2
    assert abs(before - after) < 5 * (error**2 + other_error**2) ** 0.5 + 0.2


def test_a_second_order_sampler_ends_closer_to_the_limit():
    said = said_by("samplers")
    first, second = (
        next(numbers(line[17:]) for line in said.splitlines() if line.startswith(name))
        for name in ("ddim", "dpm_solver_pp(2)")
    )
    assert second[1] < first[1] < first[0]


def test_released_model_is_better_than_histograms_and_its_bounds_are_in_order():
    said = said_by("released_model")
    (histogram,) = [numbers(line)[0] for line in said.splitlines() if line.startswith("a histogram")]
    totals = [float(total) for total in re.findall(r"^ *(?:\d+|∞) +([\d.]+) ± ", said, flags=re.M)]
    assert len(totals) == 4
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < histogram
    weighted = [float(bound) for bound in re.findall(r"^K = +\d+: ([\d.]+)", said, flags=re.M)]
    assert weighted == sorted(weighted, reverse=True)


def test_guidance_takes_variety_and_has_no_bound():
    said = said_by("guidance")
    none, strong = (
        next(float(line.split()[-1]) for line in said.splitlines() if line.startswith(f"classifier_free({w}) "))
        for w in (0, 2)
    )
    assert strong < none
    assert "ValueError: denoise: is guided" in said


def test_compression_gives_the_image_back():
    said = said_by("compress_an_image")
    assert "the same to the last bit: True" in said
    assert 0 < row(said, "PNG")[1] < 8


def test_restoration_tells_the_exact_method_from_the_others():
    """With 20 steps of conjugate gradients the mean is off by chance alone; a rule of thumb, by far more."""
    said = said_by("restoration")
    off = {name: float(value) for name, value in re.findall(r"^(.*?)  +([\d.]+) \(chance", said, flags=re.M)}
    chance = 32**-0.5
    assert off["mmps, 20 steps"] < 1.3 * chance < off["proximal"]


def test_captions_trains_and_says_whether_samples_obey():
    said = said_by("captions")
    assert said.count("±") >= 16
    assert "never seen in training" in said


def test_no_example_hides_a_module_of_the_standard_library():
    """A script's folder is the first place that Python looks in: a compression.py there broke jax.

    `compression` is one from Python 3.14 on.
    """
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert not names & {*sys.stdlib_module_names, "compression"}


def test_every_example_in_cells_is_on_the_site():
    in_cells = {
        path.stem for path in (ROOT / "examples").glob("*.py") if path.read_text().startswith("# %% [markdown]")
    }
    assert in_cells == set(examples.ORDER)


@pytest.mark.parametrize("name", examples.ORDER)
def test_examples_are_notebooks(name):
    """Valid ones, which begin with a title and a paragraph, and install the package first where it is missing."""
    notebook = nbformat.reads(examples.for_download(name, examples.converted(name)).decode(), as_version=4)
    nbformat.validate(notebook)
    first, install, *_ = notebook.cells
    assert re.match(r"# \w.*\n\n\S", first.source)
    assert "find_spec" in install.source
    assert "%pip install" in install.source
    code = "\n".join(cell.source for cell in notebook.cells[2:] if cell.cell_type == "code")
    compile(code, name, "exec")


CELLS = """# %% [markdown]
# # A title
#
# A question?

# %%
import os
import matplotlib.pyplot as plt
print("mode", os.environ["VDM_EXAMPLES"])

# %%
plt.plot([0, 1])
plt.title("a line")
plt.show()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes an example, in place of those of the repository; its cache is there too."""
    monkeypatch.setattr(examples, "SOURCES", tmp_path)
    monkeypatch.setattr(examples, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(examples, "ORDER", ("own",))
    return (tmp_path / "own.py").write_text


def test_a_page_shows_what_cells_print_and_draw_and_is_made_once(own, monkeypatch):
    own(CELLS)
    index, page = examples.built.__wrapped__("small")
    assert page.text.startswith("# A title\n")
    assert '```text title="output"\nmode small\n```' in page.text
    (picture,) = [path for path in page.files if path.endswith(".png")]
    assert page.files[picture].startswith(b"\x89PNG")
    assert f"![figure: a line]({Path(picture).name})" in page.text
    assert Path(picture).name in index.text
    assert "A question?" in index.text
    monkeypatch.setattr(examples.nbclient, "NotebookClient", None)
    assert examples.built.__wrapped__("small")[1] == page
    own(CELLS + "\nprint(1)\n")
    with pytest.raises(TypeError):
        examples.built.__wrapped__("small")


def test_skipped_examples_have_no_outputs(own):
    own(CELLS)
    _, page = examples.built.__wrapped__("skip")
    assert "```python" in page.text
    assert "output" not in page.text
    assert list(page.files) == ["examples/own.ipynb"]


def test_a_cell_that_raises_fails_with_the_name_and_the_cell(own):
    own(CELLS + "\n# %%\nbroken = 1 / 0\n")
    with pytest.raises(examples.ExampleError, match=r"examples/own\.py raised ZeroDivisionError") as raised:
        examples.built.__wrapped__("small")
    assert "broken = 1 / 0" in str(raised.value)


def test_the_recipes_of_extending_run(tmp_path):
    """In order, in one folder: files are written, Python is run, and so are the commands."""
    text = (ROOT / "docs" / "howto" / "own_parts.md").read_text()
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```$", text, flags=re.M | re.S)
    assert len(blocks) >= 6
    python = []
    for kind, code in blocks:
        name = re.match(r"# (\w+\.py)\n", code)
        if kind == "python" and name:
            (tmp_path / name[1]).write_text(code)
        elif kind == "python":
            # What is said in one piece holds in the next.
            python.append(code)
    (tmp_path / "page.py").write_text("\n".join(python))
    said = run([sys.executable, "page.py"], tmp_path)
    assert "hooks ran after steps [10, 20]" in said
    commands = "\n".join(code for kind, code in blocks if kind == "sh").replace("python ", f"{sys.executable} ")
    commands = re.sub("^vdm ", f"{sys.executable} -m vdm ", commands, flags=re.M)
    said = run(["bash", "-euc", commands], tmp_path)
    assert "nats" in said
    assert len(list(tmp_path.glob("runs/mine/samples/*/shard_00000.npz"))) == 1
