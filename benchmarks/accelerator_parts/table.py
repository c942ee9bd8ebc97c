"""The figures of all parts as text: the predicted and the measured value, and its share of the limit."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from accelerator_parts import predictions
from accelerator_parts.cases import PRECISIONS

Parts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One figure in the table."""

    what: str
    predicted: str
    measured: str
    note: str = ""


def rows(parts: Parts) -> list[Row]:
    """Return rows for everything measured; failed parts have none. Predictions are given for H100-like devices only."""
    found = {name: part["figures"] for name, part in parts.items()}
    machine = found.get("machine", {})
    bare = found.get("cifar10_bfloat16", {}).get("queued_step_seconds")
    digits = found.get("digits", {})
    made = [
        *_machine(machine),
        *(row for name, figures in found.items() if "case" in figures for row in _step(name, figures, machine)),
        *_loop("cifar10 (bfloat16)", found.get("loop", {}), bare),
        *_loop("digits", digits, digits.get("bare_step_seconds")),
        *_precision(found.get("precision", {}), machine),
        *_variants(found),
        *_bits(found),
        *_programs(found),
    ]
    known = re.search(r"H[12]00", machine.get("device_kind", ""))
    return made if known else [replace(row, predicted="") for row in made]


def text(parts: Parts, table: list[Row]) -> str:
    """Format the rows, followed by the longest kernels."""
    head = Row("", "predicted", "measured", "")
    widths = [max(len(getattr(row, name)) for row in [head, *table]) for name in ("what", "predicted", "measured")]
    lines = [
        f"{row.what:{widths[0]}}  {row.predicted:>{widths[1]}}  {row.measured:>{widths[2]}}  {row.note}".rstrip()
        for row in [head, *table]
    ]
    for name, part in parts.items():
        if (profile := part["figures"].get("profile")) and profile["longest"]:
            lines += ["", *_kernels(name, profile)]
    return "\n".join(lines)


def _machine(figures: dict[str, Any]) -> Iterator[Row]:
    if "device_kind" in figures:
        versions = ", ".join(f"{name} {version}" for name, version in figures.get("versions", {}).items())
        memory = figures.get("memory", {}).get("bytes_limit")
        yield Row("device", "", figures["device_kind"], f"{_bytes(memory) if memory else 'memory unknown'}; {versions}")
    for precision in PRECISIONS:
        if measured := figures.get(f"{precision}_flops_per_second"):
            peak = figures.get(f"{precision}_datasheet")
            note = f"{measured / peak:.0%} of the data sheet" if peak else ""
            yield Row(f"matmul peak, {precision}", "", f"{measured / 1e12:.4g} TFLOP/s", note)
    if measured := figures.get("copy_bytes_per_second"):
        yield Row("copy, read and written", "", f"{measured / 1e12:.3g} TB/s")


def _step(name: str, figures: dict[str, Any], machine: dict[str, Any]) -> Iterator[Row]:
    what = f"{figures['case']} step, {figures['precision']}, batch {figures['batch_size']}"
    if figures.get("accumulate", 1) > 1:
        what += f" in {figures['accumulate']} parts"
    if seconds := figures.get("queued_step_seconds"):
        low, high = figures["step_seconds_range"]
        shares = _shares(figures["model_flops_per_second"], figures["precision"], machine)
        note = f"waited for: {_ms(figures['step_seconds'])} [{_ms(low)}, {_ms(high)}]; {shares}"
        yield Row(what, _predicted(predictions.STEPS.get(name)), _ms(seconds), note)
        yield Row("  images/s", "", f"{figures['images_per_second']:.4g}")
    if "compile_seconds" in figures:
        cached = figures.get("cached_compile_seconds")
        again = f"from the cache {cached:.1f} s; tracing {figures['trace_seconds']:.1f} s" if cached else ""
        yield Row("  compile", "", f"{figures['compile_seconds']:.1f} s", again)
    if peak := figures.get("peak_bytes_in_use"):
        yield Row(
            "  peak memory",
            "",
            _bytes(peak),
            f"temporary by the compiler {_bytes(figures['temporary_bytes_per_device'])}",
        )


def _loop(what: str, figures: dict[str, Any], bare: float | None) -> Iterator[Row]:
    if "step_seconds" not in figures:
        return
    overhead = f"{figures['step_seconds'] / bare - 1:+.1%} over the bare step; " if bare else ""
    note = f"{overhead}a checkpoint {figures['checkpoint_seconds'] * 1e3:.0f} ms"
    predicted = "≤ +3 %" if what.startswith("cifar10") else ""
    yield Row(f"vdm train, {what}: a step", predicted, _ms(figures["step_seconds"]), note)
    logged = f"its log says {figures['logged_images_per_second']:.4g}"
    yield Row("  images/s", "", f"{figures['images_per_second']:.4g}", logged)


def _precision(figures: dict[str, Any], machine: dict[str, Any]) -> Iterator[Row]:
    state = "" if figures.get("trained") else "random weights; "
    for what in ("evaluation", "sampling"):
        for precision in PRECISIONS:
            if not (measured := figures.get(f"{what}_{precision}")):
                continue
            flops = figures["forward_flops"] * measured["network_calls"] / measured["seconds"]
            calls = measured["network_calls"] / measured["seconds"]
            note = f"{calls:.4g} network calls/s; {_shares(flops, precision, machine)}"
            predicted = _predicted(predictions.CALLS.get((what, precision)), measured["network_calls"])
            yield Row(f"{what}, {precision}", predicted, _ms(measured["seconds"]), note)
            if change := figures.get(f"{'bits_per_dim' if what == 'evaluation' else 'images'}_{precision}"):
                yield Row("  change from float32", *_change(change, precision, state))


def _change(change: dict[str, float], precision: str, state: str) -> tuple[str, str, str]:
    if "difference" in change:
        measured = f"{change['difference']:+.2e} ± {change['stderr']:.1e} bits/dim"
        return predictions.BITS.get(precision, ""), measured, f"{state}largest of an image {change['largest']:.1e}"
    measured = f"rms {change['rms_levels']:.3g} levels"
    return "", measured, f"{state}{change['share_changed']:.1%} of the values are others"


def _variants(found: Parts) -> Iterator[Row]:
    figures = found.get("variants", {})
    base = figures.get("baseline", {}).get("step_seconds")
    if not base:
        return
    low, high = figures["baseline"]["step_seconds_range"]
    yield Row("variants: depth 4, bfloat16", "", _ms(base), f"[{_ms(low)}, {_ms(high)}]")
    others = {name: value for name, value in figures.items() if isinstance(value, dict) and name != "baseline"}
    others |= {name: found[name]["baseline"] for name in predictions.FLAGS if "baseline" in found.get(name, {})}
    for name, other in others.items():
        if "error" in other:
            yield Row(f"  {name}", "", "failed", other["error"])
            continue
        # A larger batch is compared by its time per image.
        change = other["step_seconds"] * figures["baseline"]["batch_size"] / other["batch_size"] - base
        predicted, why = predictions.VARIANTS.get(name, ("", ""))
        yield Row(f"  {name}", predicted, f"{change * 1e3:+.2f} ms ({change / base:+.1%})", why)


def _bits(found: Parts) -> Iterator[Row]:
    first = found.get("variants", {}).get("bits")
    for name in ("variants", *predictions.FLAGS):
        figures = found.get(name, {})
        if "same_bits_twice" in figures:
            note = (
                ""
                if name == "variants" or first is None
                else f"the first program's bits: {_yes(figures['bits'] == first)}"
            )
            what = "as configured" if name == "variants" else name
            yield Row(f"same bits twice, {what}", "", _yes(figures["same_bits_twice"]), note)


def _programs(found: Parts) -> Iterator[Row]:
    if "exit_status" in (figures := found.get("verify", {})):
        yield Row("vdm.verify", "status 0", f"status {figures['exit_status']}", f"{figures['program_seconds']:.0f} s")
    if "exit_status" in (figures := found.get("tests", {})):
        counts = ", ".join(
            f"{figures[name]} {name}" for name in ("passed", "failed", "error", "skipped") if name in figures
        )
        yield Row("tests on this device", "none fails", counts or "none", f"{figures['program_seconds']:.0f} s")
        for line in figures.get("not_passed", []):
            yield Row("", "", "", line)


def _kernels(name: str, profile: dict[str, Any]) -> Iterator[str]:
    total = profile["kernel_seconds"]
    yield f"{name}: kernels take {_ms(total)} a step, {profile['launches']:.0f} launches"
    yield "  " + ", ".join(f"{kind} {seconds / total:.0%}" for kind, seconds in profile["by_kind"].items())
    for row in profile["longest"]:
        rates = f"{row['bytes_per_second'] / 1e12:6.3f} TB/s {row['flops_per_second'] / 1e12:7.2f} TFLOP/s"
        times = f"{_ms(row['seconds']):>9} {row['share']:6.1%} {row['launches']:5.0f}×"
        yield f"  {times}  {rates}  {row['what'][:44]:44}  {row['kernel'][:60]}"


def _shares(flops_per_second: float, precision: str, machine: dict[str, Any]) -> str:
    """Format a rate as shares of the measured peak and of the data sheet's (MFU)."""
    shares = []
    for name, ceiling in (("matmul peak", "flops_per_second"), ("data sheet", "datasheet")):
        if peak := machine.get(f"{precision}_{ceiling}"):
            shares.append(f"{flops_per_second / peak:.1%} of the {name}")
    return ", ".join(shares)


def _predicted(seconds: float | None, times: float = 1) -> str:
    return "" if seconds is None else _ms(seconds * times)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms"


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
