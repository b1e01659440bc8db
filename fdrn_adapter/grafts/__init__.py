"""What is grafted onto a host: where recycled features and decoupled clicks enter it."""
