"""Demonstration data as rows and recordings: pure, and the same for the same order.

Batches come in an order in which every row's parents are there before it. What a batch's rows name in ``media/`` is
among its recordings.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from callisto_telnetd.db.tables import CALL_RESULTS, GREETING_OCCASIONS
from callisto_telnetd.maintenance.demo_people import Person, make_person
from callisto_telnetd.maintenance.demo_pieces import Batch, Order
from callisto_telnetd.maintenance.demo_sounds import RATE_HZ, Sounds, make_sounds, make_wav
from callisto_telnetd.maintenance.demo_texts import make_page, make_pdf, make_transcript

_DAYS = 90
_USERS_A_BATCH = 100
_MESSAGES_A_BATCH = 200
_CALLS_A_BATCH = 1000
_DAY_WEIGHTS = (100, 104, 100, 98, 90, 14, 7)
_HOUR_WEIGHTS = (1, 1, 1, 1, 1, 2, 6, 30, 85, 110, 105, 80, 45, 75, 100, 95, 80, 50, 22, 12, 8, 5, 3, 2)
_FAXES = 0.04
_RESULT_WEIGHTS = {"answered": 70, "voicemail": 13, "no-answer": 9, "busy": 6, "failed": 2}


@dataclass(frozen=True, slots=True)
class User:
    """One of the appliance's users: internal number and person."""

    number: int
    person: Person


def batches(order: Order, numbers: Sequence[int], now: datetime) -> Iterator[Batch]:
    """Yield users with their mailboxes, then messages, then call records, the older ones first.

    Args:
        order: How many of each. The same order gives the same data for the same numbers and the same ``now``.
        numbers: The internal numbers of the new users, as many as the order wants.
        now: The appliance's time, with its zone; everything happened in the 90 days before it.
    """
    yield from Demonstration(order, numbers, now).batches()


class Demonstration:
    """Who is there, and what happened to them."""

    def __init__(self, order: Order, numbers: Sequence[int], now: datetime) -> None:
        self._order = order
        self._now = now
        self._seed = f"{order.seed} {numbers[0] if numbers else 0}"  # those added later are others
        chance = self._chance("people")
        self._users = [User(number, make_person(chance)) for number in numbers]
        self._callers = [make_person(chance) for _ in range(max(20, 2 * order.users))]
        # Few callers call often, and few users are called often: the weight falls with the place.
        self._caller_weights = list(accumulate(1 / (place + 4) for place in range(len(self._callers))))
        self._user_weights = list(accumulate(1 / (place + 12) for place in range(len(self._users))))
        self._sounds: Sounds | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield everything."""
        yield from self._user_batches()
        yield from self._message_batches()
        yield from self._call_batches()

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._seed} {what}")  # noqa: S311 - plausible, not secret

    def _user_batches(self) -> Iterator[Batch]:
        chance = self._chance("users")
        for begin in range(0, len(self._users), _USERS_A_BATCH):
            users = self._users[begin : begin + _USERS_A_BATCH]
            batch = Batch({"user": [], "mailbox": [], "greeting": []})
            for number, person in ((user.number, user.person) for user in users):
                batch.rows["user"].append((number, person.name, person.phone))
                # Without a PIN nobody gets in by telephone: a demonstration opens no door.
                batch.rows["mailbox"].append((number, "", person.language, chance.choice((900, 1800, 1800, 3600))))
                for occasion in _occasions(chance):
                    length_ms, name = self._speak(chance, batch, chance.uniform(2, 5))
                    at = self._text(next(iter(self._moments(chance, 1))))
                    batch.rows["greeting"].append((number, occasion, at, length_ms, name))
            yield batch

    def _message_batches(self) -> Iterator[Batch]:
        chance = self._chance("messages")
        moments = self._moments(chance, self._order.messages)
        for begin in range(0, len(moments), _MESSAGES_A_BATCH):
            batch = Batch({"message": []})
            for moment in moments[begin : begin + _MESSAGES_A_BATCH]:
                batch.rows["message"].append(self._message(chance, batch, moment))
            yield batch

    def _message(self, chance: random.Random, batch: Batch, moment: float) -> tuple[object, ...]:
        user, caller = self._user(chance), self._caller(chance)
        kind, language = "voice", chance.choice((caller.language, user.person.language))
        if chance.random() < _FAXES:
            kind = "fax"
            pages = [make_page(chance, language, caller.phone, 1 + place) for place in range(chance.randrange(1, 5))]
            length_ms, name = sum(600 * len(page) for page in pages), batch.record(make_pdf(pages))
            transcript = "\f".join("\n".join(page) for page in pages).replace("\f", "\n\n")
        else:
            length_ms, name = self._speak(chance, batch, min(30.0, chance.lognormvariate(1.25, 0.5)))
            transcript = make_transcript(chance, language, caller.name, caller.phone, length_ms / 1000)
        age_days = (self._now.timestamp() - moment) / 86400
        heard = int(chance.random() < min(0.97, 0.4 + age_days / 10))
        return (user.number, kind, self._text(moment), caller.phone, length_ms, heard, name, transcript)

    def _call_batches(self) -> Iterator[Batch]:
        chance = self._chance("calls")
        moments = self._moments(chance, self._order.calls)
        for begin in range(0, len(moments), _CALLS_A_BATCH):
            part = moments[begin : begin + _CALLS_A_BATCH]
            yield Batch({"call_record": [self._call(chance, moment) for moment in part]})

    def _call(self, chance: random.Random, moment: float) -> tuple[object, ...]:
        """Return a call from outside, to the outside, or between two users; some reach no user's number."""
        if not self._users:
            parties: tuple[str, str, int | None] = (self._caller(chance).phone, "0", None)
        else:
            user, way = self._user(chance), chance.random()
            if way < 0.6:
                parties = (self._caller(chance).phone, str(user.number), user.number)
            elif way < 0.85:
                parties = (str(user.number), self._caller(chance).phone, user.number)
            elif way < 0.98 and (other := self._user(chance)) is not user:
                parties = (str(user.number), str(other.number), user.number)
            else:
                parties = (self._caller(chance).phone, "0", None)
        result = chance.choices(CALL_RESULTS, [_RESULT_WEIGHTS[each] for each in CALL_RESULTS])[0]
        ring_ms = int(1000 * min(60.0, chance.lognormvariate(2.0, 0.6))) if result not in {"busy", "failed"} else 0
        talk_s = {"answered": (4.5, 1.1), "voicemail": (2.7, 0.6)}.get(result)
        talk_ms = int(1000 * min(4 * 3600.0, chance.lognormvariate(*talk_s))) if talk_s else 0
        return (self._text(moment), *parties, result, ring_ms, talk_ms)

    def _speak(self, chance: random.Random, batch: Batch, length_s: float) -> tuple[int, str]:
        """Record somebody; return the length in milliseconds and the name."""
        if self._sounds is None:
            self._sounds = make_sounds(self._order.seed)
        samples = self._sounds.speak(chance, length_s)
        return len(samples) * 1000 // RATE_HZ, batch.record(make_wav(samples))

    def _user(self, chance: random.Random) -> User:
        return chance.choices(self._users, cum_weights=self._user_weights)[0]

    def _caller(self, chance: random.Random) -> Person:
        return chance.choices(self._callers, cum_weights=self._caller_weights)[0]

    def _moments(self, chance: random.Random, count: int) -> array[float]:
        """Return sorted seconds since the epoch: working hours of the last 90 days, on the appliance's calendar."""
        midnight = self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [midnight - timedelta(days=ago) for ago in range(_DAYS)]
        day_weights = list(accumulate(_DAY_WEIGHTS[day.weekday()] for day in days))
        hour_weights = list(accumulate(_HOUR_WEIGHTS))
        latest = self._now.timestamp()
        moments = array("d")
        for _ in range(count):
            day = chance.choices(range(_DAYS), cum_weights=day_weights)[0]
            second = 3600 * chance.choices(range(24), cum_weights=hour_weights)[0] + chance.randrange(3600)
            moment = (days[day] + timedelta(seconds=second)).timestamp()
            # What would be later today was at that time a week ago.
            moments.append(moment if moment <= latest else moment - 7 * 86400)
        return array("d", sorted(moments))

    def _text(self, moment: float) -> str:
        """Return a moment as the appliance's clock writes it; none is before the calendar of the clock begins."""
        when = datetime.fromtimestamp(moment, self._now.tzinfo)
        return (when if when.year >= 2000 else self._now).isoformat(timespec="seconds")


def _occasions(chance: random.Random) -> list[str]:
    """Return the occasions that a mailbox has greetings for: the standard one, and some others."""
    return [GREETING_OCCASIONS[0], *(each for each in GREETING_OCCASIONS[1:] if chance.random() < 0.12)]
