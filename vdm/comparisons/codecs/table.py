"""The tables of compare.py --by=codec: rates and bound by T, and classical coders on the same images."""

from collections.abc import Callable, Sequence

from vdm.comparisons import tables
from vdm.comparisons.codecs.classical import Outcome
from vdm.comparisons.codecs.coded import CLOSE, Coded


def rates_markdown(several: Sequence[Coded]) -> str:
    """Format the codec's rates by T in bits/dim, as in the third row of Table 2 of Kingma et al. (2021)."""

    def row(name: str, cell: Callable[[Coded], str]) -> str:
        return tables.row(name, [cell(coded) for coded in several])

    def gross(count: int) -> str:
        name = f"gross, a file of {'1 image' if count == 1 else f'{count} images'}"
        return row(name, lambda coded: f"{coded.gross()[count]:.3f}")

    first = several[0]
    return "\n".join(
        [
            *tables.head(f"T ({first.num_images} images)", [str(coded.num_steps) for coded in several]),
            row("bound", lambda coded: f"{coded.bound:.4f}" + _error(coded.bound_stderr)),
            row("net rate", lambda coded: f"{coded.net:.4f}"),
            row("net rate above bound", lambda coded: f"{coded.above:+.4f}" + _error(coded.noise)),
            *(gross(count) for count, _ in first.files),
            row(f"images until gross is within {CLOSE:.0%} of net", lambda coded: str(coded.images_needed)),
            row("seconds per image, encoding", lambda coded: f"{coded.encode_seconds:.3g}"),
            row("seconds per image, decoding", lambda coded: f"{coded.decode_seconds:.3g}"),
            row("of these, outside the network", lambda coded: f"{coded.coder_share:.0%}"),
            row("peak memory, MB", lambda coded: f"{coded.peak_bytes / 1e6:.0f}"),
            "",
            "Bits/dim. The error of the bound is for other images like these, that of the difference for this exact "
            "set, from the draws of both. The net rate is for a stack that already has bits. Gross counts all bytes of "
            "a file: header, initial bits (its first images, deflated) and labels, if any. Each file was "
            "decoded and compared.",
        ]
    )


def classical_markdown(outcomes: Sequence[Outcome], best: Coded) -> str:
    """Format classical coders, smallest first, and `best`, the model's smallest file; failures are listed, too."""
    num_values = best.num_images * best.num_dims

    def cell(size: int | None) -> str:
        return "" if size is None else f"{8 * size / num_values:.3f}"

    ours = best.files[-1][1]
    alone = f"{best.gross()[1]:.3f}"
    lines = tables.head(
        f"bits/dim of {best.num_images} images", ["one file per image", "all in one file", "vdm is smaller by"]
    )
    lines.append(tables.row(f"vdm, T = {best.num_steps}", [alone, cell(ours), ""]))
    found = [outcome for outcome in outcomes if outcome.smallest is not None]
    for outcome in sorted(found, key=lambda outcome: outcome.smallest or 0):
        smaller = f"{1 - ours / (outcome.smallest or 1):.1%}"
        lines.append(tables.row(_name(outcome), [cell(outcome.files), cell(outcome.picture), smaller]))
    lines += [tables.row(_name(outcome), ["", "", ""]) for outcome in outcomes if outcome.smallest is None]
    return "\n".join(
        [
            *lines,
            "",
            "From all bytes; each file was decoded and compared. Classical coders code all images as one picture, in "
            "the smaller of two layouts: about as many columns as rows, or one column. For vdm, one file per image "
            "means that of the first image. Last column: one file by vdm, against the smaller of the coder's two.",
        ]
    )


def _name(outcome: Outcome) -> str:
    return f"{outcome.name} ({outcome.problem})" if outcome.problem else outcome.name


def _error(stderr: float | None) -> str:
    return "" if stderr is None else f" ± {stderr:.4f}"
