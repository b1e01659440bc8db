"""Engine "cuda": a network on a GPU, each click one CUDA graph.

A click of a small network is hundreds of kernels of a few microseconds, and launching them one by
one takes far longer than running them. So everything from crop, clicks and aligned features to
logits is captured once for every crop size and replayed as a whole. Click maps are drawn on the
device; features stay there; the caller's crop and clicks go there from page-locked memory; and the
host waits once a click, for the logits.

The rewrites are those of the other engines (`graphs`) without those that are matrix products for a
CPU's sake. In precision "exact" arithmetic is float32 without TF32; in "fast" it is half, or
bfloat16 where half does not serve, or "exact" where neither does (`agrees`).

The caller's model may be on the CPU or on the GPU, and stays as it is. The variable
FDRN_CUDA_DEVICE names another device than the model's or the first GPU; `cpu` runs the same code
without graphs, for tests.
"""

import logging
import os
import threading
import weakref

import torch
from torch import Tensor, nn

from fdrn_adapter import hosts
from fdrn_adapter.engines import graphs
from fdrn_adapter.engines.cuda_graphs import (
    EXACT,
    FAST,
    Replayed,
    float32_arithmetic,
    on_device,
    to_host,
    to_power_of_two,
    with_room,
)
from fdrn_adapter.engines.cuda_modules import ClickOnDevice, EncodeOnDevice, RefineOnDevice
from fdrn_adapter.engines.same_masks import SAME_MASK, mask_iou
from fdrn_adapter.features.recycling import Recycling

logger = logging.getLogger(__name__)

NAME = "cuda"
VARIABLE = "FDRN_CUDA_DEVICE"
# Tried in this order for "fast". CPUs, for tests, compute bfloat16 faster than half.
DTYPES = {"cuda": (torch.float16, torch.bfloat16), "cpu": (torch.bfloat16, torch.float16)}
TOLERANCE = 1e-3  # largest deviation of logits in "exact", of their size
FAST_TOLERANCE = 0.1  # in "fast", where masks agree
FAST_F1_TOLERANCE = 3e-3  # F1 in half precision, 0.006 off, made masks of IoU 0.95 to 1 (H200)


def unavailable() -> str:
    """Why the engine cannot run here, empty if it can."""
    if os.environ.get(VARIABLE):
        return ""
    if not torch.backends.cuda.is_built():
        return f"this torch ({torch.__version__}) is built without CUDA"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA GPU (torch.cuda.is_available() is False)"
    return ""


def missing() -> str:
    """The same as an error says it."""
    reason = unavailable()
    return reason and (
        f"engine='cuda' needs an NVIDIA GPU: {reason}. Pass engine='auto' for the fastest engine "
        "of this machine."
    )


def device_of(model: nn.Module) -> torch.device:
    """Where a model's private copy runs."""
    if os.environ.get(VARIABLE):
        return torch.device(os.environ[VARIABLE])
    own = next(model.parameters()).device
    return own if own.type == "cuda" else torch.device("cuda", torch.cuda.current_device())


class CudaRunner:
    """One network with one state of its weights on a GPU; called as `runner.Runner`.

    Args:
        model: FDRN model or stock network, float32, in eval mode.
        precision: "exact" or "fast".
    """

    def __init__(self, model: nn.Module, precision: str = EXACT):
        self.model = weakref.ref(model)
        self.engine, self.wanted = NAME, precision
        self.device = device_of(model)
        _, self.info = hosts.host_of(model)
        self._lock = threading.RLock()
        self._click: ClickOnDevice | None = None
        self._encoder: dict[torch.dtype, Replayed] = {}
        self._refine: Replayed | None = None

    # -- image ---------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of F1, on the device, where they stay; see `Runner.encode`."""
        with self._lock:
            if not self._encoder:
                self._build_encoder(x)
            (run,) = self._encoder.values()
        return dict(zip(run.module.names, run(x), strict=True))

    @torch.no_grad()
    def _build_encoder(self, x: Tensor) -> None:
        """The first precision of those allowed whose maps agree with the model's own."""
        encoder = self.model().image_encoder
        wanted = encoder.maps(x.to(next(encoder.parameters()).device))
        for dtype in _dtypes(self.wanted, self.device):
            made = EncodeOnDevice(graphs.private_copy(encoder), self.device, dtype, x)
            run = Replayed(made, self.device, self._arithmetic(dtype))
            got = dict(zip(made.names, run(x), strict=True))
            off = max(_deviation(wanted[name], got[name]) for name in wanted)
            if off <= (TOLERANCE if dtype == torch.float32 else FAST_F1_TOLERANCE):
                self._encoder[dtype] = run
                logger.info("F1 on %s in %s: within %.2g", self.device, dtype, off)
                return
            logger.warning("F1 in %s is off by %.2g of its size", dtype, off)
        raise RuntimeError(
            f"F1 in engine={NAME!r} gives other maps than torch: use engine='eager', and please "
            f"report the encoder {encoder.name!r}."
        )

    def _arithmetic(self, dtype: torch.dtype) -> str:
        """float32 is what is left where fewer bits do not serve: then all of its bits."""
        return EXACT if dtype == torch.float32 else self.wanted

    # -- clicks --------------------------------------------------------------------------------

    def click(
        self, image: Tensor, points: Tensor, recycling: Recycling | None
    ) -> dict[str, Tensor]:
        """One forward pass: "instances" (B, 1, H, W) where the image is, and for FocalClick
        "feature", which stays on the device."""
        taken = self._taken(image, recycling)
        with self._lock:
            if self._click is None:
                self._build_click(image, points, recycling, taken)
        inputs = map(to_power_of_two, (image, with_room(points), *taken))
        logits, *rest = (made[: len(image)] for made in self._click.run(*inputs))
        if image.device.type == "cpu":
            logits = to_host(logits)
            if self._click.dtype != torch.float32 and not logits.isfinite().all():
                return self._in_float32(image, points, recycling, taken)
        outputs = {"instances": logits}
        if rest:
            outputs["feature"] = rest[0]
        return outputs

    def _in_float32(self, image, points, recycling, taken: list[Tensor]) -> dict[str, Tensor]:
        """`click`, from now on in float32: numbers of this image are too large for fewer bits."""
        logger.warning("%s in %s gives numbers that are not finite; it goes on in float32",
                       self.info.name, self.precision)
        with self._lock:
            self._build_click(image, points, recycling, taken, precision=EXACT)
            self._refine = None  # its features have another precision now
        return self.click(image, points, recycling)

    @property
    def precision(self) -> str:
        """What clicks run in: float32, float16, bfloat16; empty before the first."""
        return "" if self._click is None else str(self._click.dtype).removeprefix("torch.")

    def _taken(self, image: Tensor, recycling: Recycling | None) -> list[Tensor]:
        """What the injections take, in their order."""
        if recycling is None:
            return []
        with torch.inference_mode():
            return list(self.model().aligned(recycling, image, separable=True).tensors.values())

    @torch.no_grad()
    def _build_click(self, image, points, recycling, taken: list[Tensor], precision=None) -> None:
        """The first precision of those allowed whose logits agree with the model's own."""
        model = self.model()
        prev = torch.rand(image[:, 3:].shape, generator=torch.Generator().manual_seed(0))
        image = torch.cat([image[:, :3], prev.to(image)], dim=1)
        with float32_arithmetic(EXACT):
            wanted = self._reference(image, points, recycling)["instances"]
        for dtype in _dtypes(precision or self.wanted, self.device):
            made = ClickOnDevice(model, self.info, self.device, dtype, self._arithmetic(dtype))
            made.fold(image, with_room(points), *taken)
            got = made.run(image, with_room(points), *taken)[0]
            good, why = agrees(wanted, got, exact=dtype == torch.float32)
            if good:
                self._click = made
                logger.info("%s on %s in %s: %s", self.info.name, self.device, dtype, why)
                return
            logger.warning("%s in %s does not serve: %s", self.info.name, dtype, why)
        raise RuntimeError(
            f"{self.info.name}: engine={NAME!r} gives other logits than the network: {why}. Use "
            "engine='eager' and report this."
        )

    def _reference(self, image: Tensor, points: Tensor, recycling) -> dict[str, Tensor]:
        model = self.model()
        device = next(model.parameters()).device
        image, points = image.to(device), points.to(device)
        if recycling is None:
            return model(image, points)
        features = [f.to(device) for f in recycling.features]
        with model.recycling(features, recycling.rois, _indices(recycling)):
            return model(image, points)

    # -- FocalClick's second stage -------------------------------------------------------------

    def refine(self, image, points, features, logits, boxes) -> dict[str, Tensor]:
        """`refine` of the host on the device; `features` are what `click` gave."""
        with self._lock:
            if self._refine is None:
                self._build_refine(image, points, features, logits, boxes)
        features = self._refine.module.projected(features.to(self.device))
        inputs = map(to_power_of_two, (image, with_room(points), features, logits, boxes))
        made = [t[: len(image)] for t in self._refine(*inputs)]
        if image.device.type == "cpu":
            made = [to_host(t) for t in made]
        return dict(zip(("instances_refined", "instances_coarse"), made, strict=True))

    @torch.no_grad()
    def _build_refine(self, image, points, features, logits, boxes) -> None:
        model = self.model()
        home = next(model.parameters()).device
        dtypes = _dtypes(self.wanted, self.device)
        dtypes = [features.dtype, *dtypes[dtypes.index(features.dtype) + 1 :]] \
            if features.dtype in dtypes else dtypes
        for dtype in dtypes:
            made = RefineOnDevice(graphs.private_copy(model), self.device, dtype)
            generator = torch.Generator().manual_seed(0)
            size = (len(features), made.channels or features.shape[1], *features.shape[2:])
            given = torch.rand(size, generator=generator)
            with float32_arithmetic(EXACT):
                wanted = model.refine(*(
                    t.to(home) for t in (image, points, given, logits, boxes)
                ))["instances_refined"]
            inputs = [on_device(t, self.device) for t in (image, with_room(points))]
            inputs += [made.projected(given.to(self.device))]
            inputs += [on_device(t, self.device) for t in (logits, boxes)]
            made.fold(*inputs)
            run = Replayed(made, self.device, self._arithmetic(dtype))
            good, why = agrees(wanted, run(*inputs)[0], exact=dtype == torch.float32)
            if good:
                self._refine = run
                return
            logger.warning("%s, refinement in %s: %s", self.info.name, dtype, why)
        raise RuntimeError(
            f"{self.info.name}: engine={NAME!r} refines otherwise than the network: {why}. Use "
            "engine='eager' and report this."
        )


# -- checks ------------------------------------------------------------------------------------


def _dtypes(precision: str, device: torch.device) -> list[torch.dtype]:
    few = DTYPES["cuda" if device.type == "cuda" else "cpu"] if precision == FAST else ()
    return [*few, torch.float32]


def agrees(wanted: Tensor, got: Tensor, exact: bool) -> tuple[bool, str]:
    """Whether logits are good enough: in "exact" by number, in "fast" by the mask they make.

    Returns:
        the verdict, and the figures it rests on.
    """
    off = _deviation(wanted, got, at_least=1.0)
    same = mask_iou(wanted > 0, got.to(wanted.device) > 0)
    figures = f"logits within {off:.2g} of their size, masks with IoU {same:.4f}"
    good = off <= TOLERANCE if exact else off <= FAST_TOLERANCE and same >= SAME_MASK
    return good, figures


def _deviation(wanted: Tensor, got: Tensor, at_least: float = 1e-6) -> float:
    """Largest difference, as a share of the largest value; infinite where something is not."""
    if wanted.shape != got.shape:
        return float("inf")
    wanted, got = wanted.float(), got.to(wanted.device).float()
    off = ((wanted - got).abs().max() / wanted.abs().max().clamp(min=at_least)).item()
    return off if off == off else float("inf")


def _indices(recycling: Recycling) -> list[int]:
    """The image of each roi, counted through all encodings, as `Recycling` takes it."""
    owners = [(id(f), i) for f in recycling.features for i in range(f.batch)]
    return [owners.index((id(f), i)) for f, i in recycling.owners]
