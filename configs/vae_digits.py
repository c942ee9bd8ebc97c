"""A VAE for the 8×8 digits with 16 latents: a minute or two on two cores."""

from vdm.config import DataConfig, EvaluationConfig, OptimizerConfig, TrainingConfig
from vdm.predecessors.config import LatentSamplingConfig, ModelConfig, PredecessorConfig


def get_config() -> PredecessorConfig:
    return PredecessorConfig(
        data=DataConfig(name="digits", shape=(8, 8, 1), levels=17),
        model=ModelConfig(name="vae(latents=16)", width=128, depth=2, dropout=0.1),
        optimizer=OptimizerConfig(learning_rate=1e-3, decay="cosine", ema_decay=0.999),
        training=TrainingConfig(
            steps=5000, batch_size=64, log_every=250, evaluate_every=1000, checkpoint_every=500, sample_every=2500
        ),
        evaluation=EvaluationConfig(batch_size=300, draws=20, training_draws=4),
        sampling=LatentSamplingConfig(num=64),
    )
