"""TIFF files of any bands, bits and pages, which no library here writes."""

import struct


def tiff(pixels, kind=1, photometric=2, extra=(), pages=1):
    """A TIFF file of one strip, written by hand: (H, W, bands) in any dtype."""
    rows, cols, bands = pixels.shape
    bits = pixels.dtype.itemsize * 8
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for page in range(pages):
        tags = [(256, 4, [cols]), (257, 4, [rows]), (258, 3, [bits] * bands), (259, 3, [1]),
                (262, 3, [photometric]), (273, 4, [0]), (277, 3, [bands]), (278, 4, [rows]),
                (279, 4, [pixels.nbytes]), (284, 3, [1]), (339, 3, [kind] * bands)]
        if extra:
            tags.append((338, 3, list(extra)))
        tags.sort()
        start = len(out)
        data_at = start + 2 + 12 * len(tags) + 4
        tail = bytearray()
        directory = bytearray(struct.pack("<H", len(tags)))
        for tag, form, values in tags:
            packed = struct.pack(f"<{len(values)}{'H' if form == 3 else 'I'}", *values)
            if tag == 273:
                directory += struct.pack("<HHI", tag, form, 1) + b"DATA"
            elif len(packed) > 4:
                directory += struct.pack("<HHII", tag, form, len(values), data_at + len(tail))
                tail += packed
            else:
                directory += struct.pack("<HHI", tag, form, len(values)) + packed.ljust(4, b"\0")
        place = data_at + len(tail)
        directory = directory.replace(b"DATA", struct.pack("<I", place))
        after = place + pixels.nbytes if page + 1 < pages else 0
        out += directory + struct.pack("<I", after) + tail + pixels.tobytes()
    return bytes(out)
