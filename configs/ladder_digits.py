"""A ladder network for the 8×8 digits, with labels for a tenth of the training images: a minute or two on two cores."""

from vdm.config import DataConfig, EvaluationConfig, OptimizerConfig, TrainingConfig
from vdm.predecessors.config import ModelConfig, PredecessorConfig


def get_config() -> PredecessorConfig:
    return PredecessorConfig(
        data=DataConfig(name="digits", shape=(8, 8, 1), levels=17, classes=10),
        model=ModelConfig(name="ladder(layers=(256, 64, 16), noise=0.3, labelled=0.1)"),
        optimizer=OptimizerConfig(learning_rate=2e-3, decay="cosine", ema_decay=0.99),
        training=TrainingConfig(
            steps=5000, batch_size=128, log_every=250, evaluate_every=1000, checkpoint_every=500, sample_every=2500
        ),
        evaluation=EvaluationConfig(batch_size=300, draws=10, training_draws=2),
    )
