"""Check this installation against closed forms: bounds, schedules, likelihood, posterior and sampler.

python -m vdm.verify --seed=1

Every quantity is measured with the library's own functions and the exact denoiser of a known distribution
(`vdm.oracles`), in float32 on this machine's device, and compared with float64 quadrature or algebra. The exit status
is 1 if a quantity misses. A random measurement may be off by 3 standard errors. By chance, about one in 300 is off by
more, so among the 29 in the table one misses for about every thirteenth seed: a miss that does not recur with other
seeds is not a bug.
"""

import argparse
from collections.abc import Sequence

import jax
from rich.table import Table
from rich.text import Text

from vdm.programs.arguments import Parser
from vdm.programs.streams import make_console
from vdm.progress import progress_of
from vdm.reading import whole
from vdm.verify import checks
from vdm.verify.checks import Check
from vdm.verify.guidance import guidance
from vdm.verify.restoration import restoration

TOPICS = {**checks.TOPICS, "guidance": guidance, "restoration": restoration}


def verify(seed: int, scale: float = 1.0, only: Sequence[str] | None = None) -> list[Check]:
    """Run the checks of the topics in `only`, or of all `TOPICS`; `scale` multiplies the number of samples."""
    keys = dict(zip(TOPICS, jax.random.split(jax.random.key(seed), len(TOPICS)), strict=True))
    return [check for name in only or TOPICS for check in TOPICS[name](keys[name], scale)]


def _seed(text: str) -> int:
    try:
        return whole(text, 0, 2**32 - 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status: 1 if a check misses, else 0."""
    parser = Parser("python -m vdm.verify", __doc__)
    parser.add_argument("--seed", type=_seed, default=0, help="seed of all randomness (default: 0)")
    seed = parser.parse_args(argv).seed
    console = make_console()
    caption = "passes within 3 standard errors (se), or where none is given within float32 rounding"
    table = Table("quantity", title=f"vdm against closed forms, seed {seed}, {jax.devices()[0]}", caption=caption)
    for column in ("exact", "measured ± se", "verdict"):
        table.add_column(column, justify="right", no_wrap=True)
    missed = total = 0
    with progress_of(console, "verifying") as progress:
        for done, topic in enumerate(TOPICS, 1):
            for check in verify(seed, only=[topic]):
                measured = f"{check.measured:.5f} ± {check.stderr:.5f}" if check.stderr else f"{check.measured:.6g}"
                verdict = Text("ok", "green") if check.passed else Text("MISS", "bold red")
                table.add_row(check.quantity, f"{check.exact:.6g}", measured, verdict)
                missed, total = missed + (not check.passed), total + 1
            progress(done, len(TOPICS))
        table.add_section()
    console.print(table, soft_wrap=False)
    console.print(f"{total - missed} of {total} hold")
    return 1 if missed else 0
