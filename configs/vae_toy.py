"""A VAE for the five clusters in the plane, with two latents: a minute on two cores."""

from vdm.config import DataConfig, EvaluationConfig, OptimizerConfig, TrainingConfig
from vdm.predecessors.config import LatentObjectiveConfig, LatentSamplingConfig, ModelConfig, PredecessorConfig


def get_config() -> PredecessorConfig:
    return PredecessorConfig(
        data=DataConfig(name="clusters", shape=(2,), levels=0),
        model=ModelConfig(name="vae(latents=2)", width=64, depth=2),
        # Without warm-up the latents are never used.
        objective=LatentObjectiveConfig(warmup_steps=1000),
        optimizer=OptimizerConfig(learning_rate=2e-3, decay="cosine", ema_decay=0.999),
        training=TrainingConfig(
            steps=3000, batch_size=256, log_every=250, evaluate_every=1000, checkpoint_every=500, sample_every=1500
        ),
        evaluation=EvaluationConfig(batch_size=1000, draws=20, training_draws=4),
        sampling=LatentSamplingConfig(num=1000, batch_size=1000, decode="draw"),
    )
