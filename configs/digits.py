"""scikit-learn's 8×8 handwritten digits with 17 gray levels: the built-in default, minutes on a CPU."""

from vdm.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
)


def get_config() -> Config:
    return Config(
        data=DataConfig(name="digits", shape=(8, 8, 1), levels=17),
        schedule=ScheduleConfig(name="learned_monotone", gamma_min=-7.5, gamma_max=5.0),
        network=NetworkConfig(channels=32, depth=4, dropout=0.1),
        optimizer=OptimizerConfig(learning_rate=2e-3, schedule_learning_rate=2e-2, decay="cosine", ema_decay=0.999),
        training=TrainingConfig(
            steps=2500, batch_size=64, log_every=125, evaluate_every=500, checkpoint_every=250, sample_every=1250
        ),
        evaluation=EvaluationConfig(batch_size=300, draws=20, training_draws=4),
        sampling=SamplingConfig(num=64, steps=250),
    )
