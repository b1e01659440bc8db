"""Label Studio's brush format: bits of runs of a picture's RGBA values."""

import numpy as np

LENGTH_BITS = (3, 8, 12, 16)  # a run says in 2 bits which of them its length has


def brush_rle(mask: np.ndarray) -> list[int]:
    """A mask (H, W) as Label Studio's "rle": bytes, of which the editor makes a brush region.

    A header of 32 bits with the number of values, 5 with the bits of a value less one, and four
    times 4 with those of a length less one; then runs: a 1, 2 bits for the kind of length, the
    length less one, and the value in 8 bits.
    """
    values = np.asarray(mask, bool).ravel()
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    edges = np.concatenate([[0], changes, [values.size]])
    bits = [f"{values.size * 4:032b}", f"{8 - 1:05b}", *(f"{n - 1:04b}" for n in LENGTH_BITS)]
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        value = "11111111" if values[start] else "00000000"
        bits += [_run(length, value) for length in _lengths(int(stop - start) * 4)]
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tolist()


def _lengths(total: int) -> list[int]:
    longest = 2 ** LENGTH_BITS[-1]
    return [longest] * (total // longest) + ([total % longest] if total % longest else [])


def _run(length: int, value: str) -> str:
    kind = next(k for k, bits in enumerate(LENGTH_BITS) if length <= 2**bits)
    return f"1{kind:02b}{length - 1:0{LENGTH_BITS[kind]}b}{value}"
