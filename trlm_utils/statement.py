r"""The answer of a text without an answer marker: its last formula or number, or its only word.

``extract`` of the module answers calls this when a text has no box, tag or "the answer is".
A worked line ``3 + 4 = 7`` states 7. A list of candidates, a range or an unfinished sum is
returned as a whole, so that it equals no single number. A dollar sign opens a formula only
where the content looks like LaTeX: amounts of money are not formulas.

    >>> stated("Each costs $5 and two cost $10."), stated("So $x=5$."), stated("17 or 18")
    ('$10', 'x=5', '17, 18')
"""

from __future__ import annotations

import re

from trlm_utils.quantity import (
    BRACED,
    CURRENCY,
    DIGITS,
    FRAC,
    NUMBER_WORDS,
    PARTS_OF_ONE,
    POWERS,
    ROOT,
    as_number,
)

TAIL = 4000  # only so many characters at the end of a text are searched

_WORD = re.compile(r"[^\W\d_]+")
_ATTACHED = r"(?!(?:st|nd|rd|th|am|pm|AM|PM)\b)[a-zA-Z]{2,}(?:\^[23]|[²³]|\b)"
# A separate value: not the 4 of x^4 or room-4.
_VALUE = re.compile(
    rf"""(?<![\w.^/:{{\\√])(?<![{{^a-zA-Z][-−])
    (?:(?<![\d)%])[-−](?=\s?[\d.$€£\\]))?(?:{CURRENCY}\s?)?(?:[-−](?=[\d.]))?
    (?:[0-9]+\s+(?:and\s+)?[0-9]+/[0-9]+ | [0-9]+\s?/\s?[0-9]+
      | (?:{DIGITS})?\s*{FRAC} | (?:{DIGITS})?\s*{ROOT}
      | (?:{DIGITS})\^(?:{BRACED}|\d+) | (?:{DIGITS})[½¼¾⅓⅔]? | [½¼¾⅓⅔])
    (?:\s+and\s+a\s+half\b)?
    (?:\s*(?:hundred|thousand|million|billion|trillion)s?\b | {_ATTACHED} | [a-zA-Z]\b)?
    (?![\w^π²³√])(?![/:]\d)(?!\.\d)(?!\\(?!%|text|\$|,|\s))""",
    re.VERBOSE,
)
_LIKELY = r"(?:maybe|perhaps|possibly|even|about)"
_UNITS = r"(?:[ \t]*\b[^\W\d_]+\.?){0,2}?"
_BIG_AND_SMALL = (
    r"(?:hours?|hrs?|h)\W+(?:and\s+)?{}\s*(?:min|m\b)|(?:minutes?|mins?|m)\W+(?:and\s+)?{}\s*s(?:ec|\b)"
    r"|(?:feet|foot|ft)\W+(?:and\s+)?{}\s*in|(?:pounds?|lbs?)\W+(?:and\s+)?{}\s*(?:oz|ounce)"
    r"|(?:years?|yrs?)\W+(?:and\s+)?{}\s*month|(?:weeks?|months?)\W+(?:and\s+)?{}\s*day"
    r"|days?\W+(?:and\s+)?{}\s*(?:hour|hr)|(?:dollars?)\W+(?:and\s+)?{}\s*cents?"
    r"|(?:kg|kilograms?)\W+(?:and\s+)?{}\s*g|(?:km|kilometers?|m|meters?)\W+(?:and\s+)?{}\s*(?:m|cm)\b"
).replace("{}", "#")
# Text allowed between two values that are alternatives.
_LISTED = re.compile(
    rf"""[ \t]*(?:[,;|&/(]\s?)?(?:(?:and|or|nor|vs\.?|versus)\s+)?(?:{_LIKELY}\s+)?(?:[,;]\s*)?
        \\?[$€£]?
      | {_UNITS}[ \t]*,?\s*\b(?:then\s+)?(?:maybe|perhaps|possibly)\s+
      | {_UNITS}[ \t]*,?\s*\b(?:and|or|nor|and/or)\s+(?:{_LIKELY}\s+)?(?:[a-zA-Z]\s*=\s*)?
      | [ \t]*[,;]?\s*\(?[A-Ea-e][).:][ \t]*
      | \s*[?!]\s+(?:or\s+)?
      | \s*[.…?!]+\s*(?:or|maybe|perhaps|possibly)\s+(?:{_LIKELY}\s+)?""",
    re.VERBOSE | re.IGNORECASE,
)
_WORK = rf"{_UNITS}[ \t]*(?:[-−–+*×÷·/<>≤≥]|\\times|\\cdot|\\div)[ \t]*\(?[ \t]*"
_WORK_ALONE = re.compile(_WORK)
# Unfinished arithmetic between two values, or a range.
_UNDONE = re.compile(
    rf"""{_WORK} | {_UNITS}[ \t]*(?:\\?%\s*of|x|by|plus|minus|times
      |divided[ ]by|multiplied[ ]by|out[ ]of|of|of[ ]the|more[ ]than|less[ ]than|fewer[ ]than|than)
      [ \t]*\(?[ \t]*\\?[$€£]?
      | [ \t]*(?:to|through)[ \t]+\\?[$€£]? | \s*\)?\s*\(\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_LEFT_OPEN = re.compile(
    r"(?:(?:[\d)\]}%]|(?<![^\W\d_])[a-zA-Z])[ \t]*[+*×÷·^]"
    r"|(?:[\d)\]}]|(?<![^\W\d_])[a-z])[ \t]+[-−]"
    r"|[<>≤≥≠]|!=|\\(?:le|ge|lt|gt|neq?|leq|geq)"
    r"|\b(?:half|twice|double|triple|thirds?|quarters?)\s+(?:of\s+)?"
    r"|(?:^|(?<=[a-z,:.] ))\d*[b-fi-kn-rt-z]\s*[-+]\s*[\w.]+\s*="  # an equation to be solved
    r"|\b(?:sqrt|log|ln|max|min|gcd|lcm)\s*\("
    r"|\b(?:(?:more|less|fewer|greater|other)\s+than|anything\s+but|except)"
    r"|\b(?:root|square|cube|half|log)\s+of)[ \t]*(?:the\s+)?$",
    re.IGNORECASE,
)
# After a result, these words or signs begin another statement.
_CLAIM = re.compile(
    r"\n|[.!?;]\s|\b(?:so|then|thus|therefore|hence|makes?|leaves?|gives?|gets?|equals?"
    r"|is|are|was|has|have|which|meaning|rounds?)\b"
)
_DENIED = re.compile(
    r"(?:\bnot|n't|n’t|\bcannot be|\bnever|\bneither)\s+(?:exactly |equal to |be )?$", re.IGNORECASE
)
_DENIED_AFTER = re.compile(
    rf"{_UNITS}\s*\b(?:is|was)(?:(?:n['’]t|\s+not)\s+(?:the|right|correct|it|true|possible|my)"
    rf"|\s+(?:wrong|incorrect|false|impossible))\b"
    rf"|{_UNITS}\s*\bcan(?:not|['’]t|\s+not)\s+be\b|{_UNITS}\s*\bor\s+(?:more|less|fewer)\b"
    rf"|{_UNITS}\s*below zero|\s*(?:{POWERS}|{PARTS_OF_ONE}|third|and an? (?:quarter|third))\b"
    rf"|{_UNITS}\s*,?\s*\bor\s+(?:{_LIKELY}\s+)?(?:{NUMBER_WORDS}|one)\b",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    rf"(?<=[\w%)])\s*(?:,\s*(?:and\s+|so\s+)?|\s\(?|\s[-–—]\s)(?:(?:it\s+is\s+)?not|rather\s+than|instead\s+of)\s+"
    rf"(?:{CURRENCY}\s?)?-?(?:{DIGITS})(?:\s*(?:,|or)\s*(?:{DIGITS}))*{_UNITS}\)?(?=[.!?]*\s*$)",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    rf"((?:{DIGITS})[%$€]?(?:[ \t]+[^\W\d_]+){{0,3}})"
    # behind a full stop only words are an aside; a number there is another answer
    r"(?:[ \t]+|[.!?][ \t]+(?=\([^()]*[^\W\d_]))\(([^()]*)\)(?=[.!?]*\s*$)"
)
_HEDGE = re.compile(
    rf"\b(?:or|{_LIKELY[3:-1]}|no|wait|actually|rather|instead|wrong)\b|^\s*[-−\d.]+\s*(?:,\s*[-−\d.]+\s*)+$",
    re.I,
)
_REASON = re.compile(
    r"(?<=\d)(?:\s?[^\W\d_]+){0,5},?\s(?:because|since)\s[^.!?\n=]*[.!?]*\s*$"
    r"|(?<=\d)(?:\s?[^\W\d_]+){0,5},?\swhich\s(?:is|makes)\s[^.!?\n=]*"
    r"(?:[+*/×÷]|\s[-–]\s|\b(?:than|plus|minus|times)\b)[^.!?\n=]*[.!?]*\s*$"
)
_NEGATIVE = re.compile(r"(?:(?:^|(?<=is )|(?<== ))minus|\bnegative)\s+(?=[\d.$])", re.IGNORECASE)
# A question; it is skipped if it asks for a calculation and more text follows.
_QUESTION = re.compile(r"[^.!?\n]*\?\s+(?=\S)")
_CALCULATION = re.compile(r"\d\s*[-+*/×÷x]\s*\d")
_BOLD = re.compile(r"(?<![\w*])\*{1,3}(\S(?:[^*\n]*\S)?)\*{1,3}(?![\w*])")
_DISPLAY = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$(.+?)\$\$", re.DOTALL)
_BARE_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MARKED = re.compile(r"\\(?:text|mbox|mathrm|operatorname|textbf)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_TAG = re.compile(r"</?[a-zA-Z]+>")
_MEANT = re.compile(r"[\w\\^<>=≤≥≠+*/×÷√²³π!-]")  # signs that change what a number means
_STRAY = re.compile(r"(?<![\w\\])[a-zA-Z]\s+[\w$]")  # a single letter outside a formula
_BULLET = re.compile(r"^(?:[-*•]\s+|\d+[.)]\s+(?=\S)|[-=]+>\s*|[a-zA-Z]:\s+)")


def without_asides(text: str) -> str:
    """A statement without contrasts and asides: ``5, not 6`` and ``5 (2 + 3)`` both give 5."""
    text = _NEGATIVE.sub("-", text)
    if "(" in text and (aside := _ASIDE.search(text)) and not _HEDGE.search(aside[2]):
        text = text[: aside.end(1)] + text[aside.end() :]
    return _CONTRAST.sub("", text)


def _without_reason(text: str) -> str:
    """A text without a reason ("because ...") that follows a number at its end."""
    reason = _REASON.search(text)
    return text[: reason.start()] if reason else text


def formulas(text: str) -> list[tuple[int, int, str]]:
    """Begin, end and content of every ``$...$`` that is LaTeX and not an amount of money."""
    found, begin = [], text.find("$")
    while begin >= 0:
        end = text.find("$", begin + 1)
        if end < 0:
            break
        content = text[begin + 1 : end]
        if _is_formula(content, text[end + 1 : end + 2]) and text[begin - 1 : begin] != "\\":
            found.append((begin, end + 1, content.strip()))
            end = text.find("$", end + 1)
        begin = end
    return found


def _is_formula(content: str, following: str) -> bool:
    """Whether ``$content$`` looks like LaTeX: complete, without words, and no digit after it."""
    tight = content.strip()
    if not tight or "\n" in content or following.isdigit():
        return False
    if content[0].isspace() != content[-1].isspace() or content[-1] == "\\":
        return False
    if tight[-1] in "+-−*/×÷=,;:(" or tight[0] in ",;.:)?!":
        return False
    return not _BARE_WORD.search(_MARKED.sub(" ", tight))


def stated(text: str) -> str | None:
    """The last statement of a text: a formula, a number, a whole list or a word; None if none."""
    text = _BOLD.sub(r"\1", _TAG.sub("\n", text[-TAIL:]).strip())
    text = _DISPLAY.sub(lambda m: f"${' '.join((m[1] or m[2] or m[3]).split())}$", text)
    if "?" in text:
        text = _QUESTION.sub(lambda m: "" if _CALCULATION.search(m[0]) else m[0], text)
    text = without_asides(_without_reason(text))
    if "$" in text and (found := formulas(text)):
        return _last_formulas(text, found)
    if not re.search(r"[0-9½¼¾⅓⅔]", text):
        words = _WORD.findall(text)
        return words[0] if len(words) == 1 else None
    return _bare_lines(text) or _last_values(text)


def _last_formulas(text: str, found: list[tuple[int, int, str]]) -> str | None:
    """The last formula, with its alternatives; a number stated after it ("is 5") wins."""
    begin, end, content = found[-1]
    after = re.match(r"(?:[^.!?\n]*\b(?:is|are|equals|gives|makes)|\s*=)\s+(?=\S?\d)", text[end:])
    if after:
        return _last_values(text[end + after.end() :])
    if _DENIED.search(text[:begin]):
        return None
    offered = [content]
    for one, two in zip(found[-2::-1], found[::-1], strict=False):
        if not re.fullmatch(r"\s*,?\s*(?:(?:and|or)\s+)?", text[one[1] : two[0]]):
            break
        offered.insert(0, one[2])
    return ", ".join(dict.fromkeys(offered))


def _bare_lines(text: str) -> str | None:
    """The last line if it has no words, with the lines before it if these are numbers too."""
    lines = [_BULLET.sub("", line.strip()) for line in text.split("\n") if line.strip()]
    if not lines or _BARE_WORD.search(_MARKED.sub(" ", lines[-1])):
        return None
    last = re.sub(r"\s*(?:-+>|=+>|→|⇒)\s*", " = ", lines[-1]).rstrip(" .!?,")
    if not re.search(r"\d", last) or _STRAY.search(last):
        return None
    values = {value[0].strip() for value in _VALUE.finditer(last)}
    if len(values) == 1 and not _MEANT.search(_VALUE.sub(" ", last)):
        last = values.pop()  # decorated or repeated: ~5, 5 }, 5 5
    offered = [last]
    while len(lines) > len(offered) and as_number(last) is not None:
        before = lines[-len(offered) - 1]
        if as_number(before) is None or before.startswith("+"):
            break
        offered.insert(0, before.rstrip(" .,"))
    return ", ".join(dict.fromkeys(offered))


def _last_values(text: str) -> str | None:
    """The last number of a text with words, with the numbers of the same list."""
    values = _up_to_the_result(text, list(_VALUE.finditer(text)))
    if not values:
        return None
    first = len(values) - 1
    undone = False
    while first > 0:
        between = text[values[first - 1].end() : values[first].start()]
        work = bool(_UNDONE.fullmatch(between)) or _is_compound(text, values[first - 1 : first + 1])
        if not work and not _LISTED.fullmatch(between):
            break
        undone |= work
        first -= 1
    begin, end = values[first].start(), values[-1].end()
    if _DENIED.search(text[:begin]) or _DENIED_AFTER.match(text[end:]):
        return None
    if _LEFT_OPEN.search(text[:begin]):
        return None
    run = values[first:]
    if len({value[0].strip() for value in run}) == 1 and not undone:
        return run[-1][0].strip()
    if undone:
        return text[begin:end]
    if text[begin - 1 : begin] in ("(", "[", "{") and text[end : end + 1] in (")", "]", "}"):
        return text[begin - 1 : end + 1]
    return ", ".join(value[0].strip() for value in run)


def _up_to_the_result(text: str, values: list[re.Match[str]]) -> list[re.Match[str]]:
    """The values up to a result, not those that explain it: 24 in ``6 * 4 = 24 in 4 weeks``."""
    equals = text.rfind("=")
    after = [k for k, value in enumerate(values) if value.start() > equals]
    if equals < 0 or len(after) < 2 or text[equals + 1 : values[after[0]].start()].strip():
        return values
    last = after[0]
    for k in after[1:]:
        between = text[values[k - 1].end() : values[k].start()]
        if not _LISTED.fullmatch(between) and not _WORK_ALONE.fullmatch(between):
            break
        last = k
    rest = text[values[last].end() : values[-1].start()]
    return values if _CLAIM.search(rest) else values[: last + 1]


def _is_compound(text: str, pair: list[re.Match[str]]) -> bool:
    """Whether two values are one quantity in two units, such as 6 minutes 30 seconds."""
    one, two = pair
    shown = f"{text[one.end() : two.start()]}#{text[two.end() : two.end() + 10]}"
    return bool(re.match(rf"\s*(?:{_BIG_AND_SMALL})", shown, re.IGNORECASE))
