"""Engine "cuda": its code on the device of FDRN_TEST_DEVICE, its graphs where that is a GPU."""

import threading

import numpy as np
import pytest
import torch
from support import focalclick
from support.networks import build_host, enliven, make_input, make_points
from support.stock import CLICKS, picture, taught_host

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.engines import cuda, cuda_graphs
from fdrn_adapter.engines.device_maps import draw_on_device

pytestmark = pytest.mark.usefixtures("ritm")

CROP = (64, 96)
POINTS = make_points(
    [[20.3, 30.2, 0], [1, 2, 2], [63, 95, 3], [24, 33.5, 4], [-20, 40, 6]],
    [[30, 60, 1], [-3, 70, 5], [22, 31, 7]],
)
ROI = [(5, 80, 10, 140)]


@pytest.fixture(autouse=True)
def _engine_device(device, monkeypatch):
    monkeypatch.setenv(cuda.VARIABLE, str(device))


def lively():
    host = build_host("tiny")
    with torch.no_grad():
        host.feature_extractor.cls_head.weight.mul_(100)
    return host


def fdrn(init="paper", **options):
    """An FDRN whose clicks, history and previous mask are felt."""
    model = fdrn_adapter.wrap(lively(), init=init, **{"encoder": "hrnet18s", **options})
    with torch.no_grad():
        for module in filter(None, (model.sfi, model.tfi, model.tfi_mid)):
            enliven(module)
        model.host.maps_transform.fuse.weight.normal_(0, 0.1)
    return model.eval()


def crop_input(seed=0, mask=0.5, size=CROP):
    x = make_input(*size, seed=seed)
    x[:, 3:] = torch.rand(x[:, 3:].shape, generator=torch.Generator().manual_seed(seed)) ** 2
    x[:, 3:, :20] = mask
    return x


@torch.no_grad()
def logits(net, x, points=POINTS):
    if not getattr(net, "is_fdrn", False):
        return net(x, points)["instances"]
    features = net.encode_image(make_input(100, 150)[:, :3].to(x.device))
    with net.recycling(features, ROI * len(x)):
        return net(x, points)["instances"]


@pytest.mark.parametrize("kind", ["paper", "identity", "stock"])
def test_same_logits(kind):
    model = lively() if kind == "stock" else fdrn(kind)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    net = engines.accelerate(model, "cuda")
    many = make_points([[3 * i, 2 * i, i] for i in range(20)], [[40, 50, 20]])
    cases = [
        (crop_input(), make_points([[20.3, 30.2, 0]])), (crop_input(), POINTS),
        (crop_input(mask=0.0), POINTS), (crop_input(1), POINTS), (crop_input(1), many),
        (crop_input(2, size=(80, 64)), POINTS),
    ]
    wanted = [logits(model, *case) for case in cases]
    got = [logits(net, *case) for case in cases]
    for a, b in zip(wanted[:4], wanted[1:5], strict=True):
        assert (a - b).abs().max() > 1e-2  # clicks, mask and image are felt
    for a, b in zip(wanted, got, strict=True):
        assert b.device.type == "cpu" and (a - b).abs().max() < 1e-3
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("options", [
    {}, {"use_mid": True}, {"context_channels": 8},
    {"encoder": "distilled_lite0", "context_channels": 8},
], ids=lambda options: "-".join(map(str, options.values())))
def test_features_stay_on_the_device(device, options):
    if options.get("encoder") == "distilled_lite0":
        pytest.importorskip("timm")
    model = fdrn(**options)
    net = engines.accelerate(model, "cuda")
    for size in ((100, 150), (100, 150), (64, 37)):  # the second time from a graph
        image = make_input(*size)[:, :3]
        with torch.no_grad():
            want, got = model.encode_image(image), net.encode_image(image)
        assert got.weights == want.weights and got.grids == want.grids
        for name, m in want.maps.items():
            assert got.maps[name].device.type == device.type
            assert m.std() > 1e-3
            assert (m - got.maps[name].cpu()).abs().max() < 1e-3 * m.abs().max()


def test_model_on_the_device(device):
    """Crops that are on the device already stay there, and so do the logits."""
    model = fdrn()
    wanted = logits(model, crop_input())
    net = engines.accelerate(model.to(device), "cuda")
    got = logits(net, crop_input().to(device), POINTS.to(device))
    assert got.device.type == device.type
    assert (wanted - got.cpu()).abs().max() < 1e-3


def test_fast(device):
    """Lower precision where masks agree, and figures that say so."""
    model = fdrn()
    runner = cuda.CudaRunner(model, cuda.FAST)
    with torch.no_grad():
        wanted = model(crop_input(), POINTS)["instances"]
        features = model.encode_image(crop_input()[:, :3])
    with model.recycling(features, [(0, CROP[0] - 1, 0, CROP[1] - 1)]) as recycling:
        got = runner.click(crop_input(), POINTS, recycling)["instances"]
    assert runner.precision in ("float16", "bfloat16")
    assert got.dtype == torch.float32
    assert 0 < (wanted - got).abs().max() < 0.1 * wanted.abs().max()


def test_fast_falls_back(device, monkeypatch, caplog):
    monkeypatch.setattr(cuda, "SAME_MASK", 1.01)  # no precision reaches that
    model = lively()
    runner = cuda.CudaRunner(model, cuda.FAST)
    got = runner.click(crop_input(), POINTS, None)["instances"]
    assert runner.precision == "float32" and "does not serve" in caplog.text
    with torch.no_grad():
        assert (model(crop_input(), POINTS)["instances"] - got).abs().max() < 1e-3


def test_fast_leaves_a_precision_that_overflows(device, monkeypatch, caplog):
    """Numbers of another image may be too large for the precision that the first one chose."""
    model = lively()
    runner = cuda.CudaRunner(model, cuda.FAST)
    runner.click(crop_input(), POINTS, None)
    assert runner.precision != "float32"
    monkeypatch.setattr(
        runner._click, "run", lambda image, *rest: [torch.full_like(image[:, :1], torch.inf)]
    )
    runner._refine = object()  # compiled for features of the precision that is left
    got = runner.click(crop_input(1), POINTS, None)["instances"]
    assert runner.precision == "float32" and "not finite" in caplog.text
    assert runner._refine is None
    with torch.no_grad():
        assert (model(crop_input(1), POINTS)["instances"] - got).abs().max() < 1e-3


def test_another_network_is_told():
    """The check sees logits that are not the network's."""
    a, b = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, -2.01]])
    assert cuda.agrees(a, a + 1e-5, exact=True)[0] and not cuda.agrees(a, b, exact=True)[0]
    assert cuda.agrees(a, b, exact=False)[0] and not cuda.agrees(a, -a, exact=False)[0]
    assert not cuda.agrees(a, a * float("nan"), exact=False)[0]
    assert not cuda.agrees(a, a[:, :1], exact=False)[0]


@pytest.mark.parametrize("use_disks", [True, False])
def test_maps_are_drawn_as_the_stock_module_draws_them(device, use_disks):
    for radius, scale in ((5, 1.0), (3, 0.5)):
        module = build_host(norm_radius=radius, use_disks=use_disks).dist_maps
        module.spatial_scale = scale
        want = module(torch.empty(1, 0, *CROP), POINTS)
        got = draw_on_device(module, POINTS.to(device), CROP).cpu()
        assert 0 < want.mean() < 1
        assert torch.equal(want, got) if use_disks else (want - got).abs().max() < 1e-6


def test_room_for_points():
    padded = cuda_graphs.with_room(POINTS)
    assert padded.shape == (1, 2 * cuda_graphs.POINTS, 3)
    kept = [p for p in padded[0].tolist() if p[:2] != [-1, -1]]
    assert kept == [p for p in POINTS[0].tolist() if p[:2] != [-1, -1]]
    assert cuda_graphs.with_room(padded.repeat(1, 2, 1)).shape[1] == 4 * cuda_graphs.POINTS


def masks(session):
    session.set_image(picture())
    for row, col, positive in CLICKS[:4]:
        session.add_click(col, row, positive)
        yield session.mask
    session.undo()
    yield session.mask


@pytest.mark.parametrize("kind", ["fdrn", "stock", "flip"])
def test_session(device, kind):
    """The masks of eager on the CPU, wherever the model is."""
    host = taught_host()
    model = host if kind == "stock" else fdrn_adapter.wrap(host, encoder="hrnet18s")
    options = {"crop": 96, "flip": kind == "flip"}
    wanted = list(masks(fdrn_adapter.InteractiveSession(model, "eager", **options)))
    assert len({m.tobytes() for m in wanted[:4]}) == 4
    for where in {"cpu", device.type}:
        session = fdrn_adapter.InteractiveSession(model.to(where), "cuda", **options)
        assert session.engine == "cuda"
        for a, b in zip(wanted, masks(session), strict=True):
            assert (a & b).sum() >= 0.999 * (a | b).sum()


def test_several_threads():
    """One network, a thread for each picture: the same as one after the other."""
    net = engines.accelerate(fdrn(), "cuda")
    inputs = [crop_input(seed) for seed in range(3)]
    serial, threaded = [logits(net, x) for x in inputs], {}
    threads = [
        threading.Thread(target=lambda i=i, x=x: threaded.update({i: logits(net, x)}))
        for i, x in enumerate(inputs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (serial[0] - serial[1]).abs().max() > 1e-2
    for i, a in enumerate(serial):
        assert (a - threaded[i]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["18s", "b0"])
def test_focalclick(device, kind):
    """Click and refinement of FocalClick's networks."""
    with focalclick.clickseg():
        host = focalclick.build(kind)
        extractor = host.feature_extractor
        with torch.no_grad():
            (extractor.decode_head.linear_pred if kind == "b0" else extractor.cls_head) \
                .weight.mul_(100)
        encoder = "segformer_b0" if kind == "b0" else "hrnet18s"
        model = fdrn_adapter.wrap(host, encoder=encoder, init="paper").eval()
        net = engines.accelerate(model, "cuda")
        x, focus = crop_input(size=(96, 96)), torch.tensor([[0.0, 24, 20, 70, 66]])
        results = []
        for n in (model, net):
            with torch.no_grad():
                features = n.encode_image(make_input(100, 150)[:, :3])
                with n.recycling(features, [(5, 60, 10, 110)]):
                    for points in (POINTS, make_points([[50, 50, 0]])):
                        coarse = n(x, points)
                        refined = n.refine(
                            x[:, :3], points, coarse["feature"], coarse["instances"], focus
                        )
                        results.append((coarse["instances"], refined["instances_refined"]))
        assert coarse["feature"].device.type == device.type
        want, got = results[:2], results[2:]
        assert (want[0][0] - want[1][0]).abs().max() > 1e-3
        for a, b in zip(sum(want, ()), sum(got, ()), strict=True):
            assert (a - b).abs().max() < 1e-3 * max(1, a.abs().max())


def test_precision(monkeypatch):
    model = lively()
    assert engines.accelerate(model, "cuda").precision == "exact"
    monkeypatch.setenv("FDRN_PRECISION", "fast")
    net = engines.accelerate(model, "cuda")
    assert net.precision == "fast"
    net(crop_input(), POINTS)
    assert engines.runner_of(model, "cuda", precision="fast").precision != "float32"
    with pytest.raises(ValueError, match="allowed: exact, fast"):
        engines.accelerate(model, "cuda", "half")


def test_features_elsewhere_are_for_this_engine_only():
    model = fdrn()
    features = model.encode_image(make_input(100, 150)[:, :3]).to("meta")
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="features are on meta"):
        with model.recycling(features, ROI):
            pass
    with engines.accelerate(model, "cuda").recycling(features, ROI):
        pass


def test_without_a_gpu(monkeypatch):
    monkeypatch.delenv(cuda.VARIABLE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "cuda" in engines.names() and "cuda" not in engines.available()
    with pytest.raises(engines.EngineNotInstalledError, match="sees no CUDA GPU.*engine='auto'"):
        engines.resolve("cuda")
    with pytest.raises(engines.EngineNotInstalledError, match="needs an NVIDIA GPU"):
        fdrn_adapter.InteractiveSession(lively(), "cuda")


def test_double_precision_runs_in_eager():
    assert engines.resolve("cuda", lively()) == "cuda"
    assert engines.resolve("cuda", lively().double()) == "eager"


# -- on a GPU only -----------------------------------------------------------------------------


def test_auto_follows_the_model(gpu, monkeypatch):
    monkeypatch.delenv(engines.VARIABLE, raising=False)
    assert engines.resolve("auto", lively().to(gpu)) == "cuda"
    assert engines.resolve("auto", lively()) in engines.available()[:-1]


def test_clicks_are_captured(gpu):
    model = lively()  # which a runner does not keep alive
    runner = cuda.CudaRunner(model)
    for seed in range(3):
        runner.click(crop_input(seed), POINTS, None)
    graphs = list(runner._click._replayed.captured.values())
    assert len(graphs) == 1 and graphs[0] is not None


def test_one_wait_a_click(gpu):
    """No operation of a click waits for the device, but for the logits on their way back."""
    model = fdrn()
    net = engines.accelerate(model.to(gpu), "cuda")
    features = net.encode_image(make_input(100, 150)[:, :3].to(gpu))
    x = crop_input()

    def click(roi):
        with net.recycling(features, [roi]):
            return net(x.to(gpu, non_blocking=True), POINTS)["instances"]

    for top in (4, 5):  # the second one is captured
        click((top, 80, 10, 140))
    x = x.pin_memory()
    torch.cuda.set_sync_debug_mode("error")
    try:
        click((6, 80, 10, 140))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_failed_capture_runs_on(gpu, caplog):
    class Waits(torch.nn.Module):
        def forward(self, x):
            return (x + x.sum().item(),)

    run = cuda_graphs.Replayed(Waits(), gpu, cuda_graphs.EXACT)
    x = torch.ones(2, 3)
    assert all(torch.equal(run(x)[0].cpu(), x + 6) for _ in range(2))
    assert "No CUDA graph" in caplog.text
    assert np.isclose(run(2 * x)[0].sum().item(), 6 * 14)
