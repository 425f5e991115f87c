"""Text that fits its place, in characters that the font has."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from vreid_cli.reports.sheets.typography import drawable, shorten, text_width, wrap


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Brücke-Straße", 'Bru"cke-Strasze'),
        ("a × b", "a * b"),
        ("车1", "\\u8f661"),
        ("two\nlines\ttab", "two lines tab"),
        ("bad\udcff", "bad\\udcff"),
        ("e\N{COMBINING ACUTE ACCENT}t", "e´t"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}abc", "\\u202eabc"),
        ("שלום", "\\u05e9\\u05dc\\u05d5\\u05dd"),
        ("ạ½가", "\\u1ea1\\xbd\\uac00"),
        ("plain_c001 [~]", "plain_c001 [~]"),
    ],
)
def test_what_the_font_lacks_is_stood_in_for(text: str, drawn: str) -> None:
    assert drawable(text) == drawn


def test_every_letter_is_told_apart_from_every_other() -> None:
    letters = {unicodedata.normalize("NFC", one) for one in map(chr, range(0x110000)) if one.isalpha()}
    assert len({drawable(one) for one in letters}) == len(letters)


@given(st.text(max_size=60), st.integers(0, 400))
def test_shortened_text_fits_and_keeps_its_ends(text: str, width: int) -> None:
    whole, short = drawable(text), shorten(text, 16, width=width)
    assert text_width(short, 16) <= width
    if short not in (whole, ""):
        head, dots, tail = short.partition(drawable("…"))
        assert dots
        assert whole.startswith(head)
        assert whole.endswith(tail)


@given(st.text("ab \n", max_size=80), st.integers(30, 200))
def test_wrapped_lines_fit_and_keep_every_word_that_fits(text: str, width: int) -> None:
    lines = wrap(text, 16, width=width)
    assert all(text_width(line, 16) <= width for line in lines)
    if all(text_width(word, 16) <= width for word in text.split()):
        assert " ".join(lines).split() == text.split()


def test_the_font_has_what_is_drawn_as_it_is() -> None:
    font = ImageFont.load_default(size=19)
    box = bytes(font.getmask("\U0010ffff"))
    kept = [character for character in map(chr, range(32, 0x3000)) if drawable(character) == character]
    assert len(kept) > 100
    assert [character for character in kept[1:] if bytes(font.getmask(character)) == box] == []
