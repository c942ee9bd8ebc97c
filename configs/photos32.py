"""32×32×3 crops of the photographs in scikit-learn and scikit-image: built-in 8-bit color data.

The network is small enough for a CPU; its bits/dim fall below those of PNG within a few hundred steps.
"""

from vdm.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    OptimizerConfig,
    SamplingConfig,
    TrainingConfig,
)


def get_config() -> Config:
    return Config(
        data=DataConfig(name="photos32", shape=(32, 32, 3), levels=256, augmentations=("flip",)),
        network=NetworkConfig(channels=32, depth=4, dropout=0.0),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule_learning_rate=2e-2, decay="cosine", ema_decay=0.999, weight_decay=0.01
        ),
        training=TrainingConfig(
            steps=2000, batch_size=32, log_every=50, evaluate_every=500, checkpoint_every=250, sample_every=1000
        ),
        evaluation=EvaluationConfig(batch_size=64, draws=4, max_images=256),
        sampling=SamplingConfig(num=36, steps=100, batch_size=36),
    )
