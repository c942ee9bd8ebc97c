"""Draw images from a trained model with any sampler into WORKDIR/samples, as npz files and a picture.

vdm sample --workdir=runs/digits --num=64 --steps=250 --seed=1 --trajectory=10
vdm sample --workdir=runs/digits --num=50000 --sampler='dpm_solver_pp(2)' --steps=25 --grid=uniform
vdm sample --workdir=runs/digits_conditional --labels=3,7 --num=16
vdm sample --workdir=runs/digits_conditional --guidance='classifier_free(1.5, interval=(-4, 3))'
vdm sample --workdir=runs/digits_conditional --sweep_guidance=0,0.5,1,2,4 --num=10
vdm sample --workdir=runs/digits_captions --text="a bold seven leaning right" --num=16
vdm sample --workdir=runs/digits_captions --text="a seven" --guidance="classifier_free(2, negative='a bold seven')"
vdm sample --workdir=runs/digits --sampler=ddim --interpolate=9
vdm sample --workdir=runs/digits --sampler=ddim --reconstruct=16
vdm sample --workdir=runs/vae_digits --num=64 --decode=mean
"""

from absl import flags

from vdm import parts
from vdm.programs import command_line as cli
from vdm.runs.records import RUNS


def define() -> None:
    """Define the flags."""
    described = parts.describe("sampler")
    listed = "".join(f"\n{name}: {line}" for name, line in described.items())
    listed_guidances = "".join(f"\n{name}: {line}" for name, line in parts.describe("guidance").items())
    cli.define_processes()
    flags.DEFINE_string(
        "checkpoint", "latest", "latest, best (by test bits/dim while training) or a step (default: latest)."
    )
    flags.DEFINE_integer("num", None, "Number of images; existing ones are kept (default: config.sampling.num).")
    flags.DEFINE_integer("steps", None, "Steps of the sampler (default: config.sampling.steps, at most the model's).")
    flags.DEFINE_integer("seed", 0, "Seed; image k of a seed is always the same (default: 0).")
    flags.DEFINE_string(
        "sampler",
        None,
        f"{', '.join(described)}; also with options: ddim(0.5) (default: config.sampling.sampler).{listed}",
    )
    flags.DEFINE_float("eta", None, "η of ddim, the share of fresh noise, from 0 to 1: --sampler=ddim --eta=0.5.")
    flags.DEFINE_string("grid", None, "Noise levels of the steps, e.g. karras(rho=7) (default: config.sampling.grid).")
    flags.DEFINE_string(
        "labels",
        None,
        "Labels of the images, used in turn: all, some (3,7,cat), random, or test for those of test images (default: "
        "config.sampling.labels).",
    )
    flags.DEFINE_multi_string(
        "text", None, "Caption; repeat it to use several in turn (default: config.sampling.text)."
    )
    flags.DEFINE_string("texts", None, "A file of captions, one per line, used in turn.")
    flags.DEFINE_string(
        "guidance",
        None,
        f"Guidance, e.g. classifier_free(1.5) (default: config.sampling.guidance).{listed_guidances}",
    )
    flags.DEFINE_list("sweep_guidance", None, "Draw one picture with a row for each scale instead, e.g. 0,0.5,1,2,4.")
    flags.DEFINE_string("clip", None, "How x̂ is clipped, e.g. dynamic(99) (default: config.sampling.clip).")
    flags.DEFINE_string("decode", None, "mode, mean or draw of p(x|z₀) (default: config.sampling.decode).")
    flags.DEFINE_string("precision", None, "Precision of the network (default: config.sampling.precision).")
    flags.DEFINE_integer("trajectory", 0, "Number of predictions x̂ to show, as a strip and an animation (default: 0).")
    flags.DEFINE_integer(
        "interpolate",
        None,
        "Interpolate between pairs of latents in N images instead: rows and an animation.",
    )
    flags.DEFINE_integer(
        "reconstruct",
        None,
        "Encode and decode N test images instead, and print the error.",
    )

    cli.define_out("samples/")


def program() -> None:
    """Run the command, once its flags are parsed."""
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.programs import kinds

    kind = kinds.of(config)
    kind.sample(config, workdir, console, cli.given(define, kind.samples_by), cli.out())


def main() -> int:
    """Parse the command line, run the command and return its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define, kinds=RUNS)
