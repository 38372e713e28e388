"""Training: cohorts, runs, evaluation and baselines."""
