"""Measures this package on an accelerator in nine minutes: prints a table and writes JSON to a folder.

    python benchmarks/accelerator.py --out=DIR                    all parts, most important first, in 530 seconds
    python benchmarks/accelerator.py --out=DIR --parts=step_tf32  some of them, in this order
    python benchmarks/accelerator.py --out=DIR --small            all parts at toy size, on a CPU, in two minutes

Each part is a process with its own time limit. If one fails, hangs or takes too long, this is reported, what it has
measured is kept, and the next one starts. accelerator.json in DIR (default: $OUT, or the current folder) is rewritten
after every part. No figure is asserted; the exit status is 1 if a part failed or was cut off. docs/howto/gpu.md
explains the figures.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUDGET = 530
LEAST = 20
"""No part is started with fewer seconds than this left."""
PATIENCE = 4
"""Factor on the time limits at toy size, so that no part fails because the machine is busy."""
SAID = 15
"""Number of output lines kept from a failed part."""
QUICK = "--xla_backend_optimization_level=0"
"""XLA flag that makes compiling for a CPU faster."""


@dataclass(frozen=True)
class Part:
    """A function that measures some figures, run in its own process."""

    name: str
    limit: float
    """Time limit in seconds."""
    function: str
    """The function as "module:name"; it is called with `Figures` and the arguments."""
    arguments: dict[str, Any] = field(default_factory=dict)
    flags: str = ""
    """Flags for XLA."""


def _step(case: str, precision: str, limit: float, **more: Any) -> Part:
    name = f"{case}_{precision}"
    return Part(name, limit, "accelerator_parts.steps:measure", {"case": case, "precision": precision} | more)


def _variant(name: str, flags: str) -> Part:
    return Part(name, 60, "accelerator_parts.variants:baseline", flags=flags)


# Most important first. The comment behind each part is the expected time in seconds on an H100, most of which goes into
# compiling. The parts down to `variants` take the first four to six minutes.
PARTS = [
    Part("machine", 60, "accelerator_parts.machine:measure"),  # 20
    _step("cifar10", "bfloat16", 150, profile=True),  # 75
    _step("cifar10", "tf32", 120),  # 60
    Part("loop", 120, "accelerator_parts.loop:cifar10"),  # 60
    Part("precision", 150, "accelerator_parts.precision:measure"),  # 100
    Part("variants", 150, "accelerator_parts.variants:measure"),  # 90
    _variant("command_buffer", "--xla_gpu_enable_command_buffer=+CONVOLUTION"),  # 20
    _variant("exclude_nondeterministic", "--xla_gpu_exclude_nondeterministic_ops=true"),  # 20
    _variant("deterministic", "--xla_gpu_deterministic_ops=true"),  # 20
    Part("digits", 60, "accelerator_parts.loop:digits"),  # 30
    Part("verify", 100, "accelerator_parts.programs:verify"),  # 60
    _step("cifar10", "float32", 120),  # 60
    _step("imagenet64", "bfloat16", 200),  # 120
    Part("tests", 100, "accelerator_parts.programs:tests"),  # 60
    _variant("latency_hiding", "--xla_gpu_enable_latency_hiding_scheduler=true"),  # 20
    Part("autotuned_anew", 60, "accelerator_parts.variants:baseline", {"own_cache": True}),  # 25
    _step("imagenet64", "tf32", 200),  # 120
    _step("imagenet64", "float32", 200),  # 130
]


def main(argv: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> None:
    names = [part.name for part in parts]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="folder (default: $OUT, or .)"
    )
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds in all (default: {BUDGET})")
    parser.add_argument("--parts", default=",".join(names), help=f"of {','.join(names)} (default: all)")
    parser.add_argument("--small", action="store_true", help="at toy size")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return child(**json.loads(options.child))
    chosen = options.parts.split(",")
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"--parts={options.parts}: {unknown[0]!r} is not one of {', '.join(names)}")
    with contextlib.suppress(OSError):
        options.out.mkdir(parents=True, exist_ok=True)
    if not os.access(options.out, os.W_OK):
        parser.error(f"--out={options.out}: cannot write there")
    if not run([next(part for part in parts if part.name == name) for name in chosen], options):
        sys.exit(1)


def run(parts: Sequence[Part], options: argparse.Namespace) -> bool:
    """Run all parts and print the table at the end. Return whether none failed or was cut off."""
    start, result = time.monotonic(), {"small": options.small, "budget": options.budget, "parts": {}}
    with tempfile.TemporaryDirectory(prefix="accelerator_") as folder:
        for part in parts:
            left = options.budget - (time.monotonic() - start)
            if left < min(LEAST, part.limit):
                result["parts"][part.name] = {"status": "not run: no time left", "seconds": 0.0, "figures": {}}
            else:
                limit = part.limit * (PATIENCE if options.small else 1)
                result["parts"][part.name] = run_part(part, Path(folder), min(limit, left), options.small)
            done = result["parts"][part.name]
            print(f"{part.name}: {done['status']} after {done['seconds']:.0f} s", flush=True)
            for line in done.get("said", []):
                print(f"    {line}", flush=True)
            write(options.out / "accelerator.json", result)
    from accelerator_parts import table

    rows = table.rows(result["parts"])
    write(options.out / "accelerator.json", result | {"table": [asdict(row) for row in rows]})
    print("\n" + table.text(result["parts"], rows), flush=True)
    if missing := [name for name, part in result["parts"].items() if part["status"].startswith("not run")]:
        print(f"\nnot run: --parts={','.join(missing)}", flush=True)
    return all(part["status"] == "ok" or part["status"].startswith("not run") for part in result["parts"].values())


def run_part(part: Part, folder: Path, limit: float, small: bool) -> dict[str, Any]:
    """Run a part and return its status, seconds and figures, and the end of its output if it failed."""
    figures, log = folder / f"{part.name}.json", folder / f"{part.name}.log"
    call = {"function": part.function, "arguments": part.arguments, "figures": str(figures), "small": small}
    command = [sys.executable, str(ROOT / "benchmarks" / "accelerator.py"), "--child", json.dumps(call)]
    start = time.monotonic()
    with log.open("w") as output:
        # A process group of its own, so that its child processes end with it.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment(part, folder, small), start_new_session=True
        )
        try:
            code = process.wait(timeout=limit)
            status = "ok" if code == 0 else f"failed (status {code})"
        except subprocess.TimeoutExpired:
            status = f"cut off at its limit of {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    measured = json.loads(figures.read_text()) if figures.exists() else {}
    result = {"status": status, "seconds": time.monotonic() - start, "figures": measured}
    if status == "ok":
        return result
    lines = log.read_text(errors="replace").replace(str(folder), "…").splitlines()
    return result | {"said": [line[:300] for line in lines[-SAID:]]}


def environment(part: Part, folder: Path, small: bool) -> dict[str, str]:
    """Return a part's environment: a compilation cache shared by all parts, most of the GPU's memory, XLA's flags."""
    flags = [os.environ.get("XLA_FLAGS", ""), part.flags, QUICK if small else ""]
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92"),
        "XLA_FLAGS": " ".join(filter(None, flags)),
        "TFDS_DATA_DIR": str(folder / "data"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def child(function: str, arguments: dict[str, Any], figures: str, small: bool) -> None:
    """Run a part; this is the main function of its process."""
    from accelerator_parts.figures import Figures

    module, _, name = function.partition(":")
    path = Path(figures)
    getattr(importlib.import_module(module), name)(Figures(path, small, path.parent), **arguments)


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
