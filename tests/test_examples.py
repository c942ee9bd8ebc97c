"""The programs in examples/, and the code of docs/howto/own_parts.md: run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, check=False, cwd=folder, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


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


def test_restoration_tells_the_exact_method_from_the_others(tmp_path):
    """With 20 steps of conjugate gradients the mean is off by chance alone; a rule of thumb, by far more."""
    said = run([sys.executable, str(ROOT / "examples" / "restoration.py"), "--steps=40", "--draws=32"], tmp_path)
    off = {name: float(value) for name, value in re.findall(r"^(.*?)  +([\d.]+) \(chance", said, flags=re.M)}
    chance = 32**-0.5
    assert off["mmps, 20 steps"] < 1.3 * chance < off["proximal"]
    assert Image.open(tmp_path / "restoration.png").size == (640, 640)


def test_captions_trains_and_says_whether_samples_obey(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "captions.py"), "--steps=4", "--num=8", "--workdir=run"]
    said = run(command, tmp_path)
    assert said.count("±") >= 16
    assert "never seen in training" in said
    assert Image.open(tmp_path / "run" / "captions.png").size == (480, 300)


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
