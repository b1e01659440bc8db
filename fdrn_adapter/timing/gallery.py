"""Masks of trained networks on five photographs, with the clicks drawn."""

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


def photographs() -> dict[str, tuple[np.ndarray, list[SessionClick]]]:
    """name -> ((H, W, 3) uint8 RGB, clicks).

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
    for name, clicks in _CLICKS.items():
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
