"""28×28 gray 8-bit images: the TFDS data set or, with --config.data.name=npz:PATH, any npz file of this size."""

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
        data=DataConfig(name="fashion_mnist", shape=(28, 28, 1), levels=256),
        network=NetworkConfig(channels=32, depth=4, dropout=0.0),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule_learning_rate=2e-2, decay="cosine", ema_decay=0.999, weight_decay=0.01
        ),
        training=TrainingConfig(
            steps=4000, batch_size=32, log_every=50, evaluate_every=500, checkpoint_every=250, sample_every=1000
        ),
        evaluation=EvaluationConfig(batch_size=128, draws=1, max_images=512),
        sampling=SamplingConfig(num=64, steps=100),
    )
