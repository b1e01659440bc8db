"""Evaluation modes: what a network is shown of the image."""

DEFAULT_MODE, CVPR, FIXED = "default", "cvpr", "fixed"
CVPR_SIDE = {"DAVIS": 600}  # longest side of the crop by data set in the stock script, else 400


def crop_of_mode(eval_mode: str) -> int | None:
    """The side of the fixed crop that an evaluation mode asks for, None for "cvpr", "default".

    Raises:
        ValueError: no such mode.
    """
    if eval_mode in (DEFAULT_MODE, CVPR):
        return None
    number = eval_mode.removeprefix(FIXED)
    if eval_mode.startswith(FIXED) and number.isdigit() and int(number) >= 32:
        return int(number)
    raise ValueError(
        f"Unknown evaluation mode {eval_mode!r}; allowed: default, cvpr, and fixedN with N pixels, "
        "at least 32 (fixed288)."
    )
