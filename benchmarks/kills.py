"""Kills train.py, compare.py and sample.py at random moments and restarts them until they are done.

    python benchmarks/kills.py --kills=40 --seed=0 --folder=/tmp/kills

Every trial starts in a fresh folder. A program is killed up to `MOST` times, by SIGKILL or SIGTERM, each time at a
moment drawn uniformly from the duration of an undisturbed session, and then left to finish. Its results must equal
those of a program that was never killed: the arrays of checkpoints and shards bit for bit, every JSON file and every
picture, with no files missing or added. It prints one JSON object: kills by program and signal, sessions, and
everything that differed or went wrong; in that case the exit status is 1. The folder is kept, and its references are
reused.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).resolve().parent.parent
MOST = 5
"""Maximum number of kills in a trial."""
PATIENCE = 20
"""A session counts as hanging after this many times its usual duration."""
ORPHANS_SECONDS = 15
"""Time that the child processes of a killed program have to end."""

OF_A_SESSION = ("run.json", ".lock", "report.html")
"""Files that describe sessions or their speeds, as those in tensorboard/ do; they are not compared."""
OF_SESSIONS = ("images_per_second", "last_session", "revision")
"""Fields of JSON and npz files that are not compared for the same reason."""

MODEL = ["network.channels=4", "network.depth=1", "schedule.name=learned_linear", "schedule.gamma_min=-7"]
RUN = [
    *("training.batch_size=2", "training.log_every=2", "training.checkpoint_every=3", "optimizer.warmup_steps=2"),
    *("evaluation.batch_size=100", "evaluation.draws=1", "evaluation.max_images=100"),
    *("sampling.num=4", "sampling.steps=2", "sampling.batch_size=256"),
]
TRAIN = [
    "training.steps=12",
    "optimizer.decay=constant",
    "training.evaluate_every=4",
    "training.sample_every=6",
    "training.keep_checkpoints=2",
]
TRAIN_ON = ["training.steps=20", *TRAIN[1:]]
SWEEP = ["training.steps=4", "training.evaluate_every=2", "training.sample_every=0"]
STEPS = [
    "comparison.trained=(3,)",
    "comparison.evaluated=(3,20)",
    "comparison.seeds=1",
    "comparison.draws=20",
    "comparison.max_images=50",
]
OBJECTIVES = [
    *("comparison.predictions=('v',)", "comparison.weightings=('elbo',)", "comparison.seeds=1"),
    *("comparison.proposals=('uniform','adaptive')", "comparison.samples=8", "comparison.gradients=3"),
]
SAMPLERS = [
    *("comparison.samplers=('heun@karras',)", "comparison.calls=(2,6)", "comparison.noises=('ddim(0)',)"),
    *("comparison.noise_steps=(2,)", "comparison.reference_calls=4", "comparison.samples=300"),
]


class Job(NamedTuple):
    """A program to kill: its command line in a folder, what it starts from, and how often it is chosen."""

    command: list[str]
    fields: list[str]
    of_a_run: bool
    """Whether it starts from the reference of `train`."""
    weight: int


def _digits(name: str) -> str:
    return f"--config={ROOT / 'configs' / name}"


JOBS = {
    "train": Job(["train.py", "--workdir={}", _digits("digits.py")], [*MODEL, *RUN, *TRAIN], False, 3),
    "train with a worker": Job(
        ["train.py", "--workdir={}", _digits("digits.py")],
        [*MODEL, *RUN, *TRAIN, "data.num_workers=1", "objective.proposal=adaptive", "objective.num_steps=9"],
        False,
        2,
    ),
    "compare by steps": Job(
        ["compare.py", "--workdir={}", _digits("compare_digits.py")], [*MODEL, *RUN, *SWEEP, *STEPS], False, 2
    ),
    "compare by objective": Job(
        ["compare.py", "--by=objective", "--workdir={}", _digits("objectives_digits.py")],
        [*MODEL, *RUN, *SWEEP, *OBJECTIVES],
        False,
        2,
    ),
    "compare by sampler": Job(["compare.py", "--by=sampler", "--run={}"], SAMPLERS, True, 2),
    "sample": Job(["sample.py", "--workdir={}", "--num=6000", "--steps=2", "--trajectory=2"], [], True, 3),
    "train on": Job(["train.py", "--workdir={}", _digits("digits.py")], [*MODEL, *RUN, *TRAIN_ON], True, 2),
    "train from another": Job(
        ["train.py", "--workdir={}/from", "--init_from={}", _digits("digits.py")],
        [*MODEL, *RUN, *TRAIN, "optimizer.decay=cosine"],
        True,
        2,
    ),
}


class Session(NamedTuple):
    status: int
    seconds: float
    killed: bool
    """Whether the process was still running when its signal was sent."""
    trouble: list[str]
    last_line: str


class Trials:
    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        self.env = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0",
            "PYTHONUNBUFFERED": "1",
            # For jobs that start from another run: their data are not part of the trial.
            "TFDS_DATA_DIR": str(folder / "data"),
            "COLUMNS": "200",
        }
        self.seconds: dict[str, float] = {}
        self.sessions = 0
        self.kills: list[dict[str, Any]] = []
        self.trouble: list[dict[str, Any]] = []

    def reference(self, name: str) -> None:
        """Run a job undisturbed, twice the first time, so that its duration is measured with compiled programs."""
        path = self.folder / "references" / name
        done = path.with_name(name + ".json")
        if not done.exists():
            for _ in range(2):
                shutil.rmtree(path, ignore_errors=True)
                self._begin(name, path)
                session = self._session(name, path, None, 0)
                if session.status:
                    raise SystemExit(f"{name}: exit status {session.status} undisturbed: {session.trouble}")
            done.write_text(json.dumps(session.seconds))
        self.seconds[name] = json.loads(done.read_text())

    def trial(self, name: str, most: int) -> None:
        """Kill a job at most `most` times, restarting it until it is done."""
        path = self.folder / "trial"
        shutil.rmtree(path, ignore_errors=True)
        self._begin(name, path)
        trouble: list[str] = []
        log: list[dict[str, Any]] = []
        for attempt in range(min(MOST, most) + 1):
            moment = self.rng.uniform(0, self.seconds[name]) if attempt < min(MOST, most) else None
            number = self.rng.choice((signal.SIGKILL, signal.SIGTERM))
            session = self._session(name, path, moment, number)
            trouble += session.trouble
            if session.killed:
                entry = {"program": name, "signal": signal.Signals(number).name, "status": session.status}
                log.append(entry | {"second": round(session.seconds, 2), "last line": session.last_line[:100]})
            if session.status == 0:
                break
        self.kills += log
        trouble += differences(self.folder / "references" / name / "run", path / "run")
        if trouble:
            kept = self.folder / "trouble" / f"{len(self.trouble):03d}"
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(exist_ok=True)
            path.rename(kept)
            self.trouble.append({"program": name, "kept": kept.name, "kills": log, "trouble": trouble})

    def _begin(self, name: str, path: Path) -> None:
        if JOBS[name].of_a_run:
            shutil.copytree(self.folder / "references" / "train", path)
        else:
            path.mkdir(parents=True)

    def _session(self, name: str, path: Path, moment: float | None, number: int) -> Session:
        """Run one process, killed after `moment` seconds unless that is None."""
        job = JOBS[name]
        command = [sys.executable, str(ROOT / job.command[0])]
        command += [word.format(path / "run") for word in job.command[1:]]
        # Data are prepared in the first session of a trial, so that preparing them may be interrupted as well.
        fields = job.fields if job.of_a_run else [*job.fields, f"data.data_dir={path / 'data'}"]
        command += [f"--{field}" if field.startswith("comparison.") else f"--config.{field}" for field in fields]
        begin = time.monotonic()
        output = self.folder / "output.txt"
        killed, trouble = False, []
        with output.open("w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self.env, cwd=ROOT, start_new_session=True
            )
            try:
                process.wait(PATIENCE * self.seconds.get(name, 60) if moment is None else moment)
            except subprocess.TimeoutExpired:
                process.send_signal(number if moment is not None else signal.SIGABRT)
                killed = moment is not None
                try:
                    process.wait(PATIENCE * self.seconds.get(name, 60))
                except subprocess.TimeoutExpired:
                    trouble.append("hangs after its signal")
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self.sessions += 1
        text = output.read_text(errors="replace")
        expected = {0}
        if killed:
            expected = {-signal.SIGKILL} if number == signal.SIGKILL else {0, -signal.SIGTERM, 128 + signal.SIGTERM}
        if process.returncode not in expected:
            trouble.append(f"exit status {process.returncode}: {text[-1500:]}")
        elif "Traceback" in text or "cannot be read" in text:
            trouble.append(f"printed: {text[-1500:]}")
        if not _ended(process.pid):
            trouble.append("left processes behind")
            os.killpg(process.pid, signal.SIGKILL)
        lines = text.strip().splitlines()
        return Session(process.returncode, time.monotonic() - begin, killed, trouble, lines[-1] if lines else "")

    def report(self) -> dict[str, Any]:
        counts = collections.Counter((kill["program"], kill["signal"]) for kill in self.kills)
        return {
            "kills": len(self.kills),
            "by_program": {
                name: {number: counts[name, number] for number in ("SIGKILL", "SIGTERM")} for name in self.seconds
            },
            "before_any_output": sum(not kill["last line"] for kill in self.kills),
            "sessions": self.sessions,
            "seconds_undisturbed": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "trouble": self.trouble,
            "log": self.kills,
        }


def _ended(group: int) -> bool:
    """Wait a few seconds for a process group to end, and return whether it has."""
    deadline = time.monotonic() + ORPHANS_SECONDS
    while time.monotonic() < deadline:
        stats = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                stats.append(path.read_text().rpartition(")")[2].split())
            except OSError:
                continue
        # Fields 0 and 2 are the process's state and process group.
        if not any(int(stat[2]) == group and stat[0] != "Z" for stat in stats):
            return True
        time.sleep(0.2)
    return False


def differences(left: Path, right: Path) -> list[str]:
    """Return the results that differ between two folders."""
    a, b = results(left), results(right)
    found = [f"only {'undisturbed' if name in a else 'in the trial'}: {name}" for name in sorted(a.keys() ^ b.keys())]
    return found + [f"differs: {name}" for name in sorted(a.keys() & b.keys()) if not _same(a[name], b[name])]


def results(folder: Path) -> dict[str, Any]:
    """Return the contents of each file and checkpoint in a folder by path, except those that describe sessions."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        parts = path.relative_to(folder).parts
        if path.is_dir() or path.name in OF_A_SESSION or {"tensorboard", "profile"} & set(parts):
            continue
        if "checkpoints" in parts:
            step = folder.joinpath(*parts[: parts.index("checkpoints") + 2])
            key = str(step.relative_to(folder))
            if key not in found:
                found[key] = checkpoint(step)
        elif path.suffix == ".npz":
            with np.load(path) as file:
                found[name] = {key: file[key] for key in file.files if key not in OF_SESSIONS}
        elif path.suffix in (".json", ".jsonl"):
            text = path.read_text().replace(str(folder.parent), "")
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            found[name] = [_without_sessions(json.loads(line)) for line in lines]
        else:
            found[name] = path.read_bytes()
    return found


def checkpoint(step: Path) -> dict[str, Any]:
    """Return all arrays of a checkpoint, its position in the data and its bits/dim."""
    found: dict[str, Any] = {}
    for item in ("state", "running"):
        try:
            tree = ocp.StandardCheckpointer().restore((step / item).absolute())
        except Exception as error:  # an incomplete checkpoint is a difference, not a reason to stop
            found[item] = repr(error)
            continue
        for name, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[item + jax.tree_util.keystr(name)] = np.asarray(leaf)
    for file in (*step.glob("data/metadata"), *step.glob("digests/metadata"), *step.glob("metrics/metrics")):
        found[str(file.relative_to(step))] = json.loads(file.read_text())
    return found


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, dict):
        return bool(a == b)
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def _without_sessions(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_sessions(entry) for name, entry in value.items() if name not in OF_SESSIONS}
    return [_without_sessions(entry) for entry in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="how many at least (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of programs, moments and signals (default: 0)")
    parser.add_argument("--folder", type=Path, required=True, help="for references, trials and compiled programs")
    parser.add_argument("--programs", default=",".join(JOBS), help=f"any of {','.join(JOBS)} (default: all)")
    options = parser.parse_args()
    names = options.programs.split(",")
    for name in names:
        if name not in JOBS:
            parser.error(f"--programs={options.programs}: {name!r} is not one of {', '.join(JOBS)}")

    trials = Trials(options.folder.absolute(), random.Random(options.seed))
    for name in dict.fromkeys(["train", *names]):
        trials.reference(name)
        print(f"{name}: {trials.seconds[name]:.1f} s undisturbed", file=sys.stderr)
    bag = [name for name in names for _ in range(JOBS[name].weight)]
    while len(trials.kills) < options.kills:
        name = trials.rng.choice(bag)
        trials.trial(name, options.kills - len(trials.kills))
        print(f"{len(trials.kills)} kills; {name}; {len(trials.trouble)} in trouble", file=sys.stderr)
        (options.folder / "report.json").write_text(json.dumps(trials.report(), indent=2) + "\n")
    print(json.dumps(trials.report(), indent=2))
    sys.exit(1 if trials.trouble else 0)


if __name__ == "__main__":
    main()
