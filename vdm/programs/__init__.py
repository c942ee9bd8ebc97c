"""What evaluate.py and sample.py do with a run's folder."""
