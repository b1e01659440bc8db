"""Methods under test: this package's networks, stock ones, and others beside them."""
