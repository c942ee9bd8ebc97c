"""300 mutations of a real run's files: what reads them says so in one line, or reads what was written. Slow.

python -m pytest -m slow -n0 -s tests/runs/test_mutations.py     prints how many of each kind were refused
"""

import collections
import io
import json
import os
import random
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grain
import jax
import numpy as np
import pytest
import tiny
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from vdm import parallel, plots
from vdm.comparisons.steps.measure import _Steps
from vdm.comparisons.work import read_measured, write_measured
from vdm.config import Config
from vdm.errors import InputError
from vdm.programs.train import train
from vdm.reading import field
from vdm.runs import open as open_lib
from vdm.runs import shards
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import RunDir
from vdm.runs.open import open_run
from vdm.runs.records import read_config, read_evaluation, read_metrics, read_record, weights_digest
from vdm.runs.trackers.jsonl import Jsonl
from vdm.runs.trackers.tracker import TrackedRun
from vdm.training.state import abstract_state
from vdm.training.step import empty_metrics

pytestmark = pytest.mark.slow

NUM = int(os.environ.get("VDM_MUTATIONS", "300"))
SHAPE, LEVELS = (8, 8, 1), 17
IMAGES = np.random.default_rng(0).integers(0, LEVELS, (6, *SHAPE)).astype(np.uint8)
BITS = np.random.default_rng(1).normal(size=5)
SETTINGS = {"seed": 0, "weights": "sha256:0"}
SWAPS = (None, [], {}, "x", "²", True, -1, 0.5, 1e308, 2**63 - 1, [[[[1]]]], {"a": 1})

# Text that people read and may edit, of which there is no second copy: another digit there is another record.
PLAIN = ("metrics.jsonl", "evaluation.json", "metrics")


def draw(first: int, num: int) -> np.ndarray:
    return IMAGES[first : first + num]


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size + 1))


def empty(path: Path, rng: random.Random) -> None:
    os.truncate(path, 0)


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def overwrite(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(path.stat().st_size))


def folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path)


def swap(path: Path, rng: random.Random) -> None:
    """A value of JSON by one of another type, or none; in a metrics.jsonl that of one line."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    k = rng.randrange(len(lines))
    value = json.loads(lines[k])
    at, name = None, None
    inside: Any = value
    while isinstance(inside, dict | list) and inside and (at is None or rng.random() < 0.7):
        at, name = inside, rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        inside = inside[name]
    if at is None:
        value = rng.choice(SWAPS)
    elif isinstance(at, dict) and rng.random() < 0.2:
        at[rng.choice(("", "²", "seed", "metrics"))] = at.pop(name)
    else:
        at[name] = rng.choice(SWAPS)
    lines[k] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")


OF_ORBAX = ("metadata", "metrics")
"""Files of JSON without a suffix."""

KINDS = (flip, truncate, empty, delete, overwrite, folder, loop, swap)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Config]]:
    """A run of four steps, with two checkpoints, samples, a cell of a comparison and a bound."""
    path = tmp_path_factory.mktemp("mutations") / "run"
    config = tiny.run_config(path.parent, steps=4, evaluate_every=2, log_every=1)
    config.evaluation.draws = config.evaluation.max_images = 1
    config.sampling.num, config.sampling.steps = 2, 2
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(Figure, "savefig", blank)
        train(config, path, console=Console(file=io.StringIO()))
        shards.stream(
            path / "samples" / "mine", 6, SETTINGS, lambda first, num: IMAGES[first : first + num], SHAPE, LEVELS
        )
        (path / "cells").mkdir()
        measured = {"metrics": {"mmd": {"value": 0.25, "without": [0.5, 0.125]}}}
        write_measured(path / "cells" / "a.json", measured, SETTINGS)
        np.savez(path / "bounds.npz", bits=BITS, num_draws=3, exact_sum=True, revision="abc", steps=4, indices=range(5))
        original = open_lib._abstract
        known: dict[str, Any] = {}

        def abstract(model: Any, proposal: Any, mesh: Any) -> Any:
            """Traced once for each model: a mutation seldom makes another."""
            key = repr((model, proposal))
            if key not in known:
                known[key] = original(model, proposal, mesh)
            return known[key]

        patch.setattr(open_lib, "_abstract", abstract)
        yield path, read_config(path)


def blank(self: Figure, file: Any, **kwargs: Any) -> None:
    """To draw takes longer than all the rest."""
    Image.new("RGB", (8, 8)).save(file, format="PNG")


class Position(grain.DatasetIterator):
    """Of the data, which are not read here."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, int] = {}

    def __next__(self) -> Any:
        raise StopIteration

    def get_state(self) -> dict[str, int]:
        return self.state

    def set_state(self, state: dict[str, int]) -> None:
        self.state = state


def readers(config: Config, data: dict[str, Any]) -> dict[str, Callable[[Path], Any]]:
    """What reads a run, by name; each returns numbers by their names."""
    mesh = parallel.make_mesh(1)
    like = abstract_state(config, mesh)
    of_metrics = parallel.abstract(empty_metrics, mesh)

    def opened(path: Path) -> dict[str, Any]:
        open_run(path, "best", mesh=mesh)
        found = open_run(path, mesh=mesh)
        return {
            f"variables at {found.step}": weights_digest((found.variables, found.proposal)),
            "levels": found.config.data.levels,
            "num_steps": found.config.objective.num_steps,
            "seed": found.config.seed,
        }

    def resumed(path: Path) -> dict[str, Any]:
        position = Position()
        with closing(RunDir(path, config, data)), Checkpoints(path / "checkpoints", keep=3) as checkpoints:
            restored = checkpoints.restore(like, of_metrics, position)
        if restored is None:
            return {}
        state, metrics, _ = restored
        Jsonl().start(TrackedRun(path, int(state.step), {}, "", str))
        return {
            f"state at {int(state.step)}": weights_digest((state, metrics)),
            f"position at {int(state.step)}": position.state,
        }

    def recorded(path: Path) -> dict[str, Any]:
        records = read_metrics(path / "metrics.jsonl")
        for plot in (plots.loss, plots.terms, plots.variance):
            plot(path / "plots" / "again.png", records)
        return {repr(record): True for record in records}

    def evaluated(path: Path) -> dict[str, Any]:
        there = read_evaluation(path)
        of_data = read_record(path).get("data", {})
        return {"total": field(there, "bits_per_dim.total", float, path)} if there and of_data else {}

    def sampled(path: Path) -> dict[str, Any]:
        folder = path / "samples" / "mine"
        shards.stream(folder, 6, SETTINGS, draw, SHAPE, LEVELS)
        return {"images": np.concatenate(list(shards.read(folder))).tobytes()}

    def compared(path: Path) -> dict[str, Any]:
        asked = SimpleNamespace(
            _path=lambda *of: path / "bounds.npz",
            _draws=lambda evaluated: 3,
            num_images=5,
            indices=np.arange(5),
            config=SimpleNamespace(training=SimpleNamespace(steps=4)),
        )
        bound = _Steps._read(asked, None, 0, None)  # type: ignore[arg-type]
        cell = read_measured(path / "cells" / "a.json", SETTINGS, ["mmd"])
        found = {"cell": cell and cell["metrics"], "bits": bound and (bound.bits.tobytes(), bound.num_draws)}
        return {name: value for name, value in found.items() if value is not None}

    return {f.__name__: f for f in (opened, recorded, evaluated, sampled, compared, resumed)}


def test_a_run_with_any_file_changed_is_read_as_it_was_or_refused_in_one_line(
    run: tuple[Path, Config], tmp_path: Path
) -> None:
    path, config = run
    read = readers(config, read_record(path)["data"])
    files = sorted(
        file.relative_to(path)
        for file in path.rglob("*")
        if file.is_file() and file.name != ".lock" and file.parts[len(path.parts)] not in ("tensorboard", "plots")
    )
    places = collections.defaultdict(list)
    for file in files:
        places[file.parts[0] if file.parts[0] != "checkpoints" else "/".join(file.parts[2:3])].append(file)

    def outcomes(path: Path, names: list[str]) -> dict[str, Any]:
        return {name: read[name](path) for name in names}

    whole = tmp_path / "whole"
    shutil.copytree(path, whole)
    truth: dict[str, Any] = outcomes(whole, list(read))
    shutil.rmtree(whole / "checkpoints" / "4")
    truth["opened"] |= read["opened"](whole)
    truth["resumed"] |= read["resumed"](whole)

    counts: dict[tuple[str, str], int] = collections.Counter()
    wrong = []
    for k in range(NUM):
        rng = random.Random(k)
        kind = KINDS[k % len(KINDS)]
        file = rng.choice(places[rng.choice(sorted(places))])
        if kind is swap:
            file = rng.choice(
                [f for f in files if f.suffix in (".json", ".jsonl") or f.name in ("metadata", "metrics")]
            )
        mutated = tmp_path / "mutated"
        shutil.rmtree(mutated, ignore_errors=True)
        shutil.copytree(path, mutated)
        kind(mutated / file, rng)
        what = set()
        for name, reader in read.items():
            try:
                got = reader(mutated)
            except InputError as error:
                what.add("refused")
                if len(str(error).splitlines()) != 1 or len(str(error)) > 600 + 2 * len(str(mutated)):
                    wrong.append(f"{k} {kind.__name__} {file}: {name}: {str(error)[:2000]}")
            except Exception:
                what.add("escaped")
                wrong.append(f"{k} {kind.__name__} {file}: {name}: {traceback.format_exc()[-1500:]}")
            else:
                if any(truth[name].get(key) != value for key, value in got.items()):
                    plain = file.name in PLAIN and kind in (flip, swap)
                    what.add("another record" if plain else "other numbers")
                    if not plain:
                        wrong.append(f"{k} {kind.__name__} {file}: {name}: other numbers")
        found = next((w for w in ("escaped", "other numbers", "another record", "refused") if w in what), "harmless")
        counts[kind.__name__, found] += 1
        counts["all", found] += 1
    print()
    for name in (*(kind.__name__ for kind in KINDS), "all"):
        print(f"{name:10}", *(f"{found} {n:3}" for (kind, found), n in sorted(counts.items()) if kind == name))
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)
