"""Pictures in all forms: the same picture gives the same array, or an error with a remedy."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from support.tiff import tiff

from fdrn_adapter.images import as_rgb, decode_image, read_image


def picture(rows=20, cols=30, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (rows, cols, 3)).astype(np.uint8)


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (10, 2), (12, 4), (14, 6), (16, 8)])
def test_16_bit_files_are_scaled_by_the_bits_that_are_used(bits, shift, tmp_path):
    want = picture()
    want[0, 0] = 255
    stored = want.astype(np.uint16) << shift
    assert stored.max() < 2**bits
    cv2.imwrite(str(tmp_path / "x.png"), stored[..., ::-1])
    assert np.array_equal(read_image(tmp_path / "x.png"), want)
    assert np.array_equal(decode_image(tiff(stored)), want)
    gray = Image.fromarray(stored[..., 0].copy())
    assert gray.mode.startswith("I;16")
    assert np.array_equal(as_rgb(gray), np.repeat(want[..., :1], 3, axis=2))


def test_full_range_files_are_as_they_were(tmp_path):
    stored = np.random.default_rng(0).integers(0, 2**16, (20, 30, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "x.png"), stored)
    before = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(read_image(tmp_path / "x.png"), before)


@pytest.mark.parametrize(("pixels", "kind", "message"), [
    (np.full((9, 8, 3), -5, np.int16), 2, r"from -5 to -5 in int16.*tifffile"),
    (np.linspace(-3, 9, 216).reshape(9, 8, 3).astype(np.float32), 3, r"-3 to 9 in float32"),
    (np.full((9, 8, 1), 70_000, np.uint32), 1, r"70000 to 70000 in uint32"),
    (np.full((9, 8, 3), np.nan, np.float32), 3, "nan"),
])
def test_values_without_a_known_range_are_refused(pixels, kind, message):
    photometric = 2 if pixels.shape[2] == 3 else 1
    with pytest.raises(ValueError, match=message):
        decode_image(tiff(pixels, kind, photometric))


@pytest.mark.parametrize("bands", [1, 3])
def test_float_tiffs_in_0_to_1(bands):
    want = picture()[..., :bands]
    got = decode_image(tiff((want / 255).astype(np.float32), 3, 2 if bands == 3 else 1))
    assert np.array_equal(got, np.broadcast_to(want, got.shape))


@pytest.mark.parametrize(("bands", "photometric", "extra"), [
    (4, 2, (0,)), (4, 1, (0, 0, 0)), (5, 1, (0, 0, 0, 0)), (2, 1, (0,)), (6, 2, (0, 0, 0)),
])
def test_bands_beyond_colours_are_refused(bands, photometric, extra):
    """RGB and near infrared used to be read as gray, from the first band."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, bands)).astype(np.uint8)
    with pytest.raises(ValueError, match=rf"{bands} bands of 8 bits.*tifffile"):
        decode_image(tiff(pixels, 1, photometric, extra))


@pytest.mark.parametrize("photometric", [8, 32803])
def test_bands_that_are_no_colours_are_refused(photometric):
    """CIE Lab was read as if it were RGB."""
    with pytest.raises(ValueError, match="neither gray nor RGB.*ImageCms"):
        decode_image(tiff(picture(), photometric=photometric))


def test_what_opencv_reads_of_tiff_files_in_few_forms():
    want = picture()
    double = (want[..., :1] / 255).astype(np.float64)
    assert np.array_equal(decode_image(tiff(double, 3, 1)), want[..., :1].repeat(3, 2))
    with pytest.raises(ValueError, match=r"1 bands of 16 bits.*tifffile\.imread"):
        decode_image(tiff(double.astype(np.float16), 3, 1))


def test_pages_after_the_first_are_told(caplog):
    want = picture()
    assert np.array_equal(decode_image(tiff(want)), want) and not caplog.records
    assert np.array_equal(decode_image(tiff(want, pages=3), "x.tif"), want)
    assert "x.tif has 3 pages" in caplog.text


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "1", "L", "LA", "RGBA", "RGB", "PA"])
def test_pil_images_of_all_modes(mode):
    """Colours used to be off by up to 140 gray values."""
    image = Image.fromarray(picture()).convert("P").convert("PA") if mode == "PA" \
        else Image.fromarray(picture()).convert(mode)
    assert np.array_equal(as_rgb(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pil_images_are_upright_as_their_files_are(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "x.png", exif=exif)
    by_path = read_image(tmp_path / "x.png")
    assert np.array_equal(as_rgb(Image.open(tmp_path / "x.png")), by_path)
    assert np.array_equal(as_rgb((tmp_path / "x.png").read_bytes()), by_path)
    assert by_path.shape == ((20, 30, 3) if orientation < 5 else (30, 20, 3))


def test_floats_and_wide_integers_of_pil():
    values = picture()[..., 0]
    floats = Image.fromarray((values / 255).astype(np.float32))
    assert np.array_equal(as_rgb(floats)[..., 0], values)
    with pytest.raises(ValueError, match="no known range"):
        as_rgb(Image.fromarray(values.astype(np.int32)))


@pytest.mark.parametrize("content", [
    b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 40_000, 40_000, 1, 24, *[0] * 6),
    b"P6 40000 40000 255\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0),
])
def test_headers_of_billions_of_pixels(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=r"x (cannot be read: .*2\^30 pixels|is not an image)"):
        read_image(tmp_path / "x")


def test_the_result_is_a_copy():
    given = picture()
    got = as_rgb(given)
    before = got.copy()
    given[:] = 0
    assert np.array_equal(got, before)


@pytest.mark.parametrize("shape", [(7, 1, 3), (1, 7, 3), (7, 1), (1, 1, 4)])
def test_mirrored_images_of_one_column(shape):
    """Their negative strides used to stay, which torch refuses."""
    import torch

    given = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)[::-1, ::-1]
    got = as_rgb(given)
    assert min(got.strides) > 0
    first = given.reshape(*shape[:2], -1)[..., 0]
    assert np.array_equal(torch.from_numpy(got).numpy()[..., 0], first)


def test_one_decoder_for_bytes_paths_and_views(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    for given in (buffer.getvalue(), bytearray(buffer.getvalue()), buffer.getbuffer(),
                  str(tmp_path / "x.png")):
        assert np.array_equal(as_rgb(given), picture())
    with pytest.raises(ValueError, match="not an image"):
        as_rgb(b"")
