"""What time and arithmetic a network costs, measured and counted."""

REPEATS = 9  # rounds by default: a median of fewer says little
