r"""A number as people write it: with currency, unit, magnitude or percent sign.

>>> as_number("$1,200"), as_number("30 km/h"), as_number("5 million"), as_number("17 or 18")
(1200, 30, 5000000, None)
>>> bare("3/4 of the cake"), bare("2 1/2 cups")
('3/4', '5/2')
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 300  # most digits of a number that is compared directly
LONGEST = 500  # most characters of a number with its unit
DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
CURRENCY = r"(?:(?:US|AU|CA)?\\?\$|[€£¥₹]|USD|Rs\.?)"
MAGNITUDES = {
    "hundred": 100,
    "thousand": 1000,
    "k": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|zero"
)
PARTS_OF_ONE = "thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths"
POWERS = "squared|cubed|factorial"
_MAGNITUDE = r"\s*(hundred|thousand|million|billion|trillion)s?\b"
# Letters that may be a unit after a number; x, y and n are read as variables.
_LETTER = r"[mgshLlVWNJCFA](?![\w])"
_WORD = r"[^\W\d_]{2,}(?:['’][^\W\d_]+)?\.?"
_POWER = r"(?:\s*\^\s*\{?[234]\}?|[²³])?"
_NEXT = rf"(?:\s*[/·]\s*|\s+|-)(?:{_WORD}|{_LETTER}|a(?=\s)){_POWER}"


def _unit(first: str) -> str:
    sign = r"%|¢|(?:°|\^\s*\{?\\circ\}?)\s*[CF]?|[$€£₹¥](?=\W|$)"
    return rf"(?:{sign}|(?:/\s*)?(?:{first}){_POWER}(?:{_NEXT})*)"


_WITH_LETTERS = _unit(rf"{_WORD}|{_LETTER}|a(?=\s)")
_WORDS_ONLY = _unit(_WORD)


def _plain(unit: str, magnitude: str) -> re.Pattern[str]:
    return re.compile(
        rf"({CURRENCY}?)\s*([-−+]?)\s*{CURRENCY}?\s*({DIGITS})"
        rf"(\s+and\s+a\s+half\b)?(?:{magnitude})?\s*({unit})?[.,!?]?"
    )


_SIMPLE = re.compile(rf"(-?)({DIGITS})")
_PLAIN = _plain(_WITH_LETTERS, rf"{_MAGNITUDE}|([kK])(?!\w)")
_PLAIN_GOLD = _plain(_WORDS_ONLY, rf"{_MAGNITUDE}()")
NOT_A_UNIT = re.compile(
    rf"(?<!\\)\b(?:hundreds?|thousands?|millions?|billions?|trillions?|dozens?|halves|half|pi|or|"
    rf"and|plus|minus|times(?!\s*(?:$|[.,]|a\b|as\b|per\b|each\b))|divided|over|than|to|not|no|"
    rf"never|is|was|wrong|incorrect|but|maybe|{NUMBER_WORDS}|{PARTS_OF_ONE}|{POWERS})\b",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    rf"{CURRENCY}?\s*([-−]?)\s*{CURRENCY}?\s*(?:([0-9]+)\s+(?:and\s+)?)?([0-9]+)\s*/\s*([0-9]+)"
    rf"(?:\s*({_WITH_LETTERS}))?[.,!?]?"
)
# A number without unfinished arithmetic: a literal, a fraction, a power, a root.
BRACED = rf"\{{\s*-?(?:{DIGITS})\s*\}}"
FRAC = rf"\\[dt]?frac\s*(?:{BRACED}|\d)\s*(?:{BRACED}|\d)"
ROOT = rf"\\sqrt\s*(?:\[\d\])?\s*(?:{BRACED}|\d)"
_FINISHED = re.compile(
    rf"""\(?\s*[-+]*\s*\$?\s*(?:
        (?:{DIGITS})(?:\s*/\s*(?:{DIGITS}))?
      | (?:{DIGITS})?\s*{FRAC}
      | (?:{DIGITS})\s*\^\s*(?:{BRACED}|\d)
      | (?:{DIGITS})?\s*{ROOT}
      | (?:{DIGITS})\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*(?:{BRACED}|\d)
    )\s*\)?\s*(?:\\?%|\^\s*\{{?\\circ\}}?)?
    (?:\s*\\(?:text|mathrm|mbox)\s*\{{[^{{}}]*\}}(?:\s*\^\s*\{{?\d\}}?)?|\s+[^\W\d_]+)?""",
    re.VERBOSE,
)
_VULGAR = str.maketrans({"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⁄": "/"})


def as_number(text: str, letters: bool = True) -> float | int | None:
    """Read one plain number; sign, separators, currency, magnitude, unit or percent may be there.

    ``$1,200`` is 1200, ``18 apples`` is 18 and ``5 million`` is 5000000, but ``17 or 18``,
    ``1,2`` and ``at least 5`` are None. A percent sign is dropped, and the number is not
    divided by 100: questions that ask "what percent" have gold answers without the sign.

    Args:
        letters: whether a single letter may be a unit (``6 m``). Use False for a gold
            answer, where the letter may be a variable.
    """
    text = text.strip()
    simple = _SIMPLE.fullmatch(text)
    if simple:
        return _signed(simple[2], bool(simple[1]))
    found = len(text) <= LONGEST and (_PLAIN if letters else _PLAIN_GOLD).fullmatch(text)
    if not found:
        return None
    currency, sign, digits, half, word, letter, unit = found.groups()
    if unit and (NOT_A_UNIT.search(unit) or (currency and len(unit) == 1 and unit.isalpha())):
        return None
    value = _signed(digits, sign in ("-", "−"))
    if value is None or not (half or word or letter):
        return value
    if half and "." in digits:
        return None
    scale = MAGNITUDES.get((word or letter or "").lower(), 1)
    whole = Fraction(digits.replace(",", "")) + (Fraction(1, 2) if half else 0)
    exact = whole * scale * (-1 if value < 0 else 1)
    return int(exact) if exact.denominator == 1 else float(exact)


def _signed(digits: str, negative: bool) -> float | int | None:
    digits = digits.replace(",", "")
    if len(digits) > MAX_DIGITS:
        return None
    value = float(digits) if "." in digits else int(digits)  # whole numbers stay exact
    return -value if negative else value


def bare(text: str) -> str:
    """A fraction without its unit, a mixed number as a fraction; other text unchanged."""
    text = text.translate(_VULGAR).strip()
    found = len(text) <= LONGEST and _FRACTION.fullmatch(text)
    if not found or (found[5] and NOT_A_UNIT.search(found[5])):
        return text
    sign, whole, top, bottom = (part or "" for part in found.groups()[:4])
    if whole and len(whole + top + bottom) < MAX_DIGITS and int(bottom):
        top = str(int(whole) * int(bottom) + int(top))
    return f"{'-' if sign else ''}{top}/{bottom}"


def is_finished(text: str) -> bool:
    """Whether no arithmetic is left to do: a literal, a fraction, a power or a root."""
    for mark in (r"\left", r"\right", "\\ ", "~"):
        text = text.replace(mark, "")
    found = _FINISHED.fullmatch(text.replace(r"\$", "$").strip())
    return bool(found) and not NOT_A_UNIT.search(text)
