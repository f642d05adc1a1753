from __future__ import annotations

from datetime import datetime

from callisto_telnetd.accounts.presence import Presence, Present
from callisto_telnetd.origin import Origin

SINCE = datetime(2026, 11, 23, 10, 15)


def enter(presence: Presence, who: str, told: list[tuple[str, str]], door: str = "telnet") -> Present:
    """Enter a session that notes what it is told, with its account."""
    origin = Origin(who, door, "192.0.2.7")
    return presence.enter(origin, SINCE, lambda text: told.append((who, text)), lambda why: told.append((who, why)))


def test_sessions_are_listed_oldest_first_under_numbers_of_their_own() -> None:
    """A number is given once, even where the session that had it has left."""
    presence, told = Presence(), list[tuple[str, str]]()
    first, second = enter(presence, "ada", told), enter(presence, "bob", told)
    presence.leave(second)
    third = enter(presence, "eve", told)

    assert [entry.number for entry in presence.all()] == [first.number, third.number]
    assert len({first.number, second.number, third.number}) == 3


def test_leaving_twice_is_leaving_once() -> None:
    """A session that has left already changes nothing by leaving again."""
    presence = Presence()
    entry = enter(presence, "ada", [])
    presence.leave(entry)
    presence.leave(entry)

    assert presence.all() == []


def test_a_notice_reaches_all_but_one() -> None:
    """Everybody is told, but the session that caused it."""
    presence, told = Presence(), list[tuple[str, str]]()
    first = enter(presence, "ada", told)
    enter(presence, "bob", told)
    presence.notify_all("repair begins", but=first.number)
    presence.notify_all("repair ends")

    assert told == [("bob", "repair begins"), ("ada", "repair ends"), ("bob", "repair ends")]


def test_the_sessions_of_an_account_end() -> None:
    """All sessions of the account end, but the one named and those of the local socket; their number is returned."""
    presence, told = Presence(), list[tuple[str, str]]()
    own = enter(presence, "ada", told)
    enter(presence, "ada", told, door="telnets")
    enter(presence, "ada", told, door="local")
    enter(presence, "bob", told)

    assert presence.end_sessions_of("ada", "removed", but=own.number) == 1
    assert presence.end_sessions_of("nobody", "removed") == 0
    assert told == [("ada", "removed")]


def test_a_session_may_leave_while_it_is_told() -> None:
    """An end that takes the session off the list at once disturbs nobody else's."""
    presence = Presence()
    ended: list[str] = []

    def end(reason: str) -> None:
        ended.append(reason)
        for entry in presence.all():
            presence.leave(entry)

    for _ in range(3):
        presence.enter(Origin("ada", "telnet", "192.0.2.7"), SINCE, lambda _: None, end)

    assert presence.end_sessions_of("ada", "removed") == 3
    assert ended == ["removed"] * 3


def test_an_account_is_told_in_all_its_sessions() -> None:
    """A notice for an account goes to each of its sessions and to nobody else, and is not kept."""
    presence, told, later = Presence(), list[tuple[str, str]](), list[tuple[str, str]]()
    for who in ("ada", "ada", "bob"):
        enter(presence, who, told)
    presence.tell("ada", "done")
    enter(presence, "ada", later)

    assert told == [("ada", "done"), ("ada", "done")]
    assert later == []


def test_an_account_that_is_away_is_told_when_it_comes() -> None:
    """The newest twenty notices wait for the next log-in, once."""
    presence, told, again = Presence(), list[tuple[str, str]](), list[tuple[str, str]]()
    for number in range(25):
        presence.tell("ada", f"notice {number}")
    enter(presence, "ada", told)
    enter(presence, "ada", again)

    assert told == [("ada", f"notice {number}") for number in range(5, 25)]
    assert again == []


def test_notices_are_kept_for_so_many_accounts_alone() -> None:
    """Past a hundred accounts, the one that was told first is forgotten."""
    presence, told = Presence(), list[tuple[str, str]]()
    for number in range(101):
        presence.tell(f"user{number}", "done")
    for number in (0, 1, 100):
        enter(presence, f"user{number}", told)

    assert told == [("user1", "done"), ("user100", "done")]


def test_a_standing_notice_is_told_until_it_is_cleared() -> None:
    """Every session is told once, each that logs in is told again, and after it was cleared nobody."""
    presence, told, later = Presence(), list[tuple[str, str]](), list[tuple[str, str]]()
    enter(presence, "ada", told)
    presence.stand("check", "one fault")
    presence.stand("check", "one fault")
    enter(presence, "bob", told)
    presence.stand("check", "two faults")
    presence.clear("check")
    presence.clear("check")
    enter(presence, "eve", later)

    assert told == [("ada", "one fault"), ("bob", "one fault"), ("ada", "two faults"), ("bob", "two faults")]
    assert later == []


def test_standing_notices_are_bounded() -> None:
    """Past twenty, the oldest stands no longer."""
    presence = Presence()
    for number in range(25):
        presence.stand(str(number), f"notice {number}")

    assert presence.standing() == [f"notice {number}" for number in range(5, 25)]


WEB = Origin("ada", "web", "192.0.2.8")


def test_the_end_of_a_browsers_session_is_told_to_each_request() -> None:
    """A browser that sends two requests at once is told twice why its session was ended, and has no new one."""
    presence = Presence()
    ended, left = presence.enter_web(WEB, SINCE), presence.enter_web(WEB, SINCE)
    presence.end_sessions_of("ada", "the account was removed", but=left.number)
    presence.leave(left)

    assert [presence.use_web(ended.ticket, WEB, SINCE) for _ in range(2)] == ["the account was removed"] * 2
    assert presence.use_web(left.ticket, WEB, SINCE) == "the session has ended"
    assert presence.all() == []


def test_a_browser_that_logged_in_before_the_start_has_one_session() -> None:
    """Its first request enters it again, the next ones find that; no number of this start is taken for its own."""
    before = Presence()
    ticket = before.enter_web(WEB, SINCE).ticket
    presence = Presence()
    other = presence.enter_web(WEB, SINCE)
    first, second = (presence.use_web(ticket, WEB, SINCE) for _ in range(2))

    assert isinstance(first, Present)
    assert first is second is presence.use_web(first.ticket, WEB, SINCE) is not other
    assert presence.all() == [other, first]
    first.end("ended here")
    assert presence.use_web(ticket, WEB, SINCE) == "ended here"


def test_browsers_that_never_ask_again_are_bounded() -> None:
    """Past 512 the one that was used longest ago goes, and no session of another door."""
    presence = Presence()
    shell = enter(presence, "ada", [])
    entries = [presence.enter_web(WEB, SINCE) for _ in range(512)]
    presence.use_web(entries[0].ticket, WEB, SINCE)
    last = presence.enter_web(WEB, SINCE)

    assert presence.all() == [shell, entries[0], *entries[2:], last]
