"""Sends SIGINT, or another signal, to every program at random moments, from its first import to its last write.

    python benchmarks/stops.py --signals=80 --seed=0 --folder=/tmp/stops

Each program is first run to its end to measure its duration. Then a signal is sent to its process group, as a terminal
does, at a moment drawn uniformly from that time. The program must end with status 128 plus the signal's number, or with
0 if it was already done; within `PATIENCE` seconds or after announcing that it stops after the current step; and
without a traceback. It prints one JSON object: how the trials of each program ended, and the longest time until the
end. The exit status is 1 if anything else happened.
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

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 10
"""Seconds that a program has to end; generous, because a busy machine is slow."""
STARTED = 0.15
"""Seconds that Python needs until it runs a program's first line, which sets up signal handling."""

FIELDS = [
    *("network.channels=4", "network.depth=1", "schedule.name=learned_linear", "schedule.gamma_min=-7"),
    *("training.batch_size=2", "training.log_every=2", "training.checkpoint_every=3", "training.steps=12"),
    *("training.evaluate_every=4", "training.sample_every=6", "optimizer.warmup_steps=2"),
    *("evaluation.batch_size=100", "evaluation.draws=1", "evaluation.max_images=100"),
    *("sampling.num=4", "sampling.steps=2", "sampling.batch_size=256"),
]
COMPARISON = ["trained=(3,)", "evaluated=(3,20)", "draws=20", "max_images=50"]
TRAIN = ["--config=digits", *(f"--config.{field}" for field in FIELDS)]
PROGRAMS = {
    "train": [str(ROOT / "train.py"), "--workdir={new}", *TRAIN],
    "train with a worker": ["-m", "vdm", "train", "--workdir={new}", *TRAIN, "--config.data.num_workers=1"],
    "evaluate": [str(ROOT / "evaluate.py"), "--workdir={run}"],
    "sample": ["-m", "vdm", "sample", "--workdir={copy}", "--num=2000", "--steps=2"],
    "compare": [
        str(ROOT / "compare.py"),
        "--config=compare_digits",
        "--workdir={new}",
        *TRAIN[1:],
        *(f"--comparison.{field}" for field in COMPARISON),
    ],
    "export": ["-m", "vdm.export", "--run={run}", "--out={new}", "--platforms=cpu"],
    "verify": ["-m", "vdm.verify"],
    "plots": ["-m", "vdm", "plots", "trajectories", "--out={new}/figure.png"],
}


class Trials:
    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        self.env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0",
        }
        self.seconds: dict[str, float] = {}
        self.ends: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.longest = 0.0
        self.trouble: list[str] = []

    def start(self, name: str) -> "subprocess.Popen[str]":
        run, new, copy = (self.folder / part for part in ("run", "new", "copy"))
        for path in (new, copy):
            shutil.rmtree(path, ignore_errors=True)
        if "{copy}" in " ".join(PROGRAMS[name]):
            shutil.copytree(run, copy)
        command = [sys.executable, *(word.format(run=run, new=new, copy=copy) for word in PROGRAMS[name])]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.env, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def whole(self, name: str) -> None:
        """Run a program undisturbed."""
        start = time.monotonic()
        process = self.start(name)
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"{name}: {said}")
        self.seconds[name] = time.monotonic() - start
        print(f"{name}: {self.seconds[name]:.1f} s", file=sys.stderr, flush=True)
        if name == "train":
            shutil.rmtree(self.folder / "run", ignore_errors=True)
            shutil.copytree(self.folder / "new", self.folder / "run")

    def stop(self, name: str, number: signal.Signals) -> None:
        """Run one trial."""
        process, at = self.start(name), self.rng.uniform(STARTED, self.seconds[name])
        time.sleep(at)
        sent = time.monotonic()
        over = process.poll() is not None
        if not over:
            os.killpg(process.pid, number)
        _, said = process.communicate()
        took, status = time.monotonic() - sent, process.returncode
        graceful = "stopping after this step" in said
        if status == 128 + number:
            how = "in the end of a step" if graceful else "at once"
        elif status in (0, -number):
            # When Python itself shuts down after our program, there are no handlers any more.
            how = "done before" if over or status else "done, unheard"
        else:
            how = f"status {status}"
        self.ends[name][how] += 1
        print(f"{name}, {number.name} at {at:.1f} s: {how} in {took:.1f} s", file=sys.stderr, flush=True)
        self.longest = max(self.longest, 0 if over else took)
        lines = [line for line in said.splitlines() if line]
        clean = all(line.startswith(("error: ", "stopping after this step")) for line in lines) and len(lines) <= 2
        if how.startswith(("status", "done, unheard")) or not clean or (took > PATIENCE and not graceful):
            self.trouble.append(
                f"{name}, {number.name} after {at:.2f} s, {took:.1f} s to the end, {how}: {said[-1500:]}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/stops"))
    parser.add_argument("--only", nargs="*", choices=PROGRAMS, default=list(PROGRAMS))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    trials = Trials(given.folder, random.Random(given.seed))
    for name in given.only:
        trials.whole(name)
    for i in range(given.signals):
        trials.stop(given.only[i % len(given.only)], trials.rng.choice([signal.SIGINT] * 3 + [signal.SIGTERM]))
    ends = {name: dict(count) for name, count in trials.ends.items()}
    print(json.dumps({"signals": given.signals, "seconds": trials.seconds, "ends": ends,
                      "longest_to_the_end": trials.longest, "trouble": trials.trouble}, indent=2))  # fmt: skip
    sys.exit(bool(trials.trouble))


if __name__ == "__main__":
    main()
