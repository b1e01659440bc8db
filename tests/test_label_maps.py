"""Masks and instance maps in all forms: what they hold is read as that, or refused by name."""

import cv2
import numpy as np
import pytest
from PIL import Image
from support.tiff import tiff

from fdrn_adapter.evaluation import datasets
from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.label_maps import (
    ALWAYS,
    IGNORE,
    NEVER,
    instance_labels,
    one_object,
    read_label_map,
    trimap,
    what_255_is,
    why_no_labels,
    why_no_object,
)

SHAPE = (60, 80)


def disc(radius=20, at=(30, 40)):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - at[0], x - at[1]) < radius


def blocks(values):
    """A map with a block of every value, on background."""
    labels = np.zeros(SHAPE, np.uint8)
    for i, value in enumerate(values):
        row, col = divmod(i, 20)
        labels[row * 4 : row * 4 + 4, col * 4 : col * 4 + 4] = value
    labels[-4:] = 0
    return labels


def void_palette():
    """Pascal VOC's colours: 0 black, 1 (128, 0, 0), 255 (224, 224, 192)."""
    numbers, palette = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(3):
        for channel in range(3):
            palette[:, channel] |= ((numbers >> (3 * bit + channel)) & 1) << (7 - bit)
    return palette.astype(np.uint8)


def save_palette(path, numbers, palette):
    image = Image.fromarray(numbers)
    image.putpalette(palette.astype(np.uint8).ravel().tolist())
    assert image.mode == "P"
    image.save(path)


def folder(tmp_path, kind, masks, image_suffix=".png"):
    """A data set with an image for each mask file name."""
    for name, stored in masks.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / kind).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / (name.partition(".")[0] + image_suffix)),
                    np.full((*SHAPE, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / kind / name), stored)
    return datasets.open_dataset(f"x=folder:{tmp_path}")


# -- what 255 is -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 5, 15, 17, 51])
def test_values_spread_over_0_to_255_are_objects(count):
    """RITM's demo saves so; the last object used to be void."""
    ids = blocks(range(1, count + 1))
    labels = instance_labels(ids * (255 // count))
    assert np.array_equal(labels // (255 // count), ids) and labels.max() == 255
    assert "object" in what_255_is(ids * (255 // count))


@pytest.mark.parametrize("values", [
    (64, 128, 191, 255), (63, 127, 191, 255), [i * 255 // 7 for i in range(1, 8)],
    [round(i * 255 / 9) for i in range(1, 10)],
])
def test_spread_values_may_be_rounded(values):
    """As of np.linspace, or of 255 * id // count."""
    assert instance_labels(blocks(values)).max() == 255
    assert "object" in what_255_is(blocks(values))


def test_numbers_up_to_254_are_not_taken_for_spread_ones():
    ends = np.repeat(np.array([*range(1, 254), 255], np.uint8), 16).reshape(254 * 4, 4)
    assert (instance_labels(ends) == IGNORE).sum() == 16


@pytest.mark.parametrize("values", [
    (1, 255), (85, 255), (1, 2, 255), (51, 102, 255), (20, 30, 255),
])
def test_255_beside_other_labels_is_void(values):
    stored = blocks(values)
    labels = instance_labels(stored)
    assert np.array_equal(labels == IGNORE, stored == 255)
    assert np.array_equal(labels[stored != 255], stored[stored != 255])
    assert "void" in what_255_is(stored)
    assert (instance_labels(stored, NEVER) == stored).all()


def test_the_user_says_what_255_is(tmp_path, caplog):
    assert (instance_labels(blocks([85, 170, 255]), ALWAYS) == IGNORE).any()
    assert (instance_labels(blocks([255]), ALWAYS) == IGNORE).any()
    assert what_255_is(blocks([255])) == "" == what_255_is(blocks([1, 2]))
    data = folder(tmp_path, "instances", {"a.png": blocks([1, 255]), "b.png": blocks([1, 255])})
    assert data.ids == ["a#1", "b#1"]
    assert caplog.text.count("255 is taken for void") == 1 and "folder255:DIR" in caplog.text
    data = datasets.open_dataset(f"folder255:{tmp_path}")
    assert data.ids == ["a#1", "a#255", "b#1", "b#255"]
    assert (data.load(0).mask >= 0).all() and (data.load(1).mask == 1).any()
    assert datasets.open_dataset(f"y=folder255:{tmp_path}").name == "y"


# -- layers, of which one would be taken for the map ---------------------------------------------


@pytest.mark.parametrize(("size", "number"), [((60, 80, 4), 1), ((60, 80, 2), 1), ((60, 80, 1), 3)])
def test_stacks_of_maps_are_refused(size, number, tmp_path):
    """OpenCV reads the first band of the first page; the objects of the others were lost."""
    (tmp_path / "x.tif").write_bytes(tiff(np.ones(size, np.uint8), photometric=1, pages=number))
    with pytest.raises(ValueError, match=f"{number} pages of {size[2]} bands.*NAME_1"):
        read_label_map(tmp_path / "x.tif")


@pytest.mark.parametrize("orientation", [3, 6])
def test_palettes_in_tiff_files_lie_as_their_photograph(orientation, tmp_path):
    """Pillow garbles those on their side when it opens them by their path."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(blocks([1, 2, 3]))
    image.putpalette(void_palette().ravel().tolist())
    image.save(tmp_path / "x.tif", exif=exif)
    want = np.rot90(blocks([1, 2, 3]), {3: 2, 6: -1}[orientation])
    assert np.array_equal(read_label_map(tmp_path / "x.tif"), want)


# -- palettes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_palettes_are_read_by_their_numbers(suffix, tmp_path):
    """The border used to become an object named by its colour."""
    numbers = blocks([1, 2, 255])
    save_palette(tmp_path / f"p{suffix}", numbers, void_palette())
    Image.fromarray(numbers).save(tmp_path / "plain.png")
    with_palette, plain = (read_label_map(tmp_path / n) for n in (f"p{suffix}", "plain.png"))
    assert np.array_equal(with_palette, plain)
    assert set(np.unique(instance_labels(with_palette))) == {IGNORE, 0, 1, 2}
    colours = read_label_map(tmp_path / f"p{suffix}", colours=True)
    assert colours.ndim == 3 and tuple(colours[0, 0]) == (0, 0, 128)


@pytest.mark.parametrize("palette", ["gray", "moved"])
def test_palettes_of_optimised_pictures_are_read_by_their_colours(palette, tmp_path):
    """Tools turn any picture of few values into a palette, in an order of theirs."""
    numbers = blocks([1, 2, 3])
    colours = np.zeros((256, 3), np.uint8)
    colours[:4] = [[0] * 3, [85] * 3, [170] * 3, [255] * 3] if palette == "gray" else \
        [[200, 0, 0], [0, 0, 0], [0, 200, 0], [0, 0, 200]]
    save_palette(tmp_path / "p.png", numbers, colours)
    Image.fromarray(colours[numbers]).save(tmp_path / "colours.png")
    got, want = (instance_labels(read_label_map(tmp_path / n)) for n in ("p.png", "colours.png"))
    assert np.array_equal(got, want) and len(np.unique(got)) == 4


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_files_of_few_bits(bits, tmp_path):
    """OpenCV spreads their values over 0 to 255, and the last would be void."""
    import struct
    import zlib

    values = np.arange(2**bits, dtype=np.uint8).repeat(8 // bits * 2)[None].repeat(8, 0)
    packed = np.packbits(
        np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(8, -1), axis=1
    )

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", values.shape[1], 8, bits, 0, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    want = values * 255 if bits == 1 else values
    assert np.array_equal(read_label_map(tmp_path / "x.png"), want)


# -- soft and lossy ----------------------------------------------------------------------------


def test_lossy_maps_are_refused_by_name(tmp_path):
    """One disc used to be 59, 194 or 3,488 objects."""
    hard = disc().astype(np.uint8) * 255
    colour = np.zeros((*SHAPE, 3), np.uint8)
    colour[disc()] = (0, 128, 200)
    masks = {
        "lossy.jpg": hard, "soft.png": cv2.GaussianBlur(hard, (5, 5), 0),
        "resized.png": cv2.resize(cv2.resize(hard, (37, 23), interpolation=cv2.INTER_AREA),
                                  SHAPE[::-1], interpolation=cv2.INTER_LINEAR),
        "colours.jpg": colour,
    }
    data = folder(tmp_path, "instances", masks)
    assert len(data) == 4
    for i in range(4):
        with pytest.raises(BadSampleError, match=r"has \d+ labels, \d+ of them nowhere 3 pixels"):
            data.load(i)


def test_a_few_numbers_in_a_lossy_format(tmp_path):
    """They come back as 0, 1, 2, 3, 4, and every block is another mixture."""
    maps = np.zeros(SHAPE, np.uint8)
    for value in (1, 2, 3):
        maps[10:40, 25 * value - 20 : 25 * value] = value
    data = folder(tmp_path, "instances", {"a.jpg": maps})
    with pytest.raises(BadSampleError, match="lossy format"):
        data.load(0)
    assert why_no_labels(instance_labels(read_label_map(tmp_path / "instances" / "a.jpg"))) == ""


def test_many_small_objects_are_no_soft_borders():
    assert why_no_labels(instance_labels(blocks(range(1, 200)))) == ""
    assert why_no_labels(instance_labels(disc().astype(np.uint8) * 255)) == ""
    lines = np.zeros(SHAPE, np.uint8)
    lines[::10] = 1  # an object may be a line
    assert why_no_labels(instance_labels(lines)) == ""


def test_lossy_masks_of_one_object_are_read(tmp_path):
    hard = disc().astype(np.uint8) * 255
    data = folder(tmp_path, "masks", {"a.jpg": hard, "b.png": cv2.GaussianBlur(hard, (5, 5), 0)})
    for i in range(2):
        mask = data.load(i).mask == 1
        assert (mask & disc()).sum() / (mask | disc()).sum() > 0.95
        assert not mask[:5].any()  # specks of value 1 used to be the object, too
    speckled = hard.copy()
    speckled[0, :7] = 1
    assert trimap(speckled)[0, :7].all() and not trimap(speckled, soft=True)[0].any()


# -- values that are none ----------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "message"), [
    (blocks([2, 3, 128]), "values are 0, 2, 3, 128; expected"),
    (blocks([1, 2, 3]), "values are 0, 1, 2, 3; expected"),
    (blocks([1, 2, 255]), "values are 0, 1, 2, 255: .* void border"),
    (blocks([]), "the mask is empty"),
])
def test_masks_of_other_values_are_named(stored, message, tmp_path):
    data = folder(tmp_path, "masks", {"a.png": stored})
    with pytest.raises(BadSampleError, match=message):
        data.load(0)


@pytest.mark.parametrize("stored", [
    disc().astype(np.uint8), disc() * np.uint8(255), blocks([128, 255]), blocks([1, 128]),
    cv2.GaussianBlur(disc() * np.uint8(255), (5, 5), 0),
])
def test_masks_of_one_object_are_no_reason_to_ask(stored):
    assert why_no_object(stored) == ""
    assert (trimap(stored) == 1).any()


@pytest.mark.parametrize(("stored", "message"), [
    (np.full(SHAPE, 0.5, np.float32), "whole numbers"), (np.full(SHAPE, -7, np.int16), "-7 to -7"),
    (np.full(SHAPE, np.nan, np.float32), "nan"),
])
def test_values_that_are_no_labels(stored, message):
    with pytest.raises(ValueError, match=message):
        instance_labels(stored)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint32, np.float32])
def test_labels_of_any_dtype(dtype):
    stored = blocks([1, 2, 255]).astype(dtype)
    assert np.array_equal(instance_labels(stored), stored)  # 255 is void in 8 bits only
    if np.issubdtype(dtype, np.signedinteger):
        assert instance_labels(np.full(SHAPE, -1, dtype)).max() == IGNORE


# -- orientation -------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_orientation_is_that_of_the_photograph(orientation, mode, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    numbers = blocks([1, 2, 3])
    image = Image.fromarray(numbers)
    if mode == "P":
        image.putpalette(void_palette().ravel().tolist())
    image.save(tmp_path / "x.png", exif=exif)
    turns = {3: 2, 6: 3, 8: 1}[orientation]
    assert np.array_equal(read_label_map(tmp_path / "x.png"), np.rot90(numbers, turns))


def test_one_object_of_any_colour():
    stored = np.zeros((4, 4, 3), np.uint8)
    stored[0, 0, 1] = 3
    assert one_object(stored).sum() == 1
