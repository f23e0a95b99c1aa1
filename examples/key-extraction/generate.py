"""Writes train.jsonl and test.jsonl: short messages and the keys that they hold, as JSON.

The same seed writes the same bytes. A carrier is a message with gaps; {name}, {date} and {amount}
are what is asked for, other gaps are there to mislead. The test rows have carriers, names, shops
and things of their own.

    python generate.py [FOLDER]     (default: the folder of this file)
"""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from pathlib import Path
from random import Random
from string import Formatter

SEED = 14
MAX_INPUT, MAX_OUTPUT = 219, 119
KEYS = ("name", "date", "amount")

WORDS = {
    "first": "Marta Jonas Aylin Pedro Ingrid Kwame Yuki Sofia Declan Leila Tomasz Priya Émile Nadia"
    " Oskar Bianca Ravi Hanne Luca Zoe Mateus Signe Farid Olive Henrik Chloe Anton Mei Ivo Rosa",
    "last": "Weber Lindqvist Okafor Moreau Tanaka Silva Novak Byrne Rossi Haddad Kowalski Jensen"
    " Duarte Fischer Mbeki Larsen Costa Patel Murphy Vega Brandt",
    "shop": "Lampenhaus|Bean & Leaf|VeloNord|Kopi Corner|Tinta Books|GreenThumb|Sole Mates|Ovenly"
    "|Papier & Co|Nordwool|PetPantry|Gearbox|Blue Kiln|Fjord Audio|Casa Luz",
    "doctor": "Dr Amari|Dr Holm|Dr Castell|Dr Whitaker|Dr Brenner|Dr Osei|Dr Petrov|Dr Nakagawa"
    "|Dr Fontaine",
    "driver": "Stefan|Dario|Bogdan|Maeve|Tariq|Greta|Samuel|Vlad|Nina",
    "item": "desk lamp|coffee grinder|bike helmet|wool blanket|office chair|tea set|bookshelf"
    "|garden hose|headset|cookbook|dog bed|rucksack|rain jacket|kettle|yoga mat",
    "visit": "haircut|boiler service|massage|car inspection|piano lesson|flat viewing|bike repair"
    "|tax consultation|house cleaning",
    "checkup": "dental check-up|eye test|vaccination|blood test|check-up|hearing test",
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday",
    "time": "9:00|14:30|8 am|half past ten|16:15|5 pm|11:45|10 am|13:20",
}
TITLES = ("Mr", "Ms", "Mrs", "Dr", "Prof.")
DATES = (
    "{d} {month}",
    "{month} {d}",
    "{d} {month} {y}",
    "{month} {d}{th}",
    "{d:02}.{m:02}.{y}",
    "{d} {short}",
    "{y}-{m:02}-{d:02}",
)
MONEY = (
    "€{point}",
    "${point}",
    "£{point}",
    "{point} EUR",
    "CHF {point}",
    "{comma} €",
    "{point} kr",
)

TRAIN = """
Hi {name}, your {item} from {shop} arrives on {date}. Total paid: {amount}.
Dear {name}, thanks for your order of {other}. We deliver on {date}. You pay {amount} in total.
Hello {name}, this is a reminder of your {visit} on {date} at {time}.
{shop}: your parcel comes on {date} between 9 and 12. {amount} to pay at the door.
Your order at {shop} is confirmed. Items {part}, shipping {ship}, total {amount}.
Good morning {name}, {driver} brings your {item} tomorrow at {time}. Nothing left to pay.
Dear customer, our shop stays closed on Monday. Your {item} is on its way.
{name}, your {checkup} with {doctor} was moved from {other} to {date}, {time}.
Hey {name}! The {item} you ordered on {other} is finally here. Pick it up whenever you like.
We have refunded {amount} for the {item} that you sent back on {other}.
{name}: {visit} booked for {date}, {time}. The fee of {amount} is due on the spot.
Order 48213 of {other}: delivery on {date}. You saved {ship} with a voucher and paid {amount}.
Dear {name}, we have received your payment of {amount}. Best wishes, {driver} from {shop}
Hi, it's {driver} from {shop}. I can deliver the {item} on {date} after {time}. Is that fine?
Your {checkup} at {doctor}'s practice: {date}, {time}. Please be ten minutes early.
{name}, sorry, the {item} is sold out. You get {amount} back within three days.
Parcel for {name}: left with your neighbour {driver} at {time}.
Hello {name}, invoice 7741 of {other} is still open. Please transfer {amount}.
Reminder: {visit}, {date}, {time}. The fee is {amount}. Cancel a day ahead, please.
Hi {name}, can we do your {checkup} on {date} instead of {other}? {doctor} is ill. Thanks!
Thanks for shopping at {shop}! Your total today: {amount}. See you soon.
Your {item} ({part}) and a {item2} ({ship}) ship today. Total: {amount}. Arrival: {date}.
{doctor} will see {name} on {date} at {time}. Bring your insurance card.
Dear {name}, your {item} could not be delivered. The next attempt is on {weekday}.
Dear {name}, your table for four is reserved for {date} at {time}.
Delivery update: {driver} is running late and will be there at {time}. Sorry for the wait!
For {name} - {item} by {shop}, {amount} charged to your card ending in 4410.
The fitter comes on {date}, not on {other} as first planned. Estimated bill: {amount}.
Good news, {name}! Your refund of {amount} was approved on {other}.
Hi {name}, the {item} costs {part}, with shipping it comes to {amount}. Shall I send it on {date}?
Your order from {other} has been cancelled. Nothing was charged.
{shop} wishes you a happy birthday, {name}! Here is a voucher for a free coffee.
Hello! Your {visit} with {driver} is confirmed for {date}. Price: {amount}, cash only please.
{name}, please collect your {item} by {time} today at our counter. {amount} to pay.
Dear {name}, {doctor} is on leave. We have put your {checkup} off to {date}.
Dear {name}, we moved your delivery to {date} free of charge.
Payment received: {amount}. Your {item} will be delivered on {date}.
Dear customer, thank you for your order! Expected delivery: {date}. Amount due: {amount}.
Hi {name}, {shop} here. Ordered {other}, packed today, with you on {date}. Cheers, {driver}
Booking confirmed for {name}, {date}, {time}, {visit}. Total {amount}, deposit {ship} already paid.
Your {item} is waiting at locker 12. The code is 5530. It is kept for you until {weekday}.
{name}, your order is complete: {item} {part}, {item2} {ship}, together {amount}.
Don't forget: {visit} tomorrow at {time}! Your team at {shop}
Dear {name}, as agreed {driver} will bring the new {item} on {date}.
Last reminder: {amount} for our invoice of {other} has not reached us yet.
{shop} order update for {name}: delayed, new date {date}, sorry!
Hi {name}, we owe you {amount} for the broken {item}. It will be in your account soon.
Hello {name}, would {weekday} at {time} suit you for the {visit}?
On {date} we deliver your {item}. Please have {amount} ready, {driver} has no change.
Dear {name}, your invoice of {other} over {amount} has been paid. Thank you!
Appointment for {name} with {doctor}: {date}, {time}. No fee.
Dear {name}, the {item} now costs {part}, plus {ship} for shipping. Order today!
Please note that {doctor} is late and will see you at {time}. We are sorry.
{name}, {driver} could not deliver on {other}. The next attempt is on {date}.
Your {item} shipped on {other} and should be with you by {date}.
Dear {name}, your box comes on {date}; {amount} was taken from your account on {other}.
"""

TEST = """
Hello {name}, {shop} delivers your {item} on {date}. The full price of {amount} is already paid.
{name}, we look forward to your {visit} on {date}. Please come at {time}.
Thank you for your purchase! {item} {part}, postage {ship}, you paid {amount} in all.
Dear customer, your {item} left our store on {other} and arrives on {date}.
Dear {name}, your {visit} cannot take place on {other}. Your new appointment: {date}, {time}.
Hi {name}, {driver} here, I have your {item} in the van and will ring at {time}.
We have sent {amount} back to your account, as the {item} was faulty.
{name}: {amount} due at your {visit} on {date}. Cards are welcome.
Message for {name}: {doctor} has to cancel the {checkup}. Please call us on {weekday}.
The courier comes on {date} at about {time}; please pay {amount} in cash.
Hi {name}! Total for order 90117 of {other}: {amount}. Thanks, {driver}
Your {visit} is on {date}. If you cannot make it, tell {driver} in good time.
Dear {name}, your {item} is now expected on {date}, a week later than planned. We are sorry.
{shop} will be closed tomorrow. Orders go out again on {weekday}.
Good evening {name}, your {item} ({part}) came back to us; with postage we refund {amount}.
{name}, {item} and {item2} are ready. You can have them at {shop} from {time}.
Receipt from {shop}: {item} {part}, gift wrap {ship}. Total {amount}. Delivery {date}.
Dear {name}, we ordered the spare part on {other}; {driver} fits it on {date} for {amount}.
Is {date} at {time} all right for your {visit}? The cost is {amount}.
Hello {name}, {doctor} confirms your {checkup} for {date} at {time}, fee {amount}.
"""


class Values:
    """Draws what goes into the gaps; the held-out side owns every third word of each list."""

    def __init__(self, rng: Random, *, held_out: bool) -> None:
        self.rng = rng
        shared = ("weekday", "time")
        self.words = {
            kind: [
                word
                for i, word in enumerate(text.split("|") if "|" in text else text.split())
                if kind in shared or (i % 3 == 2) == held_out
            ]
            for kind, text in WORDS.items()
        }

    def name(self) -> str:
        first, last = (self.rng.choice(self.words[kind]) for kind in ("first", "last"))
        titled = f"{self.rng.choice(TITLES)} {last}"
        return self.rng.choice((first, first, f"{first} {last}", titled))

    def fill(self, carrier: str) -> dict[str, str]:
        """A value for every gap; where a part has a price, the amount is the parts' sum."""
        early = date(2026, 1, 5) + timedelta(self.rng.randrange(330))
        late = early + timedelta(self.rng.randrange(1, 25))
        style, form = self.rng.randrange(len(DATES)), self.rng.choice(MONEY)
        part, ship, amount = (self.cents(*span) for span in ((30, 90), (3, 10), (12, 900)))
        items = self.rng.sample(self.words["item"], 2)
        values = {kind: self.rng.choice(words) for kind, words in self.words.items()}
        return values | {
            "name": self.name(),
            "date": written(late, style),
            "other": written(early, style),
            "day": f"{late:%A}{self.rng.choice((' ', ', '))}",
            "amount": priced(part + ship if "{part}" in carrier else amount, form),
            "part": priced(part, form),
            "ship": priced(ship, form),
            "item": items[0],
            "item2": items[1],
        }

    def cents(self, least: int, most: int) -> int:
        return self.rng.randrange(least * 100, most * 100, self.rng.choice((5, 50, 100)))


def written(day: date, style: int) -> str:
    ending = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    month = f"{day:%B}"
    return DATES[style].format(
        d=day.day, m=day.month, y=day.year, month=month, short=month[:3], th=ending
    )


def priced(cents: int, form: str) -> str:
    point = f"{cents // 100}" if cents % 100 == 0 else f"{cents // 100}.{cents % 100:02}"
    return form.format(point=point, comma=f"{cents // 100},{cents % 100:02}")


def row(values: Values, carrier: str) -> dict[str, str]:
    """One message and its keys; a date in words gets its weekday now and then."""
    found = values.fill(carrier)
    gaps = {gap for _, gap, _, _ in Formatter().parse(carrier)}
    output = {key: found[key] if key in gaps else None for key in KEYS}
    in_words = any(letter.isalpha() for letter in found["date"])
    if in_words and values.rng.random() < 0.4:
        found["date"] = found["day"] + found["date"]
    return {
        "input": carrier.format(**found),
        "output": json.dumps(output, ensure_ascii=False),
    }


def rows(values: Values, carriers: list[str], count: int, seen: set[str]) -> list[dict[str, str]]:
    """`count` rows whose inputs are not in `seen`; the carriers go round in turn, shuffled."""
    found: list[dict[str, str]] = []
    order: list[str] = []
    while len(found) < count:
        order = order or values.rng.sample(carriers, len(carriers))
        made = row(values, order[-1])
        if len(made["input"]) > MAX_INPUT or len(made["output"]) > MAX_OUTPUT:
            continue
        order.pop()
        if made["input"] not in seen:
            seen.add(made["input"])
            found.append(made)
    return found


def main(folder: Path) -> None:
    rng, seen = Random(SEED), set[str]()
    for name, text, count, held_out in (("train", TRAIN, 240, False), ("test", TEST, 80, True)):
        made = rows(Values(rng, held_out=held_out), text.strip().splitlines(), count, seen)
        lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in made]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
