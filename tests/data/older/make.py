"""How the files beside this one were made, with the code of commit 0f3b373 and its tests' helpers.

    PYTHONPATH=.:tests python make.py OUT        # from that commit's root

Weights are short patterns over and over, so that the files are small once they are compressed.
"""

import io
import json
import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch


def pattern(shape, scale):
    size = int(np.prod(shape))
    return ((torch.arange(size) * 5 % 17 - 8) / 8 * scale).reshape(shape)


@torch.no_grad()
def patterned(net):
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            continue
        fan_in = value[0].numel() if value.ndim > 1 else 1
        plus = 1.0 if name.endswith(("running_var", "scale")) else 0.0
        if value.ndim == 1 and name.endswith("weight"):
            plus = 1.0  # of norms
        value.copy_(pattern(value.shape, 0.3 if value.ndim < 2 else fan_in**-0.5) + plus)
    return net.eval()


def compressed(out, name, write):
    buffer = io.BytesIO()
    write(buffer)
    (out / f"{name}.xz").write_bytes(lzma.compress(buffer.getvalue(), preset=9))


def inputs():
    image = (torch.arange(3 * 48 * 64) * 37 % 251 / 250).reshape(1, 3, 48, 64)
    crop = torch.nn.functional.interpolate(
        image[:, :, 4:44, 8:60], (64, 64), mode="bilinear", align_corners=True
    )
    crop = torch.cat([crop, torch.zeros(1, 1, 64, 64)], dim=1)
    points = torch.tensor([[[30.0, 40, 0], [-1, -1, -1], [50, 10, 1], [-1, -1, -1]]])
    return image, crop, [[4, 43, 8, 59]], points


def main(out):
    from evaluation_data import grabcut, run
    from networks import build_host
    from training_fixtures import config, fdrn_model, make_trainer, stock_dataset, write_folder

    import fdrn_adapter
    from fdrn_adapter import training

    host = patterned(build_host("tiny"))
    model = patterned(fdrn_model())
    compressed(out, "stock.pth", lambda file: save(fdrn_adapter, host, file))
    compressed(out, "fdrn.pth", lambda file: save(fdrn_adapter, model, file))
    image, crop, rois, points = inputs()
    with torch.no_grad():
        features = model.encode_image(image)
        with model.recycling(features, rois):
            recycled = model(crop, points)["instances"]
        stock = host(crop, points)["instances"]
    compressed(out, "features.pt", features.save)
    expected = {"recycled": recycled, "stock": stock}
    (out / "logits.json").write_text(json.dumps({
        name: [round(v, 6) for v in logits[0, 0, ::8, ::8].flatten().tolist()]
        for name, logits in expected.items()
    }) + "\n")

    scratch = out / "scratch"
    data = training.DynamicScaleDataset(
        stock_dataset(write_folder(scratch / "data")), (64, 64), (96, 96)
    )
    trainer = make_trainer(model, config(scratch), data, ema_decay=0.9)
    trainer.training(0)
    patterned(model)
    for name, value in trainer.average.weights.items():
        value.copy_(model.state_dict()[name])
    for kept in trainer.optim.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            kept[name].copy_(pattern(kept[name].shape, 1e-3).abs())
    trainer._write_state(0)
    path = scratch / "checkpoints" / "training_state.pth"
    compressed(out, "training_state.pth", lambda file: file.write(path.read_bytes()))

    grabcut(scratch / "GrabCut", 2)
    run(models="graphcut", datasets=f"GrabCut={scratch / 'GrabCut'}", clicks=2, threads=1,
        engine="eager", out=scratch / "out")
    (out / "journal.jsonl").write_bytes((scratch / "out" / "journal.jsonl").read_bytes())


def save(package, net, file):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pth"
        package.save(net, path)
        file.write(path.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
