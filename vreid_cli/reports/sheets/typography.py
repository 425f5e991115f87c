"""Text on a contact sheet: the font, how wide text is, and how it is wrapped and shortened to fit."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from functools import lru_cache

from PIL import ImageFont

#: What PIL's built-in font has beyond ASCII.
_GLYPHS = frozenset("©«°±´·»‘’“”…‹›⁄™")
#: How the accents look that the font lacks, behind their letter: without them Müller and Muller would be one name.
_ACCENTS = {
    **{"\u0300": "`", "\u0301": "´", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "(", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "°", "\u030b": "´´", "\u030c": "<", "\u0327": ",", "\u0328": ";"},
}
#: Other characters that people write, and something like them that is nobody's usual way to write another.
_STAND_INS = {
    **{"–": "--", "—": "---", "×": "*", "ß": "sz", "æ": "a/e", "Æ": "A/E", "œ": "o/e", "Œ": "O/E"},
    **{"ø": "o/", "Ø": "O/", "ł": "l/", "Ł": "L/", "đ": "d/", "Đ": "D/"},
}


@lru_cache(maxsize=16)
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """PIL's built-in font."""
    return ImageFont.load_default(size=size)


def text_width(text: str, size: int) -> int:
    """Width of drawable text in pixels, rounded up."""
    return math.ceil(load_font(size).getlength(text))


def drawable(text: str) -> str:
    r"""The text in characters that the font has, other texts in other ones: accents behind their letters, or escaped.

    Examples:
        >>> drawable("Brücke-Straße 车")
        'Bru"cke-Strasze \\u8f66'
    """
    return "".join(map(_drawn, text))


def _drawn(character: str) -> str:
    if character in _GLYPHS or (character.isascii() and character.isprintable()):
        return character
    if character.isspace():
        return " "
    parts = unicodedata.normalize("NFD", character)
    known = {**_ACCENTS, **_STAND_INS}
    if parts[0] in known or (len(parts) > 1 and parts[0].isascii()):
        signs = [known.get(part, part) for part in parts]
        if all(sign.isascii() or sign in _GLYPHS for part in signs for sign in part):
            return "".join(signs)
    return character.encode("unicode_escape").decode("ascii")


def shorten(text: str, size: int, *, width: int) -> str:
    """Drawable text of at most this width; what is too much goes from the middle.

    Examples:
        >>> shorten("folder/of/a/tracker/track_0042", 16, width=150)
        'folder/of…rack_0042'
    """
    text = drawable(text)
    if text_width(text, size) <= width:
        return text

    def keep(count: int) -> str:
        tail = count // 2
        return f"{text[: count - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"

    too_many = bisect_right(range(len(text)), width, key=lambda count: text_width(keep(count), size))
    return keep(too_many - 1) if too_many else ""


def wrap(text: str, size: int, *, width: int) -> list[str]:
    """Drawable lines of at most this width, broken at blanks and where the text breaks.

    Examples:
        >>> wrap("one two three", 16, width=70)
        ['one two', 'three']
    """
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in drawable(paragraph).split():
            longer = f"{line} {word}" if line else word
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = shorten(longer, size, width=width)
        lines.append(line)
    return lines
