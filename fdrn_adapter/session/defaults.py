"""What a session or predictor uses where its caller says nothing: what the network was trained for.
"""

import warnings
from typing import Any

from fdrn_adapter.model.inference import Inference, check_crop, check_flag

_OTHERWISE = {"threshold": 0.5, "expansion": 1.4, "first_twice": False, "honour_clicks": False}


def defaults(trained: Inference | None, otherwise: int | None, **given: Any) -> dict[str, Any]:
    """The given options, completed.

    Warns where a crop is given that the network was not trained for.

    Args:
        trained: how the network was trained to be used, None where nobody has said.
        otherwise: the crop of a network that does not say.
        **given: fields of `Inference`; None for what is to be completed.

    Raises:
        ValueError: a crop, a threshold or a flag that cannot be one.
    """
    found = {"crop": otherwise, **_OTHERWISE}
    if trained is not None:
        found |= vars(trained)
        crop = given.get("crop")
        if crop is not None and crop != trained.crop:
            warnings.warn(
                f"The network was trained for crops of {trained.crop} pixels and is used at "
                f"{crop}: masks can be much worse. Leave out crop, or pass crop={trained.crop}.",
                stacklevel=3,
            )
    found |= {name: value for name, value in given.items() if value is not None}
    check_crop(found["crop"])
    for name in ("first_twice", "honour_clicks"):
        check_flag(name, found[name])
    threshold = found["threshold"]
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) \
            or not 0 < threshold < 1:
        raise ValueError(f"threshold should be between 0 and 1, got {threshold!r}.")
    return found
