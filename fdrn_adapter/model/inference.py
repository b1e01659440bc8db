"""How a network was trained to be used; travels with its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LEAST_CROP = 32  # pixels; the hosts' deepest maps are of stride 32


@dataclass(frozen=True)
class Inference:
    """What sessions, predictors, benchmark and export take where the user says nothing else.

    Attributes:
        crop: side in pixels of the fixed crop.
        threshold: of the probability, from which a pixel is of the object.
        expansion: of the object's box by the zoom-in.
        first_twice: look at the first click twice: on the whole image, and zoomed in on what was
            found there.
        honour_clicks: pixels under a click's own disk are always as clicked.

    Raises:
        ValueError: a value that no network could be used with.
    """

    crop: int
    threshold: float = 0.49
    expansion: float = 1.4
    first_twice: bool = False
    honour_clicks: bool = False

    def __post_init__(self) -> None:
        if self.crop is None:
            raise ValueError("crop is a side in pixels, and has to be given.")
        check_crop(self.crop)
        for name, low, high in (("threshold", 0.0, 1.0), ("expansion", 1.0, 10.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (
                low < value < high or value == low == 1.0
            ):
                raise ValueError(f"{name} lies between {low:g} and {high:g}, got {value!r}.")
        for name in ("first_twice", "honour_clicks"):
            check_flag(name, getattr(self, name))

    @classmethod
    def of(cls, given: Inference | Mapping[str, Any] | None) -> Inference | None:
        """One out of what a checkpoint or a YAML file holds.

        Raises:
            ValueError: unknown or missing names.
        """
        if given is None or isinstance(given, cls):
            return given
        names = {field.name for field in fields(cls)}
        if not isinstance(given, Mapping) or not set(given) <= names or "crop" not in given:
            raise ValueError(
                f"inference takes crop and any of {', '.join(sorted(names - {'crop'}))}; got "
                f"{given!r}."
            )
        return cls(**given)


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False: a text, also "no", would be taken for True.

    Raises:
        ValueError: names it.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is True or False, got {value!r}.")


def check_crop(crop: Any) -> None:
    """Refuse what is no side of a crop.

    Raises:
        ValueError: neither None nor an int of at least LEAST_CROP.
    """
    if crop is not None and (
        isinstance(crop, bool) or not isinstance(crop, int) or crop < LEAST_CROP
    ):
        raise ValueError(
            f"crop is a side in pixels, an int of at least {LEAST_CROP}; got {crop!r}."
        )
