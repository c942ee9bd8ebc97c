"""Draw images from a trained model with any sampler, into WORKDIR/samples: as npz files, and as pictures.

vdm sample --workdir=runs/digits --num=64 --steps=250 --seed=1 --trajectory=10
vdm sample --workdir=runs/digits --num=50000 --sampler='dpm_solver_pp(2)' --steps=25 --grid=uniform
vdm sample --workdir=runs/digits_conditional --labels=3,7 --num=16
vdm sample --workdir=runs/digits_conditional --guidance='classifier_free(1.5, interval=(-4, 3))'
vdm sample --workdir=runs/digits_conditional --sweep_guidance=0,0.5,1,2,4 --num=10
vdm sample --workdir=runs/digits --sampler=ddim --interpolate=9
vdm sample --workdir=runs/digits --sampler=ddim --reconstruct=16
"""

from absl import flags

from vdm import parts
from vdm.programs import command_line as cli


def define() -> None:
    """The flags."""
    described = parts.describe("sampler")
    listed = "".join(f"\n{name}: {line}" for name, line in described.items())
    listed_guidances = "".join(f"\n{name}: {line}" for name, line in parts.describe("guidance").items())
    cli.define_processes()
    flags.DEFINE_string(
        "checkpoint", "latest", "latest, best (by test bits/dim while training) or a step (default: latest)."
    )
    flags.DEFINE_integer(
        "num", None, "Number of images; those there are not drawn again (default: config.sampling.num)."
    )
    flags.DEFINE_integer("steps", None, "Steps of the sampler (default: config.sampling.steps, at most the model's).")
    flags.DEFINE_integer("seed", 0, "Seed; image k of a seed is always the same (default: 0).")
    flags.DEFINE_string(
        "sampler",
        None,
        f"{', '.join(described)}; also with options: ddim(0.5) (default: config.sampling.sampler).{listed}",
    )
    flags.DEFINE_float("eta", None, "How much of its noise ddim replaces, from 0 to 1: --sampler=ddim --eta=0.5.")
    flags.DEFINE_string("grid", None, "Noise levels of the steps, as karras(rho=7) (default: config.sampling.grid).")
    flags.DEFINE_string(
        "labels",
        None,
        "Labels of the images, in turn: all, or some as 3,7,cat; or random; or test, those of test images (default: "
        "config.sampling.labels).",
    )
    flags.DEFINE_string(
        "guidance",
        None,
        f"Guidance to the labels, as classifier_free(1.5) (default: config.sampling.guidance).{listed_guidances}",
    )
    flags.DEFINE_list("sweep_guidance", None, "Instead, a picture with a row for each of these scales, as 0,0.5,1,2,4.")
    flags.DEFINE_string("clip", None, "What x̂ is kept in, as dynamic(99) (default: config.sampling.clip).")
    flags.DEFINE_string("decode", None, "Which image of z₀, under p(x|z₀), is taken (default: config.sampling.decode).")
    flags.DEFINE_string("precision", None, "What the network computes in (default: config.sampling.precision).")
    flags.DEFINE_integer("trajectory", 0, "Frames of the guess at x to keep, as a strip and an animation (default: 0).")
    flags.DEFINE_integer(
        "interpolate",
        None,
        "Instead, go from one latent to another in so many images: rows of pairs, and an animation.",
    )
    flags.DEFINE_integer(
        "reconstruct",
        None,
        "Instead, invert so many test images by DDIM, and back; prints the error.",
    )

    cli.define_out("samples/")


def program() -> None:
    """What the command does."""
    config, workdir, given = cli.config(), cli.workdir(), flags.FLAGS
    console = cli.start()
    from vdm.errors import InputError
    from vdm.evaluation.images import with_steps_of
    from vdm.programs.sample import Sample, scales_of, with_eta

    for name in ("num", "sampler", "grid", "labels", "guidance", "clip", "decode", "precision"):
        if given[name].value is not None:
            setattr(config.sampling, name, given[name].value)
    if given.eta is not None:
        config.sampling.sampler = with_eta(config.sampling.sampler, given.eta)
    if given.steps is None:
        config.sampling = with_steps_of(config.sampling, config.objective.num_steps)
    else:
        config.sampling.steps = given.steps
    instead = [name for name in ("sweep_guidance", "interpolate", "reconstruct") if given[name].value is not None]
    if len(instead) + (given.trajectory != 0) > 1:
        raise InputError("--trajectory, --sweep_guidance, --interpolate, --reconstruct: one at a time")
    scales = None if given.sweep_guidance is None else scales_of(given.sweep_guidance)
    sample = Sample(config, workdir, given.checkpoint, given.seed, console, cli.out())
    if scales is not None:
        sample.sweep(scales)
    elif given.interpolate is not None:
        sample.interpolation(given.interpolate)
    elif given.reconstruct is not None:
        sample.reconstruction(given.reconstruct)
    else:
        sample.images(given.trajectory)


def main() -> int:
    """Reads the command line, runs the program, returns its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define)
