"""Notebooks as experiments: parameters, runs, sweeps and their records."""
