"""What time and arithmetic a network costs, measured and counted."""
