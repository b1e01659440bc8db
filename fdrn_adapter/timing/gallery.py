"""Masks of trained networks on photographs of scikit-image, with the clicks drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from fdrn_adapter import zoo
from fdrn_adapter.session.interactive import InteractiveSession, SessionClick
from fdrn_adapter.timing import drawing

# scikit-image's function -> clicks on its photograph: x, y in pixels, on the object or off it.
# Set by hand on the photographs, before there were masks to look at.
_CLICKS = {
    "astronaut": (
        (210, 100, True), (150, 330, True), (400, 150, False), (200, 230, True), (70, 100, False),
        (380, 420, False),
    ),
    "chelsea": (
        (220, 180, True), (120, 120, True), (400, 250, False), (280, 60, True), (420, 60, False),
    ),
    "coffee": (
        (290, 180, True), (300, 330, True), (50, 80, False), (420, 230, True), (130, 200, True),
        (550, 350, False),
    ),
    "rocket": ((325, 250, True), (325, 160, True), (200, 200, False), (450, 250, False)),
    "stereo_motorcycle": (
        (330, 270, True), (220, 340, True), (600, 380, True), (150, 150, False), (430, 320, True),
        (500, 470, False), (620, 120, False),
    ),
}


# As a user would: each click after a look at the mask of `distilled-hrnet18s` before it.
_ANSWERS = {
    "astronaut": (
        (210, 100, True), (380, 420, False), (150, 330, True), (270, 330, True), (300, 430, True),
    ),
    "chelsea": (
        (220, 180, True), (130, 270, True), (240, 285, True), (330, 270, True), (40, 255, True),
    ),
    "coffee": (
        (270, 130, True), (300, 350, False), (430, 200, False), (130, 200, False),
        (340, 290, False),
    ),
}


def photographs(
    chosen: dict[str, tuple] = _CLICKS,
) -> dict[str, tuple[np.ndarray, list[SessionClick]]]:
    """name -> ((H, W, 3) uint8 RGB, clicks).

    Args:
        chosen: scikit-image's function -> clicks.

    Raises:
        ValueError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise ValueError(
            "The photographs are scikit-image's, which is not installed: pip install "
            "'fdrn_adapter[plots]'."
        ) from error
    found = {}
    for name, clicks in chosen.items():
        image = getattr(data, name)()
        if isinstance(image, tuple):  # a stereo pair
            image = image[0]
        title = name.removeprefix("stereo_")
        found[title] = (np.asarray(image), [SessionClick(*click) for click in clicks])
    return found


def segment(
    model: nn.Module, image: np.ndarray, clicks: list[SessionClick], crop: int
) -> np.ndarray:
    """The mask (H, W) after all clicks; stock networks get the same fixed crop as FDRNs."""
    session = InteractiveSession(model, crop=crop)
    session.set_image(image)
    for click in clicks:
        session.add_click(click.x, click.y, click.positive)
    return session.mask


def draw(path: Path, masks: dict[str, dict[str, np.ndarray]]) -> None:
    """One row a network, one column a photograph.

    Args:
        path: PNG or JPEG to write.
        masks: network -> photograph -> (H, W) bool.
    """
    from matplotlib.figure import Figure

    photos = photographs()
    ratios = [image.shape[1] / image.shape[0] for image, _ in photos.values()]
    height = 2.0
    figure = Figure(
        figsize=(height * sum(ratios) + 0.3, (height + 0.25) * len(masks)), layout="constrained"
    )
    axes = figure.subplots(len(masks), len(photos), width_ratios=ratios, squeeze=False)
    for row, (model, found) in zip(axes, masks.items(), strict=True):
        for place, (name, (image, clicks)) in zip(row, photos.items(), strict=True):
            drawing.draw_panel(place, image, found[name], clicks, dot=16)
            place.set_title(f"{name}, {len(clicks)} clicks", fontsize=8)
        row[0].set_ylabel(model, fontsize=9)
    figure.savefig(path, dpi=80)


def stages(model: nn.Module, crop: int | None, after: Sequence[int]) -> dict[str, list]:
    """Masks (H, W) bool of three photographs after so many clicks: photograph -> a mask each.

    Raises:
        ValueError: numbers that do not rise, or more clicks than there are.
    """
    most = min(map(len, _ANSWERS.values()))
    if list(after) != sorted(set(after)) or not after or after[0] < 1 or after[-1] > most:
        raise ValueError(
            f"The numbers of clicks should rise, from 1 up to {most}; got "
            f"{','.join(map(str, after))}."
        )
    session, found = InteractiveSession(model, crop=crop), {}
    for name, (image, clicks) in photographs(_ANSWERS).items():
        session.set_image(image)
        masks = [session.add_click(c.x, c.y, c.positive) for c in clicks[: after[-1]]]
        found[name] = [masks[n - 1] for n in after]
    return found


def draw_stages(path: Path, masks: dict[str, list], after: Sequence[int]) -> None:
    """One row a photograph, one column a number of clicks.

    Args:
        path: PNG or JPEG to write.
        masks: of `stages`.
        after: the numbers of clicks.
    """
    from matplotlib.figure import Figure

    photos = photographs(_ANSWERS)
    ratios = [image.shape[0] / image.shape[1] for image, _ in photos.values()]
    width = 3.0
    figure = Figure(figsize=(width * len(after), width * sum(ratios) + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(photos), len(after), height_ratios=ratios, squeeze=False)
    for row, (name, (image, clicks)) in zip(axes, photos.items(), strict=True):
        for place, mask, number in zip(row, masks[name], after, strict=True):
            drawing.draw_panel(place, image, mask, clicks[:number], dot=40)
    for place, number in zip(axes[0], after, strict=True):
        place.set_title(f"{number} click{'s' if number > 1 else ''}", fontsize=11)
    figure.savefig(path, dpi=100)


def masks_of(names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Masks of networks of the zoo: name -> photograph -> (H, W) bool.

    Raises:
        ValueError: a name that the zoo does not have, or has no weights for.
    """
    models = {name: zoo.load(name) for name in names}
    return {
        name: {
            photo: segment(model, image, clicks, zoo.info(name).crop_size[0])
            for photo, (image, clicks) in photographs().items()
        } for name, model in models.items()
    }
