"""Experiment files for the stock trainers; `fdrn run` finds them by name."""
