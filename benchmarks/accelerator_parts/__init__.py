"""The parts of benchmarks/accelerator.py, with a module for each subject."""
