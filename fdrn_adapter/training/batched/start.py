"""A network that has not been trained, started as those of the zoo were."""

import importlib

import torch
from torch import nn

from fdrn_adapter import hosts, zoo
from fdrn_adapter.encoders.catalogue import family_of
from fdrn_adapter.model.wrapping import wrap
from fdrn_adapter.training.lite import CLICK_SCALE, FUSE_GAIN

# What a user calls a host -> a network of the zoo whose host it is.
HOSTS = {"hrnet18s": "sam-hrnet18s", "hrnet18": "RITM-hrnet18", "hrnet32": "RITM-hrnet32"}
# Of the zoo's sam-hrnet18s and distilled-hrnet18s.
FDRN_OPTIONS = {
    "init": "paper", "context_channels": 64, "value_channels": 256, "shortcut_kernel": 3,
    "affinity": "gather", "norms": True, "b_low_tilde": 0, "b_high_tilde": 0,
}


def new_network(
    host: str, encoder: str | None, seed: int, codebase: str | None = None
) -> nn.Module:
    """An FDRN model, or a stock network as control, with random weights to be trained from.

    Args:
        host: a name of HOSTS.
        encoder: of `wrap`; None for the stock network alone. Encoders of embeddings are frozen.
        seed: of the weights; the generator's state is left as it was.
        codebase: checkout to build it from; None for what is installed.

    Raises:
        ValueError: unknown names.
    """
    if host not in HOSTS:
        raise ValueError(f"There is no host {host!r}. Allowed: {', '.join(HOSTS)}.")
    frozen = encoder is not None and family_of(encoder).embeds
    entry = zoo.info(HOSTS[host])
    package = zoo.find_package(entry, codebase)
    initializer = importlib.import_module(f"{package}.model.initializer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = zoo.stock_network(entry, package)
        net.apply(initializer.XavierGluon(rnd_type="gaussian", magnitude=2.0))
        info = hosts.describe_host(net)
        nn.init.constant_(net.get_submodule(info.click_encoder)[-1].scale, CLICK_SCALE)
        if encoder is None:
            return net
        model = wrap(net, encoder=encoder, copy=False, freeze_encoder=frozen, **FDRN_OPTIONS)
        with torch.no_grad():
            model.host.get_submodule(info.click_encoder).fuse.weight.mul_(FUSE_GAIN)
    return model
