"""Embeddings of a frozen image encoder, computed once and kept in memory-mapped files.

A folder with `manifest.json` and one .npy file in half precision for each image, named by the
checksum of the image's file. The manifest says which encoder they are of, and the checksum of each
file. Both are written whole or not at all: an interrupted `fdrn encode` goes on where it was.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdrn_adapter.encoders.backbone import EMBEDDING
from fdrn_adapter.encoders.catalogue import (
    build_backbone,
    build_encoder,
    encoder_names,
    family_of,
    full_name,
)
from fdrn_adapter.encoders.image_encoder import MAX_SIDE, ImageEncoder
from fdrn_adapter.images import read_image
from fdrn_adapter.output_folders import checksum, only_writer
from fdrn_adapter.training.batched.pictures import write_whole_array, write_whole_text
from fdrn_adapter.workers import HERE, Workers, in_order

MANIFEST = "manifest.json"
FORMAT = "fdrn_adapter.embeddings/1"


def embedding_encoder(name: str) -> ImageEncoder:
    """An image encoder whose embedding is recycled, by its name, with its weights.

    Raises:
        ValueError: there is none of that name, or it gives no embedding.
    """
    if not family_of(name).embeds:
        raise ValueError(
            f"encoder={name!r} gives maps at two strides, of which views are learnt before they "
            "are aligned; only embeddings are kept: 'onnx:FILE' or 'distilled_lite0'. `fdrn train` "
            f"computes the others as it goes. All encoders: {encoder_names()}."
        )
    name = full_name(name)
    backbone = build_backbone(name, None, None, None, None)
    encoder = build_encoder(backbone, name, None, MAX_SIDE, frozen=True)
    encoder.start()
    return encoder.eval()


def gives_embedding(encoder: ImageEncoder | None) -> bool:
    """Whether what an encoder gives can be kept: an embedding, of a backbone that stays."""
    return encoder is not None and EMBEDDING in encoder.backbone.taps and encoder.frozen


def identity_of(encoder: ImageEncoder) -> str:
    """Checksum of what an embedding depends on: the backbone's weights or file, and its layout."""
    digest = hashlib.sha256(f"{encoder.backbone.sha256}\n{_layout(encoder)}".encode())
    for name, tensor in encoder.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _layout(encoder: ImageEncoder) -> dict[str, Any]:
    tap = encoder.backbone.taps[EMBEDDING]
    return {"channels": tap.channels, "stride": tap.grid.stride, "side": encoder.backbone.side}


@torch.no_grad()
def embed(encoder: ImageEncoder, image: np.ndarray) -> np.ndarray:
    """The embedding (C, h, w) float16 of an image (H, W, 3) uint8 RGB, as sessions encode it."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    maps = encoder.maps(encoder.resized(x.to(encoder.mean.device)))
    return maps[EMBEDDING][0].cpu().numpy().astype(np.float16)


class _Work:
    """Encode one image file into a folder; for processes."""

    def __init__(self, encoder: ImageEncoder, folder: Path):
        self.encoder, self.folder = encoder, folder

    def __call__(self, image: Path) -> tuple[str, str]:
        """The image's checksum, and what is wrong with it (nothing: empty)."""
        key = checksum(image)
        file = self.folder / f"{key}.npy"
        if not file.is_file():
            try:
                pixels = read_image(image)
            except (ValueError, OSError) as error:
                return key, str(error)
            write_whole_array(file, embed(self.encoder, pixels))
        return key, ""


def write_embeddings(
    encoder: ImageEncoder, images: Iterable[Path], folder: Path, workers: Workers = HERE,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Compute the embeddings of images that have none in the folder yet.

    Args:
        encoder: from `embedding_encoder`, or of a model.
        images: files.
        folder: made if needed.
        workers: who computes; all see the images and the folder under these paths.
        progress: called with the number of images that are done, of those asked for.

    Returns:
        what is wrong with images that cannot be read, a line each.

    Raises:
        ValueError: the folder holds embeddings of another encoder, or another process writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder, "embeddings"):
        return _write(encoder, list(dict.fromkeys(images)), folder, workers, progress)


def _write(
    encoder: ImageEncoder, images: list[Path], folder: Path, workers: Workers,
    progress: Callable[[int], None],
) -> list[str]:
    head = {"format": FORMAT, "encoder": _public_name(encoder), "identity": identity_of(encoder),
            **_layout(encoder), "dtype": "float16"}
    path = folder / MANIFEST
    kept = _read_manifest(path, head) if path.is_file() else {}
    write_whole_text(path, _text(head, kept))  # whose the files are, before there is one
    bad, known = [], {entry["image"]: key for key, entry in kept.items()}
    with contextlib.closing(workers.each(_Work(encoder, folder), images)) as numbered:
        results = zip(images, in_order(numbered), strict=True)
        for done, (image, (key, problem)) in enumerate(results, 1):
            progress(done)
            if problem:
                bad.append(f"{image}: {problem}")
            elif key not in kept or known.get(str(image)) != key:
                first = kept.get(key, {}).get("image", str(image))
                kept[key] = {"image": first, **_facts_of(folder / f"{key}.npy")}
    write_whole_text(path, _text(head, kept))
    return bad


def _facts_of(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(
            f"A worker wrote {file}, and it is not here: with --ray the folder has to be one that "
            "all machines see under this path."
        )
    return {"sha256": checksum(file), "shape": list(np.load(file, mmap_mode="r").shape)}


def _public_name(encoder: ImageEncoder) -> str:
    return family_of(encoder.name).public_name(encoder.name)


def _text(head: dict[str, Any], kept: dict[str, dict]) -> str:
    return json.dumps({**head, "images": dict(sorted(kept.items()))}, indent=1) + "\n"


def _read_manifest(path: Path, head: dict[str, Any]) -> dict[str, dict]:
    """The entries of a manifest whose encoder is that of `head`."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        images = dict(stored.pop("images"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no manifest of `fdrn encode` ({error!r}); name another folder."
        ) from error
    # A file that was moved has another name and is the same encoder.
    other = [k for k, v in head.items() if k != "encoder" and stored.get(k) != v]
    if other:
        said = "; ".join(
            f"{k}: {str(stored.get(k))[:16]} there, {str(head[k])[:16]} here" for k in other
        )
        raise ValueError(
            f"{path.parent} holds embeddings of another encoder ({stored.get('encoder')} there, "
            f"{head['encoder']} here; {said}). Name another folder, or the encoder they are of."
        )
    return images


def require_manifest(folder: Path) -> Path:
    """The manifest of a folder of embeddings.

    Raises:
        ValueError: there is none.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"There is no {path}: write embeddings with `fdrn encode --out {folder}`."
        )
    return path


class Embeddings:
    """Reads what `write_embeddings` wrote.

    Args:
        folder: of the embeddings.
        encoder: of the model that is to be trained.

    Raises:
        ValueError: there are none, or they are of another encoder.
    """

    def __init__(self, folder: Path, encoder: ImageEncoder):
        self.folder = Path(folder)
        path = require_manifest(self.folder)
        head = {"format": FORMAT, "encoder": _public_name(encoder),
                "identity": identity_of(encoder), **_layout(encoder), "dtype": "float16"}
        self._kept = _read_manifest(path, head)

    def __contains__(self, image_sha256: str) -> bool:
        return image_sha256 in self._kept

    def of(self, image_sha256: str) -> np.ndarray:
        """The embedding (C, h, w) float16 of an image, mapped into memory: read only.

        Raises:
            ValueError: it is not there, or its file is damaged.
        """
        entry = self._kept.get(image_sha256)
        file = self.folder / f"{image_sha256}.npy"
        if entry is None or not file.is_file():
            raise ValueError(
                f"{self.folder} has no embedding of the image with sha256 {image_sha256}: run "
                "`fdrn encode` on the same data."
            )
        try:
            found = np.load(file, mmap_mode="r")
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}); delete it and encode again.") from error
        if list(found.shape) != entry["shape"] or found.dtype != np.float16:
            raise ValueError(
                f"{file} holds {found.dtype} {found.shape}, the manifest says float16 "
                f"{entry['shape']}; delete it and encode again."
            )
        return found

    def check(self) -> list[str]:
        """Names of files whose content is not what the manifest says; reads everything."""
        return [
            f"{key}.npy" for key, entry in self._kept.items()
            if not (self.folder / f"{key}.npy").is_file()
            or checksum(self.folder / f"{key}.npy") != entry["sha256"]
        ]
