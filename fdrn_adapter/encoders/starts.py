"""What weights an image encoder starts from."""

from torch import Tensor, nn

from fdrn_adapter.encoders import sam_space
from fdrn_adapter.encoders.aligned_views import AlignedViews
from fdrn_adapter.encoders.backbone import Backbone
from fdrn_adapter.encoders.pretrained import fitted


class Starts:
    """The part of `ImageEncoder` that loads weights."""

    name: str
    backbone: Backbone
    views: AlignedViews | None

    def start(self) -> str | None:
        """Load what comes with the backbone and start the views of an embedding, in place.

        Returns:
            what the weights are; None where none come with it.
        """
        if self.views is not None:
            self.views.start(sam_space.components()["deviations"])
        return self.backbone.start()

    def train_like(self, reference: nn.Module) -> None:
        """Give the backbone's parameters the learning-rate factor of the host's backbone."""
        factor = getattr(next(reference.parameters()), "lr_mult", None)
        if factor is not None:
            for parameter in self.backbone.parameters():
                parameter.lr_mult = factor

    def load_from_host(self, host_backbone: nn.Module) -> bool:
        """Start from the host's own weights where every tensor has its counterpart.

        Returns:
            whether that was so; otherwise nothing is changed.
        """
        theirs, ours = host_backbone.state_dict(), self.backbone.state_dict()
        fits = self.backbone.same_depth(host_backbone) and all(
            k in theirs and theirs[k].shape == v.shape for k, v in ours.items()
        )
        if fits:
            self.backbone.load_state_dict({k: theirs[k] for k in ours})
        return fits

    def load_from_file(self, state_dict: dict[str, Tensor], source: str) -> None:
        """Start the backbone from a file of weights, strictly.

        Args:
            state_dict: weights of the stock backbone or of an ImageNet checkpoint of it; a
                "model.", "module.", "backbone." or "feature_extractor." prefix is dropped and
                parts that F1 does not have (stage 4, heads) are ignored.
            source: its name, for messages.

        Raises:
            ValueError: weights are missing or have another shape.
        """
        self.backbone.load_state_dict(
            fitted(state_dict, self.backbone.state_dict(), source, self.name)
        )
