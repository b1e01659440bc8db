"""Different augmentations in different data loader workers.

Since albumentations 1.4.19 a `Compose` has its own random generator instead of the global ones
that torch seeds for each worker. Forked workers inherit one state, so all of them draw the same
flips and crops, in every epoch again. The patch seeds the augmentator from torch's worker seed
the first time that a worker uses it.
"""

import functools
from types import ModuleType

import torch
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import require


class AlbumentationsSeeds(Patch):
    name = "albumentations_seeds"
    targets = ("isegm.data.base",)
    code_bases = EVERYWHERE
    reason = "every data loader worker would draw the same augmentations, epoch after epoch"
    since = "albumentations 1.4.19 gave Compose its own random generator"

    def needed(self) -> tuple[bool, str]:
        import albumentations  # takes seconds

        version = f"albumentations {albumentations.__version__}"
        if hasattr(albumentations.Compose, "set_random_seed"):
            return True, f"Compose of {version} has its own random generator"
        return False, f"Compose of {version} uses the global generators, which torch seeds"

    def apply(self, module: ModuleType) -> str | None:
        dataset_class = require(module, "ISDataset")
        stock = require(module, "ISDataset", "augment_sample")

        @functools.wraps(stock)
        def augment_sample(self, sample):
            seed_once(self.augmentator)
            return stock(self, sample)

        dataset_class.augment_sample = augment_sample
        return None


def seed_once(augmentator) -> None:
    """Seed the augmentator from the worker's seed if this worker has not done so yet."""
    worker = torch.utils.data.get_worker_info()
    if worker is None or not hasattr(augmentator, "set_random_seed"):
        return
    if getattr(augmentator, "_fdrn_worker_seed", None) != worker.seed:
        augmentator.set_random_seed(worker.seed % 2**32)
        augmentator._fdrn_worker_seed = worker.seed


PATCHES = (AlbumentationsSeeds(),)
