"""Packages that not every installation has, and what to do about it."""


def require_matplotlib() -> None:
    """Raise a ValueError with the remedy where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "The pictures need matplotlib, which is not installed: pip install "
            "'fdrn_adapter[plots]', or pass --no-plots."
        ) from error
