"""Clicks of several images in one call of a network: the logits of each alone."""

import importlib.util
import threading

import pytest
import torch
from support import focalclick
from support.networks import build_host, enliven, make_input, make_points
from support.threads import beside_each_other

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.engines import Batched, Batches, cuda, cuda_graphs

pytestmark = pytest.mark.usefixtures("ritm")

CROP = (64, 96)
# Images of two sizes, the first one twice under other crops, and other numbers of clicks.
SIZES = [(100, 150), (64, 120)]
ROIS = [(5, 80, 10, 140), (0, 60, 3, 99), (20, 99, 0, 90)]
POINTS = [
    make_points([[20.3, 30.2, 0]]), make_points([[40, 50, 0], [10, 80, 2]], [[30, 60, 1]]),
    make_points([[9 * i % 64, 20 + i, i] for i in range(20)]),
]
ENGINES = ["eager", "torch", "cuda"]


def slow(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.fixture(params=[*ENGINES, *slow("onnxruntime", "openvino")])
def engine(request, device, monkeypatch):
    if request.param in ("onnxruntime", "openvino"):
        if importlib.util.find_spec(request.param) is None:
            pytest.skip(f"{request.param} is not installed")
    monkeypatch.setenv(cuda.VARIABLE, str(device))
    return request.param


def lively(host):
    extractor = host.feature_extractor
    head = extractor.cls_head if hasattr(extractor, "cls_head") else \
        extractor.decode_head.linear_pred
    with torch.no_grad():
        head.weight.mul_(100)
    return host


def fdrn(host, **options):
    """An FDRN whose features and clicks are felt."""
    model = fdrn_adapter.wrap(lively(host), init="paper", **options)
    with torch.no_grad():
        for module in (model.sfi, model.tfi):
            enliven(module)
        fuse = getattr(model.host.maps_transform, "fuse", None)  # of RITM's HRNet
        if fuse is not None:
            fuse.weight.normal_(0, 0.1)
    return model.eval()


def crop(seed, size=CROP):
    x = make_input(*size, seed=seed)
    x[:, 3:] = torch.rand(x[:, 3:].shape, generator=torch.Generator().manual_seed(seed)) ** 2
    return x


class Users:
    """Three users, each with an image and a crop, who click at the same time."""

    def __init__(self, model, engine, size=CROP, mirrored=False, **options):
        self.net = engines.accelerate(model, engine)
        self.batches = Batches(3, 60_000, **options)
        self.mirrored = mirrored
        pairs = 1 + mirrored
        self.crops = [torch.cat([crop(i, size)] * pairs) for i in range(3)]
        self.points = [torch.cat([points] * pairs) for points in POINTS]
        if mirrored:
            self.crops = [torch.cat([x[:1], x[:1].flip(-1)]) for x in self.crops]
        self.features = None
        if getattr(model, "is_fdrn", False):
            images = [make_input(*size, seed=i)[:, :3] for i, size in enumerate(SIZES)]
            first, second = (
                self.net.encode_image(torch.cat([image, image.flip(-1)][:pairs]))
                for image in images
            )
            self.features = [first, second, first]

    @torch.no_grad()
    def click(self, net, i, then=None):
        if self.features is None:
            outputs = net(self.crops[i], self.points[i])
        else:
            rois = [ROIS[i]] * (1 + self.mirrored)
            with self.net.recycling(self.features[i], rois):
                outputs = net(self.crops[i], self.points[i])
        return outputs if then is None else (outputs, then(net, i, outputs))

    def alone(self, then=None):
        return [self.click(self.net, i, then) for i in range(3)]

    def together(self, then=None):
        here = threading.Barrier(3)

        def user(i):
            net = Batched(self.net, self.batches)  # each session has its own
            with self.batches.coming():
                here.wait(60)
                return self.click(net, i, then)

        got = beside_each_other(*(lambda i=i: user(i) for i in range(3)))
        for one in got:
            if isinstance(one, Exception):
                raise one
        return got


def check_same(want, got, most=1e-5):
    """Logits are felt to differ from image to image, and do not differ for the company."""
    for i, (a, b) in enumerate(zip(want, got, strict=True)):
        other = want[(i + 1) % len(want)]
        assert (a[:1] - other[:1]).abs().max() > 1e-2 * a.abs().max()
        assert a.shape == b.shape and a.device == b.device
        assert (a - b).abs().max() <= most * max(1, a.abs().max())


@pytest.mark.parametrize("kind", ["fdrn", "stock", "mirrored"])
def test_ritm(engine, kind):
    host = build_host("tiny")
    model = lively(host) if kind == "stock" else fdrn(host, encoder="hrnet18s")
    users = Users(model, engine, mirrored=kind == "mirrored")
    want = [made["instances"] for made in users.alone()]
    for _ in range(2):
        check_same(want, [made["instances"] for made in users.together()], tolerance(engine))
    assert users.batches.sizes == {("click", 3): 2} and users.batches.failed == 0


def tolerance(engine):
    """Share of the logits' size; engines choose other kernels for other batches."""
    return {"eager": 1e-5, "torch": 1e-5, "cuda": cuda.TOLERANCE}.get(engine, 1e-4)


@pytest.mark.parametrize("kind", ["fdrn", "stock"])
def test_focalclick(engine, kind):
    """Both stages: the click, and the refinement with its boxes."""
    with focalclick.clickseg():
        host = focalclick.build("b0")
        model = lively(host) if kind == "stock" else fdrn(host, encoder="segformer_b0")
        users = Users(model, engine, (96, 96))

        def refined(net, i, outputs):
            box = torch.tensor([[0.0, 20 + i, 10, 70, 60 + 2 * i]])
            return net.refine(users.crops[i][:, :3], users.points[i], outputs["feature"],
                              outputs["instances"], box)["instances_refined"]

        want, got = users.alone(refined), users.together(refined)
        for a, b in ((want, got), (want, users.together(refined))):
            most = tolerance(engine)
            check_same([m[0]["instances"] for m in a], [m[0]["instances"] for m in b], most)
            check_same([m[1] for m in a], [m[1] for m in b], most)
        assert users.batches.sizes == {("click", 3): 2, ("refine", 3): 2}
        assert users.batches.failed == 0


def test_one_wrong_call_harms_no_other():
    model = fdrn(build_host("tiny"), encoder="hrnet18s")
    users = Users(model, "eager")
    want = [made["instances"] for made in users.alone()]
    failing = []

    def fail(module, given):
        if failing and len(given[0]) > 1:
            raise MemoryError("too many")

    hook = model.host.register_forward_pre_hook(fail)
    failing.append(True)
    got = [made["instances"] for made in users.together()]
    hook.remove()
    assert users.batches.failed == 1
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


def test_alone_and_without_features_it_is_the_network_itself():
    model = fdrn(build_host("tiny"), encoder="hrnet18s")
    batches = Batches(3, 60_000)
    net = Batched(model, batches)
    assert net.with_prev_mask and net.parameters and net.is_fdrn
    with torch.no_grad():
        want = model(crop(0), POINTS[0])["instances"]
        assert torch.equal(want, net(crop(0), POINTS[0])["instances"])
    assert not batches.sizes
    users = Users(model, "eager")
    want = users.alone()[1]["instances"]
    assert torch.equal(want, users.click(Batched(model, batches), 1)["instances"])
    assert batches.sizes == {("click", 1): 1}


def test_an_engine_that_first_meets_a_batch(device, monkeypatch):
    """What it compiles is checked against the network with the features of all."""
    monkeypatch.setenv(cuda.VARIABLE, str(device))
    for engine in ("torch", "cuda"):
        model = fdrn(build_host("tiny"), encoder="hrnet18s")
        users = Users(model, engine)
        got = [made["instances"] for made in users.together()]
        check_same([made["instances"] for made in users.alone()], got, tolerance(engine))


def test_padding_to_powers_of_two():
    t = torch.arange(10.0).view(5, 2)
    padded = cuda_graphs.to_power_of_two(t)
    assert padded.shape == (8, 2) and torch.equal(padded[:5], t)
    assert torch.equal(padded[5:], t[4:].expand(3, 2))
    for number in (1, 2, 4):
        assert cuda_graphs.to_power_of_two(t[:number]).shape == (number, 2)


def test_few_graphs_are_captured(gpu):
    """Batches of 1, 3, 4 and 2 take three graphs."""
    model = lively(build_host("tiny"))
    runner = cuda.CudaRunner(model)
    for number in (1, 3, 4, 2, 1, 3, 2):
        x = torch.cat([crop(i) for i in range(number)])
        points = POINTS[0].expand(number, -1, -1)
        made = runner.click(x, points, None)["instances"]
        assert len(made) == number
    graphs = runner._click._replayed.captured
    assert sorted(key[0][0][0] for key in graphs) == [1, 2, 4]
    assert all(graph is not None for graph in graphs.values())
