"""What benchmarks/accelerator.py measures: a file an idea."""
