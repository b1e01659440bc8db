"""Label Studio's brush format, read slowly."""

import numpy as np


def decoded_brush(rle, shape):
    """A slow reading of Label Studio's format, from its description."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    number, bits = int(bits[:32], 2), bits[32:]
    word, bits = int(bits[:5], 2) + 1, bits[5:]
    sizes, bits = [int(bits[4 * i : 4 * i + 4], 2) + 1 for i in range(4)], bits[16:]
    values = []
    while len(values) < number:
        run, size, bits = bits[0] == "1", sizes[int(bits[1:3], 2)], bits[3:]
        length, bits = int(bits[:size], 2) + 1, bits[size:]
        for _ in range(1 if run else length):
            value, bits = int(bits[:word], 2), bits[word:]
            values += [value] * (length if run else 1)
    return np.array(values[:number]).reshape(*shape, 4)[..., 3] > 0
