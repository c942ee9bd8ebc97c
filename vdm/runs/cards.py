"""The released model of a run: its weights, and a card compiled from the records of the run and its measurements."""

import json
import math
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vdm
from vdm import parallel, safetensors
from vdm.config import to_dict
from vdm.errors import InputError, one_line
from vdm.files import replace_text, write_json
from vdm.precisions import FLOAT32
from vdm.reading import field, read_json
from vdm.runs.card_text import as_markdown
from vdm.runs.folder import differing_data
from vdm.runs.open import Run, open_run
from vdm.runs.places import CARD, PREFIX
from vdm.runs.records import read_evaluation, read_metrics, read_record, weights_digest
from vdm.runs.released import CONFIG, FILES, README, TEXT, WEIGHTS, copy_files, flat, read_card, sha256, whole


@dataclass(frozen=True)
class About:
    """What the card says that no record of the run does."""

    name: str
    licence: str
    data_licence: str
    description: str = ""
    machine: str = ""


def write(run: Run, about: About, folder: Path) -> dict[str, Any]:
    """Write the released model of a finished run to `folder`, whole or not at all, and return its card.

    An existing folder is replaced. Raises `InputError` if the run is not finished, if its model was made by the caller
    and not by its config, or if the folder cannot be written.
    """
    _check_finished(run)
    with whole(folder) as partial:
        arrays = {
            name: np.asarray(leaf) for name, leaf in flat(*parallel.to_host((run.variables, run.proposal))).items()
        }
        safetensors.write(partial / WEIGHTS, arrays)
        write_json(partial / CONFIG, portable(to_dict(run.config)))
        if (run.path / TEXT).exists():
            shutil.copyfile(run.path / TEXT, partial / TEXT)
        files = {
            name: {"sha256": sha256(partial / name), "bytes": (partial / name).stat().st_size}
            for name in FILES
            if (partial / name).exists()
        }
        card = card_of(run, about) | {"files": files}
        write_json(partial / CARD, card)
        replace_text(partial / README, as_markdown(card))
        _check_same(run, partial)
    return card


def write_again(run: Run, folder: Path) -> dict[str, Any]:
    """Copy a released model to `folder`, add later measurements to its card, and return the card.

    Measurements are read from `run.home`, where `vdm evaluate --workdir=vdm:NAME` writes them. If there are none, the
    files, which `open_run` has checked, are copied byte for byte. An existing folder is replaced.

    Raises `InputError` if the folder cannot be written, and if the card cannot be added to.
    """
    old = read_card(run.path)
    card = _with_later(old, run)
    with whole(folder) as partial:
        copy_files(run.path, partial)
        if card != old:
            write_json(partial / CARD, card)
            replace_text(partial / README, as_markdown(card))
    return card


def _with_later(card: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return a card with the measurements in `run.home`, each in place of one with the same settings.

    Raises `InputError` if there are some and the card is not like those of `write`.
    """
    later_bounds, later_metrics = bounds(run, card["name"], ""), list(metrics(run, card["name"]))
    if not (later_bounds or later_metrics):
        return card
    try:
        of_samples = {_settings(each): each for each in [*card["metrics"], *later_metrics]}
        card = card | {"bounds": _in_order([*card["bounds"], *later_bounds]), "metrics": list(of_samples.values())}
        as_markdown(card)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run.path / CARD}: cannot be added to: {type(error).__name__}: {one_line(error)}") from error
    return card


def _settings(measured: Mapping[str, Any]) -> str:
    """What an entry of a card measures, without the result: entries that agree in it replace each other.

    The command of a bound by the ODE counts: it has the tolerance and the number of probes.
    """
    left_out = {"bits_per_dim", "value", "stderr", "noise_floor"}
    if measured.get("kind") != "ode":
        left_out.add("command")
    return json.dumps({key: value for key, value in measured.items() if key not in left_out}, sort_keys=True)


def _in_order(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bounds sorted by kind, condition and T, keeping the last of those with the same settings."""
    kinds = ("variational", "importance", "ode")
    unique = {_settings(each): each for each in entries}.values()
    return sorted(unique, key=lambda each: (kinds.index(each["kind"]), each["given"], each["T"] or math.inf))


def _check_finished(run: Run) -> None:
    done, wanted = run.step, run.config.training.steps
    there = read_evaluation(run.path).get("checkpoint_step")
    if there != wanted:
        raise InputError(
            f"{run.path}: is not finished: has {done} of {wanted} steps and no final evaluation; train first"
        )
    if "model" in _given(run):
        raise InputError(f"{run.path}: was trained with a model of its caller, which no config describes")


def _check_same(run: Run, folder: Path) -> None:
    """Raise `InputError` unless the folder opens with the weights of the run."""
    opened = open_run(folder, mesh=run.mesh)
    if weights_digest(parallel.to_host(opened.variables)) != weights_digest(parallel.to_host(run.variables)):
        raise InputError(f"{folder}: does not come back with the weights of {run.path}")


def _given(run: Run) -> list[str]:
    return [name for session in read_record(run.path).get("sessions", []) for name in session.get("given", [])]


def card_of(run: Run, about: About) -> dict[str, Any]:
    """The card without its list of files."""
    record = read_record(run.path)
    sessions = record.get("sessions", [{}])
    last = sessions[-1]
    commands = [_command(session.get("command", []), run, f"runs/{about.name}") for session in sessions]
    training = {
        "commands": list(dict.fromkeys(commands)),
        "seed": run.config.seed,
        "machine": about.machine,
        "seconds_in_steps": seconds_in_steps(run),
        **{name: last.get(name) for name in ("devices", "precision", "python", "versions", "git_revision")},
    }
    start = (
        {"init_from": {**record["init_from"], "run": portable(record["init_from"]["run"])}}
        if "init_from" in record
        else {}
    )
    given = {"sessions": [{"given": ["dataset"]}]} if "dataset" in _given(run) else {}
    return {
        "format": 1,
        "name": about.name,
        "description": about.description,
        "licence": about.licence,
        "data_licence": about.data_licence,
        "step": run.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.variables)),
        "data": portable(record.get("data", {})),
        **start,
        **given,
        "training": training,
        "vdm": vdm.__version__,
        "bounds": bounds(run, about.name, training["commands"][-1]),
        "metrics": list(metrics(run, about.name)),
    }


def seconds_in_steps(run: Run) -> float | None:
    """Time of the training steps in seconds, from the run's log, without evaluation, sampling and compilation."""
    batch_size, before, total = run.config.training.batch_size, 0, 0.0
    for record in read_metrics(run.path / "metrics.jsonl"):
        if record["kind"] == "train" and record["step"] <= run.step and record.get("images_per_second"):
            total += (record["step"] - before) * batch_size / record["images_per_second"]
            before = record["step"]
    return round(total, 1) if before == run.step else None


def bounds(run: Run, name: str, trained_by: str) -> list[dict[str, Any]]:
    """All bounds of these weights on the run's own test data in bits/dim, from its evaluation.json and evaluations/.

    Each has kind, T (None: continuous time), given ("label"; "" for an unconditional model), bits_per_dim, stderr,
    images, draws, precision unless it is float32, and command, which is `trained_by` for the evaluation at the end of
    training. Those of a single image have no standard error and are left out.
    """
    digest, entries = weights_digest(parallel.to_host(run.variables)), list[dict[str, Any]]()
    for path in (*run.home.glob("evaluation.json"), *sorted((run.home / "evaluations").glob("*.json"))):
        found = read_json(path)
        same = found.get("checkpoint_step") == run.step and found.get("weights_digest", digest) == digest
        # For a classification, "bits_per_dim" is a mere number.
        if not (same and isinstance(found.get("bits_per_dim"), dict) and _on_own_data(run, found, path)):
            continue
        kind, steps = _kind(found)
        command = _command(found.get("command", []), run, PREFIX + name) or trained_by
        conditions = " and ".join(getattr(run.model, "condition", ()))
        for given, one in ((conditions, found), (f"{conditions} dropped", found.get("dropped"))):
            if one is None or (stderr := field(one, "bits_per_dim.stderr", float | None, path)) is None:
                continue
            images, draws = (field(one, key, int, path) for key in ("num_images", "num_draws"))
            precision = field(one, "precision", str, path, FLOAT32)
            entries.append(
                {
                    "kind": kind,
                    "T": steps,
                    "given": given,
                    "bits_per_dim": field(one, "bits_per_dim.total", float, path),
                    "stderr": stderr,
                    "images": images,
                    "draws": draws,
                    **({} if precision == FLOAT32 else {"precision": precision}),
                    "command": command,
                }
            )
    return _in_order(entries)


def _on_own_data(run: Run, found: dict[str, Any], path: Path) -> bool:
    """Whether an evaluation is on the run's own data, not on others that --config.data.name named."""
    own = portable(read_record(run.path).get("data", {}))
    here = portable(field(found, "data", dict, path, {}))
    return not differing_data({name: own[name] for name in own.keys() & here.keys()}, here)


def _kind(found: Mapping[str, Any]) -> tuple[str, int | None]:
    if str(found.get("kind", "")).startswith("probability-flow ODE"):
        return "ode", None
    return "importance" if "by_draws" in found else "variational", found.get("num_steps")


def metrics(run: Run, name: str) -> Iterator[dict[str, Any]]:
    """Metrics of samples from these weights, from samples/*/metrics.json.

    Each has name, value, stderr, noise_floor, unit, lower_is_better, samples, real, num_real and command.
    """
    digest = weights_digest(parallel.to_host(run.variables))
    for path in sorted((run.home / "samples").glob("*/metrics.json")):
        found = read_json(path)
        if field(found, "of.samples.weights", str, path) != digest:
            continue
        of = found["of"]
        for metric, score in field(found, "metrics", dict, path).items():
            kept = ("value", "stderr", "noise_floor", "title", "unit", "lower_is_better")
            yield {
                "name": metric,
                **{key: score.get(key) for key in kept},
                "samples": of["num"],
                "real": portable(of["real"]),
                "num_real": of["num_real"],
                "settings": portable({key: value for key, value in of["samples"].items() if key != "weights"}),
                "command": _command(score.get("command", []), run, PREFIX + name),
            }


def _command(argv: Sequence[str], run: Run, name: str) -> str:
    """A command line that works on another machine: the run is called `name`, and --out is left out."""
    if not argv:
        return ""
    program, *words = argv
    own = {run.name, str(run.path), str(run.path.absolute()), str(run.path.resolve())}
    kept = []
    for word in words:
        flag, equals, value = word.partition("=")
        if flag == "--out" and equals:
            continue
        kept.append(f"{flag}={name}" if equals and value.rstrip("/") in own else portable(word))
    called = program if program.startswith("vdm ") else f"python {os.path.basename(program)}"
    return " ".join([called, *map(_quoted, kept)])


def _quoted(word: str) -> str:
    """Quote a word for the shell, with quotes around the value alone: --metrics='a(b)'."""
    flag, equals, value = word.partition("=")
    return f"{flag}={shlex.quote(value)}" if equals and flag.startswith("--") else shlex.quote(word)


_ABSOLUTE = re.compile(r"(?<![\w.~/\\)\]-])(?:~|[A-Za-z]:)?(?:[/\\][^/\\\s'\"(),]+)+[/\\]?")


def portable(value: Any) -> Any:
    """Remove the paths of this machine from a JSON value: an absolute path becomes its last part.

    >>> portable({"name": "npz:/home/me/photos.npz", "guidance": "none"})
    {'name': 'npz:photos.npz', 'guidance': 'none'}
    """
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    if isinstance(value, str):
        return _ABSOLUTE.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], value)
    return value
