"""Classes that a checkpoint names.

The stock loader imports the dotted names in a checkpoint's config and calls what it finds, a
network or `os._exit`. With the patch it builds networks of the code base and their norm layers
only, as `fdrn_adapter.load` does; `--trust-checkpoints` lifts that, as it does for pickled objects.
"""

from types import ModuleType
from typing import Any

from fdrn_adapter.patches import options
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import require

# Rebuilt by FDRNModel itself, which looks at its host's config the same way.
_FDRN_CLASS = "fdrn_adapter.model.FDRNModel"


class CheckpointClasses(Patch):
    name = "checkpoint_classes"
    targets = ("isegm.utils.serialization",)
    code_bases = EVERYWHERE
    reason = "the stock loader imports and calls whatever a checkpoint names"
    since = "always"

    def apply(self, module: ModuleType) -> str | None:
        require(module, "get_class_from_str")
        stock = module.get_class_from_str
        package = module.__name__.partition(".")[0]

        def get_class_from_str(class_str: str) -> Any:
            """As the stock function, for networks and norm layers only.

            Raises:
                CheckpointError: anything else; it is not imported.
            """
            # Not at the top: `fdrn doctor` lists the patches without torch.
            from fdrn_adapter import trusted

            if options.current.trust_checkpoints or class_str == _FDRN_CLASS:
                return stock(class_str)
            try:
                known = trusted.packages_of([package, *trusted.granted()])
                return trusted.parameter_class(class_str, known)
            except trusted.CheckpointError as error:
                raise trusted.CheckpointError(
                    f"{error} If you trust where the file comes from, pass --trust-checkpoints to "
                    "fdrn run."
                ) from error

        module.get_class_from_str = get_class_from_str
        return None


PATCHES = (CheckpointClasses(),)
