"""Experiments that live outside the checkout, with settings from the command line.

The stock loader accepts an experiment file only below a folder named `models`, looks for
config.yml between that file and the current directory, and has no way to set an entry from
outside. Two patches, both of `isegm.utils.exp`.
"""

import functools
from pathlib import Path
from types import ModuleType

from fdrn_adapter.patches import options
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import require

# The folder that ends the family tree of an experiment, like `models` in the stock code.
OUTER_FOLDERS = ("models", "experiments")


class ExperimentPaths(Patch):
    name = "experiment_paths"
    targets = ("isegm.utils.exp",)
    code_bases = EVERYWHERE
    reason = "an experiment file is refused unless one of its folders is called models"
    since = "always; an extension point"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "get_model_family_tree")

        @functools.wraps(stock)
        def get_model_family_tree(model_path, *args, **kwargs):
            tree = stock(model_path, *args, **kwargs)
            if tree is not None:
                return tree
            # Relative paths end at ".", so the folders above the current one are unknown there.
            model_path = Path(model_path).resolve()
            for folder in (*OUTER_FOLDERS, model_path.parent.stem):
                if folder in [parent.stem for parent in model_path.parents]:
                    return stock(model_path, *args, **{**kwargs, "terminate_name": folder})
            return tree

        module.get_model_family_tree = get_model_family_tree
        return "a folder named experiments, or else the file's own folder, ends the family tree"


class ConfigOverrides(Patch):
    name = "config_overrides"
    targets = ("isegm.utils.exp",)
    code_bases = EVERYWHERE
    reason = (
        "paths in the checkout's config.yml do not exist here, and an experiment outside the "
        "checkout finds no config.yml at all"
    )
    since = "always; an extension point"

    def apply(self, module: ModuleType) -> str | None:
        load_file = require(module, "load_config_file")
        load = require(module, "load_config")
        make_dict = require(module, "edict")

        @functools.wraps(load_file)
        def load_config_file(config_path, *args, **kwargs):
            config = load_file(config_path, *args, **kwargs)
            return options.override(config, options.current.config)

        @functools.wraps(load)
        def load_config(model_path):
            config = load(model_path)
            root = options.current.root
            if root is not None and (root / "config.yml").is_file():
                for key, value in load_file(root / "config.yml", model_path.stem).items():
                    config.setdefault(key, value)
            return make_dict(options.override(config, options.current.config))

        module.load_config_file = load_config_file
        module.load_config = load_config
        return None


PATCHES = (ExperimentPaths(), ConfigOverrides())
