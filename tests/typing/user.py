"""A user's program, for `mypy --strict`: what the public names promise. It is not run."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from torch import nn

import fdrn_adapter
from fdrn_adapter import zoo
from fdrn_adapter.serving.bridge import PromptSession

model = zoo.load("distilled-hrnet18s")
assert_type(model, nn.Module)
assert_type(zoo.names(), list[str])
assert_type(zoo.info("H2-hrnet18s").is_fdrn, bool)
assert_type(fdrn_adapter.load("fdrn.pth", trust=["fork"]), nn.Module)
assert_type(fdrn_adapter.from_pretrained(Path("folder")), nn.Module)
fdrn_adapter.save_pretrained(model, "folder", half=True)

wrapped = fdrn_adapter.wrap(model, b_low=3, inference=fdrn_adapter.Inference(crop=192))
assert_type(wrapped, fdrn_adapter.FDRNModel)
assert_type(fdrn_adapter.unwrap(wrapped), nn.Module)
features = wrapped.encode_image(torch.zeros(1, 3, 64, 64))
assert_type(features, fdrn_adapter.ImageFeatures)
assert_type(features.nbytes, int)
with wrapped.recycling(features, torch.tensor([[0, 63, 0, 63]])):
    wrapped(torch.zeros(1, 4, 64, 64), torch.zeros(1, 2, 3))

session = fdrn_adapter.InteractiveSession(model)
session.set_image("photo.jpg")
session.set_image(np.zeros((8, 8, 3), np.uint8))
mask: np.ndarray = session.add_click(x=2, y=3.5, positive=False)
mask = session.undo()
assert_type(session.score, float)
clicks: Sequence[object] = session.clicks
session.save_state("state.npz")

bridge = PromptSession(model)
mask, score = bridge.predict("photo.jpg", positive=[(1, 2)])

session.add_click("left")  # type: ignore[arg-type, call-arg]
fdrn_adapter.wrap(model, b_low="3")  # type: ignore[arg-type]
fdrn_adapter.Inference(side=3)  # type: ignore[call-arg]
