"""What every backbone of the image encoder is, and what a family of them says of itself."""

from dataclasses import dataclass

from torch import Tensor, nn

from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import HIGH, LOW, MID
from fdrn_adapter.hosts.description import HostInfo

EMBEDDING = "embedding"  # one map, of which views are made after its alignment


@dataclass(frozen=True)
class Tap:
    """A place where features are read.

    Attributes:
        path: module path inside the backbone.
        channels: of the map.
        grid: stride and offset of its cells on the encoder's input.
    """

    path: str
    channels: int
    grid: Grid


class Backbone(nn.Module):
    """A network that F1 reads maps from, cut behind the last of them.

    Attributes:
        offers: names of the maps that `forward` returns, in this order. `ImageEncoder` makes views
            of "low", "mid" and "high" and recycles any other map as it comes.
        taps: where they are read; a map that is not used has none, and comes as None.
        project_low: whether f_low and f_mid go on through 3x3 convolutions of their own.
        mean, std: normalisation of the RGB image in [0, 1]; None for the host's.
        side: longest side in pixels that images are brought to, None for any up to the cap.
        key_channels: of the view that the affinity compares, where the map is an embedding.
        runs_itself: whether it is a graph that engines take as it is, by `maps_in(engine, x,
            threads)`.
        sha256: of the file that it is in, where it is in one of its own and not in checkpoints.
    """

    offers: tuple[str, ...] = (LOW, HIGH)
    project_low: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    side: int | None = None
    key_channels: int = 64
    runs_itself: bool = False
    sha256: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.taps: dict[str, Tap] = {}

    def require_file(self) -> None:
        """See that what the backbone runs is at hand; those that are whole in checkpoints have it.

        Raises:
            RuntimeError: a file that the user brings is missing; the message says which.
        """

    @property
    def low(self) -> Tap | None:
        return self.taps.get(LOW)

    @property
    def mid(self) -> Tap | None:
        return self.taps.get(MID)

    @property
    def high(self) -> Tap | None:
        return self.taps.get(HIGH)

    def forward(self, x: Tensor) -> tuple[Tensor | None, ...]:
        """x: (B, 3, H, W), normalised. Returns a map for each of `offers`."""
        raise NotImplementedError

    def start(self) -> str | None:
        """Load the weights that come with this backbone, in place.

        Returns:
            what they are; None where none come with it.
        """
        return None

    def same_depth(self, host_backbone: nn.Module) -> bool:
        """Whether a host's backbone, whose weights have our names and shapes, is as deep as this.

        The first blocks of a deeper network have the names and shapes of a shallower one's.
        """
        return False

    def load_pretrained(self, name: str) -> None:
        """Start from weights that the backbone's own library has.

        Args:
            name: what the user calls this encoder, for messages.

        Raises:
            ValueError: it has none, or they cannot be had.
        """
        raise ValueError(
            f"encoder_weights='pretrained' is for timm encoders; {name!r} takes a file of ImageNet "
            "weights of the stock code base."
        )


class EncoderFamily:
    """A family of image encoders: a subclass in a file of its own, and one object in the table.

    Attributes:
        name: of the row.
        names: values of `encoder=` that are its.
        prefix: or what these begin with, with a name of somebody else's behind it.
        help: what that name is, for messages.
        embeds: whether its backbones give an embedding, of which views are made after alignment.
        frozen: whether its backbones cannot be trained.
        stages: what b_low and b_high index, for messages ("stage 1 of "); empty where both index
            the same stage.
        mid_stage: what b_mid indexes, likewise.
    """

    name: str = ""
    names: tuple[str, ...] = ()
    prefix: str = ""
    help: str = ""
    embeds: bool = False
    frozen: bool = False
    stages: tuple[str, str] = ("", "")
    mid_stage: str = ""

    def accepts(self, encoder: str) -> bool:
        """Whether an encoder of that name is of this family."""
        return encoder in self.names or bool(self.prefix) and encoder.startswith(self.prefix)

    def public_name(self, encoder: str) -> str:
        """What checkpoints call an encoder."""
        return encoder

    def full_name(self, encoder: str) -> str:
        """What a user's name of an encoder stands for."""
        return encoder

    def may_stand_in_files(self, encoder: str) -> bool:
        """Whether a checkpoint of a stranger may name this encoder: only installed code is built.

        Not so, until a family says so, for the names behind a prefix, which may lead anywhere.
        """
        return encoder in self.names

    def blocks(self, encoder: str) -> tuple[int, int]:
        """How many blocks b_low and b_high can index."""
        return 1, 1

    def mid_blocks(self, encoder: str) -> int:
        """How many blocks b_mid can index; 0 where there is no map at stride 8 to recycle."""
        return 0

    def counts_like(self, info: HostInfo) -> bool:
        """Whether equal indices of an encoder's and a host's blocks mean equal depths."""
        return False

    def build(
        self, encoder: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None
    ) -> Backbone:
        """A backbone, cut behind its taps.

        Args:
            encoder: a name that the family accepts.
            host: the stock network, whose code base may provide the class.
            info: description of the host.
            b_low, b_high: blocks to read, None for a map that is not used.

        Families that have `mid_blocks` also take `b_mid`, which is passed where f_mid is used.

        Raises:
            ValueError: there is no such network here.
        """
        raise NotImplementedError
