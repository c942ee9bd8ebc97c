"""Points of the plane with known density: five clusters, or --config.data.name=spiral; a minute or two on a CPU."""

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
        data=DataConfig(name="clusters", shape=(2,), levels=0),
        schedule=ScheduleConfig(name="learned_monotone", gamma_min=-12.0, gamma_max=5.0),
        network=NetworkConfig(name="mlp", channels=64, depth=3, dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=2e-3, schedule_learning_rate=5e-3, decay="cosine", ema_decay=0.999),
        training=TrainingConfig(
            steps=5000,
            batch_size=256,
            log_every=500,
            evaluate_every=2500,
            checkpoint_every=2500,
            sample_every=2500,
            steps_per_call=100,
        ),
        evaluation=EvaluationConfig(batch_size=2000, draws=100, training_draws=20, metrics=("mmd",), samples=2000),
        sampling=SamplingConfig(num=1000, steps=250, batch_size=1000),
    )
