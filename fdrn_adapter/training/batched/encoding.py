"""What `fdrn encode` does: embeddings of images, with a progress bar."""

import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.hosts.catalogue import encoder_of
from fdrn_adapter.training.batched.embeddings import gives_embedding, write_embeddings
from fdrn_adapter.workers import Workers, few_threads
from fdrn_adapter.zoo.named import open_network


def encoder_of_network(source: str) -> ImageEncoder:
    """The image encoder of a zoo's network or of a checkpoint.

    Raises:
        ValueError: it has none whose embedding could be kept.
    """
    encoder = encoder_of(open_network(source).model)
    if not gives_embedding(encoder):
        raise ValueError(
            f"{source} has no frozen image encoder that gives an embedding. Only such can be kept: "
            "networks with encoder='onnx:FILE' or 'distilled_lite0', freeze_encoder=True."
        )
    return encoder


def encode(
    encoder: ImageEncoder, images: list[Path], out: Path, workers: Workers,
    say: Callable[[str], None],
) -> list[str]:
    """`write_embeddings` with a progress bar and a line about the time."""
    few_threads()
    start = time.monotonic()
    with tqdm(total=len(images), unit="image", desc="encode", disable=None) as bar:
        bad = write_embeddings(encoder, images, out, workers, lambda done: bar.update(done - bar.n))
    seconds = max(1e-9, time.monotonic() - start)
    say(f"encoded in {seconds:.1f} s ({len(images) / seconds:.2f} images/s, those that were there "
        "before included)")
    return bad
