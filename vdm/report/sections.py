"""Sections of the page: the summary, samples beside data, commands, sessions and what is missing."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vdm.report.collect import TOTALS, Collected, list_of, table_of
from vdm.report.markup import Html, details, joined, table, tag
from vdm.report.numbers import brief, counted, is_number, lasting, with_error
from vdm.report.pictures import Picture


def summary(runs: Sequence[Collected]) -> Html:
    """Summarize what was trained and the result: key figures for one run, or a table with a row for each of several."""
    if len(runs) == 1:
        return joined(_heading(runs[0].name, _model(runs[0])), _figures(runs[0]), missing(runs))
    head = ["run", "model", "result", "steps", "parameters", "data", "time in steps"]
    rows: list[list[Any]] = []
    for k, run in enumerate(runs):
        name = joined(tag("span", class_=f"swatch c{k % 6}", aria_hidden="true"), run.name)
        result = tag("strong", f"{_result(run)[0]} {TOTALS[run.total]}")
        figures = [result, _steps(run)[0], counted(run.parameters), _data_name(run), lasting(run.seconds)]
        rows.append([name, _model(run), *figures])
    heading = _heading(f"{len(runs)} runs side by side", ", ".join(run.name for run in runs))
    return joined(heading, table("Runs", head, rows, (3, 4, 6)), missing(runs))


def missing(runs: Sequence[Collected]) -> Html | None:
    """List what is missing or damaged and, for unfinished runs, how far training is; None if there is nothing."""
    lines = []
    for run in runs:
        name = f"{run.name}: " if len(runs) > 1 else ""
        if not run.finished and run.steps_in_all:
            lines.append(f"{name}Training is not finished: {run.steps:,} of {run.steps_in_all:,} steps.")
        lines += [name + line for line in run.missing]
    if not lines:
        return None
    return tag("div", tag("h2", "What is missing"), tag("ul", *(tag("li", line) for line in lines)), class_="missing")


def samples(runs: Sequence[Collected]) -> Html | None:
    """Return pictures of samples over training, with a slider, beside examples of the data; None without any."""
    cards = []
    for k, run in enumerate(runs):
        of = f"{run.name}: " if len(runs) > 1 else ""
        if run.data is not None and (k == 0 or run.data != runs[0].data):
            cards.append(_picture(run.data, f"{of}Test data", f"Examples of the test data of {run.name}"))
        for kind, frames in (("samples", run.samples), ("reconstructions", run.reconstructions)):
            if frames:
                cards.append(_frames(frames, f"{of}{kind}".capitalize() if not of else f"{of}{kind}", f"{kind}-{k}"))
    return tag("div", *cards, class_="pictures") if cards else None


def plots(run: Collected, named: bool) -> Html:
    """Return figures that replace curves in runs of earlier versions; `named` adds the run's name to their titles."""
    of = f"{run.name}: " if named else ""
    alts = {"schedule": "Noise schedule γ(t) against time", "times": "Diffusion loss of one draw against time"}
    cards = [
        _picture(shown, of + alts[name], f"{alts[name]} of {run.name}, as a figure")
        for name, shown in run.plots.items()
    ]
    return tag("div", *cards, class_="pictures")


def commands(runs: Sequence[Collected], given: Sequence[Mapping[str, str]]) -> Html | None:
    """Return the command lines of the runs with buttons to copy them; None without any."""
    parts = []
    for run, lines in zip(runs, given, strict=False):
        if len(runs) > 1:
            parts.append(tag("h3", run.name))
        for title, line in lines.items():
            said = f"{title} ({run.name})" if len(runs) > 1 else title
            copy = tag("button", "Copy", type="button", class_="copy js", aria_label=f"Copy: {said}")
            code = tag("pre", tag("code", line), tabindex="0", role="region", aria_label=f"Command: {said}")
            parts.append(tag("div", tag("p", title, copy), code, class_="command"))
    return joined(*parts) if parts else None


def sessions(run: Collected) -> Html | None:
    """List the devices and versions of each session, newest first; None if no sessions are recorded."""
    there = list_of(run.record, "sessions", dict)
    if not there:
        return None
    start = table_of(run.record, "init_from")
    begun = f"It began with the weights of {start.get('run')}:{start.get('checkpoint')}." if start else None
    head = ["session", "devices", "precision", "Python", "jax", "revision"]
    rows: list[list[Any]] = []
    for number, each in reversed(list(enumerate(there, start=1))):
        devices, versions = table_of(each, "devices"), table_of(each, "versions")
        on = f"{devices.get('num_devices', '?')} × {devices.get('kind', '?')} ({devices.get('platform', '?')})"
        revision = str(each.get("git_revision") or "not from a checkout")
        short = joined(tag("code", revision[:10]), " changed" if revision.endswith("-dirty") else None)
        training = str(table_of(each, "precision").get("training", "–"))
        rows.append([f"{number}", on, training, str(each.get("python", "–")), str(versions.get("jax", "–")), short])
    return joined(
        tag("p", begun) if begun else None,
        table(f"Sessions of {run.name}", head, rows),
        *(
            _session(f"session {number} of {run.name}", each)
            for number, each in reversed(list(enumerate(there, start=1)))
        ),
    )


def each(runs: Sequence[Collected], section: Callable[[Collected], Html | None]) -> Html | None:
    """Return the same section for every run, with the runs' names as headings if there are several."""
    found = [(run, section(run)) for run in runs]
    parts = [
        joined(tag("h3", run.name) if len(runs) > 1 else None, content) for run, content in found if content is not None
    ]
    return joined(*parts) if parts else None


def _session(name: str, each: dict[str, Any]) -> Html:
    versions = table_of(each, "versions")
    rows: list[list[Any]] = [[package, str(version)] for package, version in versions.items()]
    others = ("python", "git_revision", "xla_flags", "deterministic")
    rows += [[field, str(each[field])] for field in others if field in each]
    command = shlex.join(map(str, list_of(each, "command")))
    code = tag("pre", tag("code", command), tabindex="0", role="region", aria_label=f"Command of {name}")
    listed = table(f"Versions of {name}", ["what", "version"], rows)
    return details(f"{name[0].upper()}{name[1:]}: command and versions", code if command else None, listed)


def _heading(title: str, subtitle: str) -> Html:
    return tag("div", tag("h1", title), tag("p", subtitle, class_="subtitle"), class_="title")


def _figures(run: Collected) -> Html:
    """Return the key figures of a run."""
    data, (result, what), (steps, of) = table_of(run.record, "data"), _result(run), _steps(run)
    sides = list_of(data, "shape")
    shape = f"vectors of {sides[0]}" if len(sides) == 1 else " × ".join(map(str, sides)) or "unknown shape"
    levels = data.get("levels")
    values = "real numbers" if levels == 0 else f"{levels} levels" if levels else "unknown values"
    num = f"{brief(data.get('num_train'))} training, {brief(data.get('num_test'))} test"
    cells = [
        (result, what),
        (steps, of),
        (counted(run.parameters), "parameters of the network"),
        (_data_name(run), f"{shape}, {values}; {num}"),
        (lasting(run.seconds), "in training steps"),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for value, name in cells), class_="figures")


def _result(run: Collected) -> tuple[str, str]:
    """Return the total with its error, and its source: the final evaluation, or else the last one during training."""
    unit = TOTALS[run.total]
    bits = table_of(run.evaluation, "bits_per_dim")
    if is_number(bits.get("total")):
        return with_error(bits["total"], bits.get("stderr")), f"{unit}, final test ± standard error"
    tests = run.of_kind("final") or run.of_kind("evaluation")
    if tests and is_number(tests[-1].get(run.total)):
        last = tests[-1]
        when = "final test" if last["kind"] == "final" else f"test at step {last['step']:,}"
        return with_error(last[run.total], last.get("stderr")), f"{unit}, {when}"
    return "–", f"{unit}: not evaluated yet"


def _steps(run: Collected) -> tuple[str, str]:
    if run.finished or not run.steps_in_all:
        return f"{run.steps:,}", "training steps"
    return f"{run.steps:,}", f"of {run.steps_in_all:,} training steps: not finished"


def _data_name(run: Collected) -> str:
    name = table_of(run.record, "data").get("name") or table_of(run.config, "data").get("name")
    return str(name) if name else "unknown data"


def _model(run: Collected) -> str:
    """Describe the model in words."""
    if run.config.get("task"):
        return f"{table_of(run.config, 'model').get('name', run.config['task'])}, a model before diffusion"
    if not run.config:
        return "a model whose config is lost"
    network, objective = table_of(run.config, "network"), table_of(run.config, "objective")
    steps = objective.get("num_steps")
    time = "continuous time" if steps is None else f"{steps} time steps"
    given = ", ".join(map(str, list_of(network, "condition")))
    condition = f", given {given}" if given else ""
    schedule = table_of(run.config, "schedule").get("name")
    return f"Diffusion model in {time}{condition}: network {network.get('name')}, schedule {schedule}"


def _picture(shown: Picture, title: str, alt: str) -> Html:
    image = tag("img", src=shown.uri, alt=alt, width=shown.width, height=shown.height)
    return tag("figure", tag("figcaption", tag("h3", title)), image, class_="card picture")


def _frames(frames: Sequence[Picture], title: str, name: str) -> Html:
    """Show the last frame, with a slider to the others."""
    last = frames[-1]
    images = [
        tag("img", src=frame.uri, alt=f"{title} at {frame.title}", width=frame.width, height=frame.height,
            class_="frame", hidden=frame is not last, data_title=frame.title)
        for frame in frames
    ]  # fmt: skip
    slider = None
    if len(frames) > 1:
        most = len(frames) - 1
        control = tag("input", type="range", id=name, min="0", max=str(most), step="1", value=str(most),
                      aria_valuetext=last.title)  # fmt: skip
        slider = tag("div", tag("label", "Training so far", for_=name), control, class_="slider js")
    shown = (
        tag("output", last.title, class_="unit", for_=name)
        if len(frames) > 1
        else tag("span", last.title, class_="unit")
    )
    caption = tag("figcaption", tag("h3", title), shown)
    return tag("figure", caption, *images, slider, class_="card picture frames")
