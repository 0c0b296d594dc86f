import io
import struct
import threading
import warnings
import zlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import PAGE, SEVEN, encoded, png
from PIL import Image, ImageCms, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from digitsum.reading import decoding
from digitsum.reading.imaging import read_picture


def unreadable(why: str) -> AbstractContextManager[object]:
    return pytest.raises(ValueError, match=f"^the picture can't be read: {why}")


# Kinds of pictures


MODES = ["1", "L", "P", "LA", "La", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16B"]


@pytest.mark.parametrize("mode", MODES)
def test_pillow_images_of_every_mode_are_read_alike(mode: str) -> None:
    image = Image.fromarray(PAGE.astype(np.uint16) * 257 if mode.startswith("I") else PAGE)
    if mode in ("La", "PA", "RGBa"):  # which grey can't become at once
        image = image.convert("RGBA" if mode == "RGBa" else "LA")
    np.testing.assert_array_equal(read_picture(image.convert(mode)), SEVEN)


@pytest.mark.parametrize("kind", [None, "TIFF"])
def test_of_a_picture_in_lab_mode_the_lightness_is_read(kind: str | None) -> None:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    page = Image.fromarray(PAGE).convert("RGB")
    picture = ImageCms.applyTransform(page, ImageCms.buildTransform(rgb, lab, "RGB", "LAB"))
    assert picture.mode == "LAB"
    np.testing.assert_array_equal(read_picture(encoded(picture, kind) if kind else picture), SEVEN)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_files_are_read_from_a_path_bytes_and_a_file(tmp_path: Path, kind: str) -> None:
    file = encoded(Image.fromarray(PAGE), kind)
    path = tmp_path / "seven"  # a format is known by its content
    path.write_bytes(file)
    for picture in (path, str(path), file, io.BytesIO(file)):
        np.testing.assert_array_equal(read_picture(picture), SEVEN)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_lossy_files_are_read_nearly_alike(kind: str, mode: str) -> None:
    image = Image.fromarray(PAGE).convert(mode if kind == "JPEG" else "RGB")
    difference = read_picture(encoded(image, kind)).astype(int) - SEVEN
    assert np.abs(difference).max() <= 8


COLOURS = np.dstack([PAGE] * 3)
OPAQUE = np.dstack([COLOURS, np.full_like(PAGE, 255)])
ARRAYS = {
    "bool": PAGE == 255,
    "uint16": PAGE.astype(np.uint16) * 257,
    "big-endian": (PAGE.astype(np.uint16) * 257).astype(">u2"),
    "float64": PAGE / 255,
    "float16": (PAGE / 255).astype(np.float16),
    "RGB": COLOURS,
    "float RGB": COLOURS / 255,
    "bool RGB": COLOURS == 255,
    "uint16 RGB": COLOURS.astype(np.uint16) * 257,
    "big-endian RGB": (COLOURS.astype(np.uint16) * 257).astype(">u2"),
    "RGBA": OPAQUE,
    "bool RGBA": OPAQUE == 255,
    "uint16 RGBA": OPAQUE.astype(np.uint16) * 257,
    "view": PAGE[::-1][::-1],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_every_kind_are_read_alike(array: np.ndarray) -> None:
    np.testing.assert_array_equal(read_picture(array), SEVEN)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    np.testing.assert_array_equal(decoding.decode(levels * 257), levels)
    np.testing.assert_array_equal(decoding.decode(np.dstack([levels * 256 + 255 - levels] * 3)), levels)
    np.testing.assert_allclose(decoding.decode(png(levels + 2_000)), (levels + 2_000) / 257, rtol=1e-6)


def test_transparency_is_white_paper() -> None:
    picture = np.zeros((*PAGE.shape, 4), np.uint8)  # black everywhere, the paper transparent
    picture[..., 3] = 255 - PAGE
    palette = Image.fromarray(PAGE // 255)  # two dark greys, one transparent
    for file in (png(picture), encoded(palette, "PNG", transparency=1)):
        np.testing.assert_array_equal(read_picture(file), SEVEN)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("level", [200, 229, 230, 255])
def test_light_ink_on_a_transparent_canvas_is_read(level: int, mode: str) -> None:
    picture = np.full((*PAGE.shape, 2), level, np.uint8)
    picture[..., 1] = 255 - PAGE  # transparent but for the ink
    image = Image.fromarray(picture).convert(mode)
    np.testing.assert_array_equal(read_picture(image), SEVEN)
    np.testing.assert_array_equal(read_picture(encoded(image, "PNG")), SEVEN)


def test_an_image_of_mnist_as_white_ink_on_a_transparent_canvas_comes_back_unchanged() -> None:
    picture = np.full((28, 28, 4), 255, np.uint8)
    picture[..., 3] = SEVEN
    np.testing.assert_array_equal(read_picture(picture), SEVEN)


def test_dark_ink_on_a_white_sheet_with_transparent_surroundings_is_read() -> None:
    picture = np.zeros((200, 180, 4), np.uint8)
    picture[40:160, 40:140] = OPAQUE
    np.testing.assert_array_equal(read_picture(picture), SEVEN)


def test_a_white_sheet_with_transparent_corners_is_empty() -> None:
    picture = np.full((120, 100, 4), 255, np.uint8)
    picture[:9, :9] = picture[:9, -9:] = picture[-9:, :9] = picture[-9:, -9:] = 0
    assert decoding.decode(picture).min() == 255
    with unreadable("no ink stands out from its background$"):
        read_picture(picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_data_say(orientation: int) -> None:
    turns = {  # how a viewer turns what is stored, so the inverse stores what a viewer shows upright
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # shown turned by 270 degrees anticlockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image, exif = Image.fromarray(PAGE), Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(turns[orientation]) if orientation > 1 else image
    np.testing.assert_array_equal(read_picture(encoded(stored, "PNG", exif=exif)), SEVEN)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_pillow_image_is_turned_and_stays_as_it_was(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(PAGE), kind, exif=exif)
    picture, same = Image.open(io.BytesIO(file)), Image.open(io.BytesIO(file))
    np.testing.assert_array_equal(read_picture(picture), read_picture(file))
    np.testing.assert_array_equal(picture, same)
    assert picture.getexif() == same.getexif()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_data_dont_matter(kind: str) -> None:
    whole, exif = encoded(Image.fromarray(PAGE), kind, quality=95), b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    damaged = encoded(Image.fromarray(PAGE), kind, quality=95, exif=exif)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        Image.open(io.BytesIO(damaged)).getexif()
    np.testing.assert_array_equal(read_picture(damaged), read_picture(whole))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.fromarray(PAGE).convert("RGB"), Image.fromarray(PAGE[::-1]).convert("RGB")]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_picture(file), SEVEN)


@pytest.mark.parametrize("size", [(100, 120), (2000, 2400)])
def test_of_a_jpeg_with_further_frames_the_first_is_read(size: tuple[int, int]) -> None:
    page = Image.fromarray(PAGE).resize(size)
    file = encoded(page, "MPO", save_all=True, append_images=[page.transpose(Image.Transpose.ROTATE_180)])
    assert Image.open(io.BytesIO(file)).n_frames == 2
    np.testing.assert_array_equal(read_picture(file), read_picture(encoded(page, "JPEG")))


def test_of_a_tiff_with_more_pages_the_first_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Image.fromarray(PAGE), Image.fromarray(PAGE[::-1])
    for name, more in (("one.tif", []), ("two.tif", [second])):
        first.save(tmp_path / name, save_all=True, append_images=more)
        np.testing.assert_array_equal(read_picture(tmp_path / name), SEVEN)
    read_picture((tmp_path / "two.tif").read_bytes())
    for kind in ("GIF", "MPO"):  # animations, and what a phone writes
        read_picture(encoded(first, kind, save_all=True, append_images=[second]))
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("digitsum", "WARNING", f"{tmp_path / 'two.tif'} has further pages: the first is read"),
        ("digitsum", "WARNING", "the picture has further pages: the first is read"),
    ]


def large_jpeg(size: tuple[int, int], **options: object) -> bytes:
    """The seven, drawn on a grey page so large that its decoder makes it smaller."""
    image = Image.fromarray(PAGE).convert("L").resize(size, Image.Resampling.BICUBIC)
    return encoded(image.point(lambda level: 40 + level * 0.7).convert("RGB"), "JPEG", quality=90, **options)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        *((size, {}) for size in ((800, 960), (1000, 1200), (1667, 2001), (2001, 3333), (3000, 4032))),
        ((1667, 2001), {"progressive": True}),
        ((1667, 2001), {"keep_rgb": True}),
    ],
    ids=str,
)
def test_a_jpeg_decoded_smaller_is_read_as_one_decoded_whole(
    size: tuple[int, int], options: dict[str, bool]
) -> None:
    file = large_jpeg(size, **options)
    whole = Image.open(io.BytesIO(file))
    expected = read_picture(np.asarray(whole))  # an array has no decoder
    assert np.abs(read_picture(file).astype(int) - expected).max() <= 4
    np.testing.assert_array_equal(read_picture(whole), expected)  # nor does what somebody else opened
    assert whole.size == size


def test_a_large_jpeg_isnt_decoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    grey = decoding._grey

    def seen(image: Image.Image, factor: int) -> decoding.Grey:
        sizes.append(image.size)
        return grey(image, factor)

    monkeypatch.setattr(decoding, "_grey", seen)
    for size in ((400, 500), (1000, 1200), (3000, 4000)):
        read_picture(large_jpeg(size))
    assert sizes == [(400, 500), (1000, 1200), (375, 500)]  # a third is no power of two


def test_a_photo_of_48_megapixels_is_read() -> None:
    page = Image.fromarray(PAGE).resize((6048, 8064), Image.Resampling.NEAREST)
    image = read_picture(encoded(page, "JPEG"))
    expected = read_picture(page.resize((378, 504), Image.Resampling.BOX))
    assert np.abs(image.astype(int) - expected).max() <= 32  # the last shrinking is by 24 as a whole, not 16


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_a_large_photo_is_turned_as_its_exif_data_say(orientation: int, turn: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = large_jpeg((1600, 2000), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    straight = Image.open(io.BytesIO(large_jpeg((1600, 2000))))
    assert upright.transpose(turn).tobytes() == straight.tobytes()
    assert np.abs(read_picture(file).astype(int) - read_picture(np.asarray(upright))).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(1, 3000), (2001, 2), (5, 4001), (1, 60_000)])
def test_a_blank_strip_is_refused_as_any_blank_picture(shape: tuple[int, int], kind: str) -> None:
    with unreadable("no ink stands out from its background"):
        read_picture(encoded(Image.fromarray(np.full(shape, 200, np.uint8)), kind))


def test_blocks_are_averaged_and_the_last_may_have_fewer_pixels() -> None:
    page = np.random.default_rng(0).integers(0, 256, (14, 10)).astype(np.uint8)
    means = [[page[i : i + 6, j : j + 6].mean() for j in range(0, 10, 6)] for i in range(0, 14, 6)]
    np.testing.assert_allclose(decoding._shrink(Image.fromarray(page), 6), means, atol=0.51)


# What can't be read


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_short_is_refused_wherever_it_is_cut(kind: str) -> None:
    whole = encoded(Image.fromarray(PAGE), kind)
    for size in range(1, len(whole) * 3 // 4, max(len(whole) // 40, 1)):
        with unreadable("it is (damaged|none of)"):
            read_picture(whole[:size])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind: str) -> None:
    whole, rng = encoded(Image.fromarray(PAGE), kind), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(damaged), 300), 3):
            damaged[place] = rng.integers(256)
        try:
            assert read_picture(bytes(damaged)).shape == (28, 28)
        except ValueError as error:
            assert str(error).startswith("the picture can't be read: ")  # noqa: PT017


@pytest.mark.parametrize("kind", ["PPM", "ICO", "PDF"])
def test_a_format_that_is_not_listed_is_refused(kind: str) -> None:
    with unreadable("it is none of PNG, JPEG, GIF, BMP, TIFF, WEBP; save it as PNG or JPEG$"):
        read_picture(encoded(Image.fromarray(PAGE), kind))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((10_000, 9_000), r"it has 10000 x 9000 pixels, more than 40000000"),  # Pillow would warn
        ((20_000, 10_000), r"it has more than 40000000 pixels"),  # Pillow refuses
        ((6048, 8064), r"it has 6048 x 8064 pixels, more than 40000000"),  # which a JPEG may have
    ],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], message: str
) -> None:
    file = encoded(Image.new("1", size), "PNG")
    monkeypatch.setattr(decoding, "_grey", None)  # which decodes
    with unreadable(f"{message}; make it smaller$"):
        read_picture(file)


def test_too_many_pixels_of_a_jpeg_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = encoded(Image.fromarray(PAGE), "JPEG")
    start = file.index(b"\xff\xc0\0\x0b\x08") + 5  # of the height and width
    assert struct.unpack(">HH", file[start : start + 4]) == PAGE.shape
    monkeypatch.setattr(decoding, "_grey", None)  # which decodes
    with unreadable("it has 9000 x 8900 pixels, more than 80000000; make it smaller$"):
        read_picture(file[:start] + struct.pack(">HH", 8900, 9000) + file[start + 4 :])


def test_too_many_bytes_are_refused_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    file = io.BytesIO(encoded(Image.fromarray(PAGE), "BMP"))
    with unreadable("it has more than 1000 bytes; make it smaller$"):
        read_picture(file)
    assert file.tell() == 1001


def test_a_second_look_at_a_part_does_not_warn_again(caplog: pytest.LogCaptureFixture) -> None:
    pages = Image.fromarray(PAGE)
    file = encoded(pages, "TIFF", save_all=True, append_images=[pages])
    decoding.decode(file)
    decoding.decode(file, part=(0, 0.5, 0, 1))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_part_of_a_long_file_keeps_the_pixels_that_it_has_in_an_array(kind: str, orientation: int) -> None:
    page, part = np.full((500, 4000), 200, np.uint8), (0.3, 0.8, 0.03, 0.13)
    image, exif = Image.fromarray(page), Image.Exif()
    exif[0x0112] = orientation
    if orientation == 6:  # shown turned by 90 degrees clockwise
        image = image.transpose(Image.Transpose.ROTATE_90)
    file = encoded(image, kind, exif=exif)
    assert decoding.decode(file, part=part).shape == decoding.decode(page, part=part).shape == (250, 400)


@pytest.mark.parametrize("part", ["scan", "EXIF data"])
def test_a_jpeg_that_repeats_a_part_to_take_long_is_refused(part: str) -> None:
    file = encoded(Image.fromarray(PAGE), "JPEG")
    end = len(file) - 2 if part == "scan" else 2
    repeated = file[file.index(b"\xff\xda") : end] if part == "scan" else b"\xff\xe1\0\x08Exif\0\0"
    with unreadable("it repeats a part of a JPEG more than 100 times; save it anew$"):
        read_picture(file[:end] + 101 * repeated + file[end:])


def test_a_jpeg_with_many_blocks_of_exif_data_is_read() -> None:
    file = encoded(Image.fromarray(PAGE), "JPEG")
    picture = file[:2] + 100 * b"\xff\xe1\0\x08Exif\0\0" + file[2:]
    np.testing.assert_array_equal(read_picture(picture), read_picture(file))


def test_a_file_without_a_buffer_is_read_to_its_end() -> None:
    class Pieces(io.RawIOBase):
        left = png(PAGE)

        def read(self, size: int = -1) -> bytes:
            piece, self.left = self.left[:50], self.left[50:]
            return piece

    np.testing.assert_array_equal(read_picture(Pieces()), SEVEN)


def test_a_file_without_a_byte_is_empty(tmp_path: Path) -> None:
    (tmp_path / "seven.png").touch()
    for picture, name in ((tmp_path / "seven.png", tmp_path / "seven.png"), (b"", "the picture")):
        with pytest.raises(ValueError, match=rf"^{name} can't be read: it is empty$"):
            read_picture(picture)


def test_an_open_file_that_stands_at_its_end_says_so() -> None:
    file = io.BytesIO(png(PAGE))
    np.testing.assert_array_equal(read_picture(file), SEVEN)
    with unreadable(r"no bytes are left in the open file: seek\(0\) goes back to its start$"):
        read_picture(file)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (None, r"^a picture is a path, bytes, .* or an array, not a NoneType$"),
        (io.StringIO("seven"), r'^a picture is read from a file opened for bytes, as open\(path, "rb"\)'),
    ],
)
def test_what_is_no_picture_at_all_is_a_type_error(picture: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read_picture(picture)


def test_a_missing_path_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        read_picture(tmp_path / "missing.png")


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_png_with_too_much_beside_its_pixels_is_refused(kind: bytes) -> None:
    file, content = png(PAGE), kind + b"name\0\0" + zlib.compress(bytes(2_000_000))
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    with unreadable("the text or colour profile beside its pixels is too long; save it anew without it$"):
        read_picture(file[:33] + chunk + file[33:])


@pytest.mark.parametrize("error", [MemoryError, RecursionError, KeyboardInterrupt])
@pytest.mark.parametrize("step", [(Image, "open"), (PngImageFile, "load"), (Image.Image, "convert")])
def test_what_isnt_the_pictures_fault_isnt_called_damage(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], step: tuple[object, str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    file = png(PAGE)
    monkeypatch.setattr(*step, fail)
    with pytest.raises(error):
        read_picture(file)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError("unrecognized data stream contents"), "it is damaged: unrecognized data stream contents"),
        (SyntaxError("not a PNG file"), "it is damaged: not a PNG file"),
        (ValueError("bad mode"), "it is damaged: bad mode"),
        (KeyError(3), "it is damaged"),
        (struct.error("unpack requires a buffer of 4 bytes"), "it is damaged"),
        (SystemError("tile cannot extend outside image"), "it is damaged"),
    ],
)
def test_whatever_a_decoder_fails_with_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(PngImageFile, "load", fail)
    with unreadable(f"{sentence}$"):
        read_picture(png(PAGE))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (PAGE * 1.0, "its float64 numbers should be scaled to 0 to 1, but are 0.0 to 255.0"),
        (
            np.where(PAGE == 0, np.nan, 1),
            "its float64 numbers should be scaled to 0 to 1, but are nan to nan",
        ),
        (PAGE / 255 - 0.1, "its float64 numbers should be scaled to 0 to 1, but are -0.1 to 0.9"),
        (
            Image.fromarray(PAGE.astype(np.int32) * 1000),
            "its int32 numbers should be scaled to 0 to 65535, but are 0 to 255000$",
        ),
        (
            PAGE.astype(np.int64),
            "an array should be bool, uint8 from 0 to 255, uint16 from 0 to 65535 or float from 0 to 1, not"
            " int64$",
        ),
        (PAGE[0], r"an array should be \[H, W\], \[H, W, 3\] or \[H, W, 4\], not \[100\]$"),
        (PAGE[..., np.newaxis], r"an array should be \[H, W\], .*, not \[120, 100, 1\]$"),
        (PAGE[:0], "it has 100 x 0 pixels, so it shows nothing$"),
    ],
)
def test_numbers_of_another_kind_range_or_shape_are_refused(
    picture: np.ndarray | Image.Image, message: str
) -> None:
    with unreadable(message):
        read_picture(picture)


@pytest.mark.parametrize("kind", [JpegImageFile, PngImageFile])
def test_other_threads_neednt_wait_while_pixels_are_decoded(
    kind: type[ImageFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, locked = kind.load, []

    def seen(image: ImageFile) -> object:
        if image.tile:  # what isn't decoded yet
            locked.append(decoding._filters.locked())
        return load(image)

    file = encoded(Image.fromarray(PAGE), kind.format)
    monkeypatch.setattr(kind, "load", seen)
    read_picture(file)
    assert locked == [False]


def test_threads_leave_the_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    file = png(PAGE)
    threads = [threading.Thread(target=read_picture, args=(file,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
