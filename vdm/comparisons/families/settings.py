"""Settings of compare.py --by=family."""

from dataclasses import dataclass

from vdm.settings import at_least, between, each, one_of, part, parts_of, setting, some_of

INFERENCES = ("bottom_up", "top_down")


@dataclass
class FamiliesSettings:
    """Settings for comparing a VAE, hierarchical VAEs and diffusion models with the same data, seeds and budget."""

    depths: tuple[int, ...] = setting(
        (2, 4), "Layers T of the hierarchical VAEs, and steps T of the diffusion models.", each(2, 100)
    )
    inferences: tuple[str, ...] = setting(
        INFERENCES, "Kinds of inference for the hierarchical VAEs.", some_of(*INFERENCES)
    )
    latents: int = setting(8, "Number of latents in each layer.", at_least(1))
    width: int = setting(128, "Width of the predecessors' networks.", at_least(1))
    depth: int = setting(2, "Residual blocks of the predecessors' encoders and decoders.", at_least(1))
    coder: str = setting("mlp", "Type of the predecessors' networks.", one_of("mlp", "conv"))
    learning_rate: float = setting(1e-3, "Peak learning rate of the predecessors.", between(1e-9, 1e3))
    warmup_steps: int = setting(
        0, "Steps over which the weight of the predecessors' rates grows from 0 to 1.", at_least(0)
    )
    free_bits: float = setting(
        0.0, "Free bits: nats of each layer that cost nothing during training.", between(0, 1000)
    )
    seeds: int = setting(3, "Number of runs of each, with the seeds seed, seed + 1, ….", at_least(1))
    importance: int = setting(100, "Number of draws for the importance-weighted bound.", at_least(1))
    metrics: tuple[str, ...] = setting(("mmd",), "Metrics of sample quality.", parts_of("metric"))
    classifier: str | None = setting(
        None, "Folder of the classifier for metrics that need one; None: the data's own, trained if necessary."
    )
    decode: str = setting(
        "draw", "How predecessors' samples come from the decoder's p(x|z); see sampling.decode.", part("decoding")
    )
    samples: int = setting(
        1000, "Number of samples from each, with z_T from the prior and from the aggregate posterior.", at_least(3)
    )
    points: int = setting(1000, "Number of training examples in the aggregate posterior.", at_least(2))
