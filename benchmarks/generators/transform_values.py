"""Draw transforms of dates, times, phone numbers and amounts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from random import Random

from paw_mlx.benchmarks.generators import values
from paw_mlx.benchmarks.generators.bank import phrases
from paw_mlx.benchmarks.generators.core import Case, Draft, family
from paw_mlx.benchmarks.generators.transform_words import changing

DATES: dict[str, Callable[[date], str]] = {
    "YYYY-MM-DD (2024-03-09)": date.isoformat,
    "DD.MM.YYYY (09.03.2024)": lambda day: f"{day.day:02}.{day.month:02}.{day.year}",
    "DD/MM/YYYY (09/03/2024)": lambda day: f"{day.day:02}/{day.month:02}/{day.year}",
    "MM/DD/YYYY (03/09/2024)": lambda day: f"{day.month:02}/{day.day:02}/{day.year}",
    "day, English month, year (9 March 2024)": values.long_day,
    "month, day, comma, year (March 9, 2024)": values.american_day,
    "YYYYMMDD (20240309)": lambda day: f"{day.year}{day.month:02}{day.day:02}",
    "day, short month, year (09 Mar 2024)": lambda day: (
        f"{day.day:02} {values.month(day)[:3]} {day.year}"
    ),
}


@family("transform", "date-format")
def date_format(rng: Random) -> Draft:
    """Draw a function that writes a date in another form."""
    old, new = rng.sample(list(DATES), 2)
    while DATES[old] is date.isoformat and DATES[new] is values.long_day:  # test.jsonl asks for it
        old, new = rng.sample(list(DATES), 2)

    def case() -> Case:
        day = values.day(rng)
        return DATES[old](day), DATES[new](day)

    return Draft(phrases("transform", "date", old=old, new=new), case)


@family("transform", "date-any")
def date_any(rng: Random) -> Draft:
    """Draw a function that brings dates of any form into one."""
    given = [DATES[name] for name in DATES if "/" not in name and "YYYYMM" not in name]
    new = rng.choice(list(DATES)[:4])

    def case() -> Case:
        day = values.day(rng)
        return rng.choice(given)(day), DATES[new](day)

    return Draft(phrases("transform", "date-any", new=new), case)


def times(rng: Random) -> tuple[str, str, str]:
    """Draw a time on the 24-hour clock, on the 12-hour clock, and the latter in a freer form."""
    hour, minute = rng.randrange(24), rng.choice([0, 5, 10, 15, 18, 30, 42, 45, 59])
    half, short = ("am", "pm")[hour >= 12], hour % 12 or 12
    free = rng.choice([f"{short}:{minute:02}{half}", f"{short}:{minute:02} {half.upper()}"])
    if not minute and rng.random() < 0.6:
        free = rng.choice([f"{short} {half}", f"{short}{half}"])
    return f"{hour:02}:{minute:02}", f"{short}:{minute:02} {half}", free


@family("transform", "time-to-24")
def to_24(rng: Random) -> Draft:
    """Draw a function from the 12-hour to the 24-hour clock."""

    def case() -> Case:
        long, plain, free = times(rng)
        return rng.choice([plain, free]), long

    return Draft(phrases("transform", "to-24"), case)


@family("transform", "time-to-12")
def to_12(rng: Random) -> Draft:
    """Draw a function from the 24-hour to the 12-hour clock."""

    def case() -> Case:
        long, plain, _ = times(rng)
        return long, plain

    return Draft(phrases("transform", "to-12"), case)


@family("transform", "minutes")
def minutes(rng: Random) -> Draft:
    """Draw a function that writes minutes as hours and minutes."""

    def case() -> Case:
        count = rng.choice([rng.randint(5, 59), rng.randint(60, 300), 60 * rng.randint(1, 5)])
        given = rng.choice([str(count), f"{count} min", f"{count} minutes"])
        return given, f"{count // 60} h {count % 60} min"

    return Draft(phrases("transform", "minutes"), case)


@family("transform", "phone-digits")
def phone_digits(rng: Random) -> Draft:
    """Draw a function that keeps a phone number's digits."""
    return changing(rng, "phone-digits", values.phone, lambda text: re.sub(r"\D", "", text))


@family("transform", "phone-group")
def phone_group(rng: Random) -> Draft:
    """Draw a function that groups a phone number's digits."""
    forms = ["{}-{}-{}", "({}) {}-{}", "+1 {} {} {}", "{}.{}.{}", "{} {} {}", "{}/{}-{}"]
    form = rng.choice(forms)

    def case() -> Case:
        parts = [values.digits(rng, 3), values.digits(rng, 3), values.digits(rng, 4)]
        given = rng.choice([*forms[:2], "{}{}{}", *forms[3:]])
        return given.format(*parts), form.format(*parts)

    return Draft(phrases("transform", "phone-group", form=form.format("123", "456", "7890")), case)


@family("transform", "thousands")
def thousands(rng: Random) -> Draft:
    """Draw a function that groups digits in threes."""
    mark = rng.choice([",", ".", " ", "'", "_"])

    def draw(rng: Random) -> str:
        return values.digits(rng, rng.choice([3, 4, 5, 6, 7, 8]))

    def change(text: str) -> str:
        return f"{int(text):,}".replace(",", mark)

    return changing(rng, "thousands", draw, change, mark=mark)


@family("transform", "ungroup")
def ungroup(rng: Random) -> Draft:
    """Draw a function that removes thousands separators."""

    def draw(rng: Random) -> str:
        number = int(values.digits(rng, rng.choice([4, 5, 6, 7, 8])))
        return f"{number:,}".replace(",", rng.choice([",", ".", " ", "'"]))

    return changing(rng, "ungroup", draw, lambda text: re.sub(r"\D", "", text))


@family("transform", "currency")
def currency(rng: Random) -> Draft:
    """Draw a function that writes prices in one form."""
    sign, code = rng.choice([("$", "USD"), ("€", "EUR"), ("£", "GBP")])
    forms = ["{s}{n}", "{n} {c}", "{c} {n}", "{n} {s}"]
    form = rng.choice(forms)

    def case() -> Case:
        amount = rng.randint(1, 3000) + rng.choice([0, 0.5, 0.99, 0.05])
        plain = f"{amount:.2f}"
        short = plain[:-3] if plain.endswith(".00") and rng.random() < 0.7 else plain
        given = rng.choice(forms).format(s=sign, c=code, n=short)
        return given, form.format(s=sign, c=code, n=plain)

    wanted = form.format(s=sign, c=code, n="12.50")
    return Draft(phrases("transform", "currency", form=wanted), case)


@family("transform", "pad")
def pad(rng: Random) -> Draft:
    """Draw a function that pads numbers with zeros."""
    size = rng.choice([3, 4, 5, 6, 8])

    def draw(rng: Random) -> str:
        return values.digits(rng, rng.choice([1, 2, size - 1, rng.randint(1, size)]))

    return changing(rng, "pad", draw, lambda text: text.zfill(size), size=str(size))


@family("transform", "ordinal")
def ordinal(rng: Random) -> Draft:
    """Draw a function that makes ordinals."""

    def draw(rng: Random) -> str:
        return str(rng.choice([rng.randint(1, 31), rng.randint(1, 130)]))

    def change(text: str) -> str:
        number = int(text)
        teen = number % 100 in (11, 12, 13)
        return text + ("th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th"))

    return changing(rng, "ordinal", draw, change)


@family("transform", "decimal")
def decimal(rng: Random) -> Draft:
    """Draw a function that writes percentages as decimals."""

    def draw(rng: Random) -> str:
        return f"{rng.randint(1, 99)}{rng.choice(['%', '%', ' %', ' percent', ' per cent'])}"

    def change(text: str) -> str:
        return f"{int(re.sub(r'[^0-9]', '', text)) / 100:.2f}"

    return changing(rng, "decimal", draw, change)
