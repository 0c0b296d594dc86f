import numpy as np
import pytest
import torch

from digitsum.data import non_digits
from digitsum.data.non_digits import ALPHABETS, draw_non_digits, spoil


def test_non_digits_look_like_mnists_images_differ_and_follow_the_seed() -> None:
    first, again = (draw_non_digits(40, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first.dtype, first.shape) == (np.uint8, (40, 28, 28))
    assert (first.max(axis=(1, 2)) == 255).all()
    assert len(np.unique(first, axis=0)) == 40


def test_no_letter_that_a_digit_looks_like_is_trained_on() -> None:
    like_digits = "0123456789OoQDlIiZzSsBbGgqTYyЗзЭэЧчОоБбВвЬьΘθΔδσςγζρι∫∂()|"  # noqa: RUF001
    assert not set("".join(letters for letters, _ in ALPHABETS)) & set(like_digits)


@pytest.mark.parametrize(
    ("letters", "font"), [(letters, font) for letters, fonts in ALPHABETS for font in fonts]
)
def test_each_font_has_its_letters(letters: str, font: str) -> None:
    def pixels(character: str) -> bytes:
        return bytes(non_digits._font(font).getmask(character))

    missing = pixels("\uffff")
    assert missing not in {pixels(character) for character in letters}


def test_letters_without_matplotlib_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(non_digits, "find_spec", lambda name: None)
    non_digits._font.cache_clear()
    with pytest.raises(
        ValueError, match=r"^the letters to train doubt with come with matplotlib: pip install"
    ):
        draw_non_digits(2, np.random.default_rng(0))


def test_a_font_that_can_t_be_read_is_named() -> None:
    with pytest.raises(
        OSError, match=r"/fonts/ttf/none.ttf, a font that comes with matplotlib, can't be read: c"
    ):
        non_digits._font("none")


def test_digits_are_spoilt_in_four_ways() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 28, 28)
    image[..., 4:24, 13:15] = 255  # a one
    pair, turned, crossed, shifted = spoil(image, torch.tensor([1]), 4)[:, 0].numpy()
    assert np.flatnonzero(pair[13]).tolist() == [6, 7, 20, 21]  # 0.7 times as wide
    np.testing.assert_array_equal(turned, np.rot90(image[0, 0]))
    edges = np.zeros((28, 28))
    edges[4:24, [4, 23]] = 255
    np.testing.assert_array_equal(crossed, edges)
    edges[14:] = image[0, 0, 14:]
    np.testing.assert_array_equal(shifted, edges)


def test_each_digit_but_0_is_turned_only_to_what_is_none() -> None:
    torch.manual_seed(0)
    noise = torch.rand(10, 1, 28, 28)
    for digit, turns in non_digits.TURNS.items():
        spoilt = spoil(noise[:1], torch.tensor([digit]), 200)[50:100, 0].numpy()
        images = [*(np.rot90(noise[0, 0], turn) for turn in (1, 2, 3)), np.fliplr(noise[0, 0])]
        seen = {turn for turn, image in enumerate(images, 1) for made in spoilt if (made == image).all()}
        assert seen == set(turns)
    assert len(spoil(noise, torch.zeros(10, dtype=torch.int64), 8)) == 6
