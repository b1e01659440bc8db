"""A network by what a user calls it: a name of the zoo, or a checkpoint's file or folder."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fdrn_adapter import codebase, zoo
from fdrn_adapter.hosts.catalogue import encoder_of
from fdrn_adapter.model import checkpoint, pretrained_folder
from fdrn_adapter.zoo import entries

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedNetwork:
    """A network that was opened by name.

    Attributes:
        model: in eval mode, on the CPU.
        trained: False for random weights; a checkpoint counts as trained.
        crop_size: rows and columns of its crops as the zoo has them, None for a checkpoint.
    """

    model: nn.Module
    trained: bool
    crop_size: tuple[int, int] | None

    @property
    def crop(self) -> int | None:
        """The side of the crops in pixels, None for the model's own."""
        return None if self.crop_size is None else self.crop_size[0]

    def require_encoder(self) -> None:
        """See that images can be encoded.

        Raises:
            RuntimeError: the image encoder is in a file that is not at hand.
        """
        encoder: Any = encoder_of(self.model)  # an ImageEncoder, which hosts know nothing of
        if encoder is not None:
            encoder.backbone.require_file()


def open_network(source: str, root: str | None = None, seed: int = 0) -> NamedNetwork:
    """A variant of the zoo, with trained weights if it has them, or a checkpoint.

    Args:
        source: zoo name, or path of a checkpoint of an FDRN or stock network: a file, or a folder
            of `save_pretrained`.
        root: folder of a checkout to build it from; None for what is installed.
        seed: of random weights.

    Raises:
        ValueError: there is no such thing, or it cannot be built; the message says what there is.
    """
    entries.check_source(source)
    if source not in zoo.names():
        # Classes of ritm_annotation need their patches; those of isegm a checkout on the path.
        if root:
            codebase.activate(root)
        codebase.activate_installed()
        a_folder = Path(source).is_dir()
        read = pretrained_folder.from_pretrained if a_folder else checkpoint.load
        return NamedNetwork(read(source), True, None)
    entry = zoo.info(source)
    if entry.weights is None:
        model = zoo.build(source, root, seed=seed)
    else:
        zoo.find_package(entry, root)
        model = zoo.load(source)
    return NamedNetwork(model, entry.weights is not None, entry.crop_size)


def announced(source: str, root: str | None = None, seed: int = 0) -> NamedNetwork:
    """`open_network` for work on images, with a warning where the weights are random.

    Raises:
        ValueError: see `open_network`.
        RuntimeError: the image encoder is in a file that is not at hand.
    """
    named = open_network(source, root, seed)
    named.require_encoder()
    if not named.trained:
        logger.warning("%s has no trained weights: they are random", source)
    return named
