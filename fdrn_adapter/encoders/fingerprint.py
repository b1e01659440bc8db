"""Which weights features were made with."""

import hashlib
import weakref
from typing import Any

from torch import Tensor, nn

from fdrn_adapter.weights import Weights, settings_of


class Fingerprint:
    """Hash of an encoder's weights, computed anew only after they changed.

    Asked for at every click, so the check itself has to be cheap.

    Args:
        encoder: with tensors `mean` and `std`.
        built_with: `numbers_of` it when it was made. What was changed of these since is hashed too;
            where nothing was, the hash is that of the weights alone, as in files of features.
    """

    def __init__(self, encoder: nn.Module, built_with: list):
        self._encoder, self._built_with = weakref.ref(encoder), built_with
        self._weights = Weights(encoder.modules())
        self._known: tuple[Any, str] = (None, "")

    def look(self) -> None:
        """See `Weights.look`; modules that were put in place of others are seen as well."""
        if not self._weights.modules_stayed():
            self._weights = Weights(self._encoder().modules())
            self._known = (None, "")
        self._weights.look()

    def state(self) -> str:
        """The hash."""
        before, value = self._known
        now = self._weights.state()
        if before != now:
            value = self._hash()
            self._known = (now, value)
        return value

    def _hash(self) -> str:
        encoder, digest = self._encoder(), hashlib.sha1()
        for t in encoder.state_dict().values():
            if t.is_floating_point():
                digest.update(t.detach().float().cpu().contiguous().numpy().tobytes())
        if (numbers := numbers_of(encoder)) != self._built_with:
            digest.update(repr(numbers).encode())
        return digest.hexdigest()[:16]


def numbers_of(encoder: nn.Module) -> list:
    """What features depend on and no state dict holds: normalisation, a batch norm's eps ..."""
    return [_listed(encoder.mean), _listed(encoder.std), *(
        [type(module).__name__, *(
            (name, value) for name, value in settings_of(vars(module))
            if isinstance(value, float | str | tuple) and name not in ("momentum", "p")
        )]
        for module in encoder.modules()
    )]


def _listed(values: Tensor) -> list[float]:
    return values.flatten().tolist()
