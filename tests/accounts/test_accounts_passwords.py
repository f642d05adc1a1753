from __future__ import annotations

import asyncio
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.accounts.passwords import MAX_LENGTH, RULE, PasswordHashes, random_password, require_rule
from callisto_telnetd.errors import AccountError

GOOD = "Secret-123"


@pytest.mark.parametrize(
    "password",
    [
        "Secret-1",
        "Aa1!" * 32,
        "Grüße, 42 Mal",
        "ÄÖÜäöü1 ",
        "Пароль-1",
    ],
)
def test_a_password_within_the_rule_is_taken(password: str) -> None:
    """Eight to 128 printable characters of all four kinds, in any alphabet, are a password."""
    require_rule(password)


@pytest.mark.parametrize(
    "password",
    [
        "",
        "Secre-1",
        "Aa1!" * 32 + "x",
        "secret-123",
        "SECRET-123",
        "Secret-one",
        "Secret1234",
    ],
)
def test_a_password_outside_the_rule_is_refused_and_never_repeated(password: str) -> None:
    """The refusal says the rule, and holds nothing of the password."""
    with pytest.raises(AccountError) as refused:
        require_rule(password)

    assert str(refused.value) == f"the password is outside the rule: {RULE}"


@pytest.mark.parametrize("code", [0x0A, 0x0D, 0x1B, 0x202E, 0xFEFF, 0xDCFF])
def test_a_letter_that_cannot_be_printed_is_named(code: int) -> None:
    """A password that fulfils the rule to the eye is refused with what is in it."""
    with pytest.raises(AccountError) as refused:
        require_rule(f"Secret-1{chr(code)}")

    assert str(refused.value) == f"the password holds U+{code:04X}, which is no printable character; allowed: {RULE}"


def test_random_passwords_are_within_the_rule_and_differ() -> None:
    """Every random password may be set, and no two are the same."""
    made = {random_password() for _ in range(200)}

    for password in made:
        require_rule(password)
    assert len(made) == 200
    assert {len(password) for password in made} == {16}


@given(st.text(max_size=200))
def test_the_rule_answers_for_any_text(password: str) -> None:
    """Any text is either taken or refused with the rule; nothing else is ever raised, and length and controls count."""
    fits = 8 <= len(password) <= MAX_LENGTH and password.isprintable()
    try:
        require_rule(password)
    except AccountError:
        return
    assert fits


async def test_a_hash_verifies_its_own_password_alone(hashes: PasswordHashes, good_hash: str) -> None:
    """The right password belongs to its hash, another does not, and two hashes of one password differ."""
    first = await hashes.make(GOOD)

    assert first != good_hash
    assert GOOD not in first
    assert first.startswith("$argon2id$")
    assert not hashes.outdated(first)
    assert await asyncio.gather(*(hashes.check(first, each) for each in (GOOD, GOOD.lower(), "", GOOD + " "))) == [
        True,
        False,
        False,
        False,
    ]


async def test_the_hash_of_a_long_password_is_not_cut(hashes: PasswordHashes) -> None:
    """The last of 128 characters counts."""
    longest = "Aa1!" * 32
    known = await hashes.make(longest)

    assert await hashes.check(known, longest)
    assert not await hashes.check(known, longest[:-1] + "?")


async def test_an_overlong_password_is_wrong_even_where_it_would_verify(hashes: PasswordHashes) -> None:
    """A password of 129 characters is never right, whatever the hash says."""
    overlong = "Aa1!" * 32 + "x"
    known = await hashes.make(overlong)

    assert not await hashes.check(known, overlong)


@pytest.mark.parametrize(
    "known", ["", "no hash at all", "$argon2id$v=19$m=47104,t=2,p=1$", "$2b$12$abcdefghijklmnopqrstuv"]
)
async def test_a_damaged_hash_lets_nobody_in(hashes: PasswordHashes, known: str) -> None:
    """What stands in the database in place of a hash belongs to no password, and raises nothing."""
    assert not await hashes.check(known, GOOD)
    assert not await hashes.check(known, "")


@pytest.mark.parametrize(
    ("kept", "typed"),
    [("Passw\u00f6rt-1", "Passwo\u0308rt-1"), ("\u00c5ngstr\u00f6m 1!", "\u212bngstro\u0308m\u00a01!")],
)
async def test_what_looks_the_same_is_the_same_password(hashes: PasswordHashes, kept: str, typed: str) -> None:
    """A password is taken in every spelling of Unicode that looks like it; one that was kept as typed still is, too."""
    require_rule(typed)
    composed, as_typed = await hashes.make(kept), hashes._argon2.hash(typed)

    assert await hashes.check(composed, typed)
    assert await hashes.check(await hashes.make(typed), kept)
    assert await hashes.check(as_typed, typed)
    assert not await hashes.check(composed, typed + "x")


@pytest.mark.parametrize("password", ["Wrong-123", "Wro\u0308ng-123", "x" * 5000, ""])
async def test_an_unknown_name_takes_the_work_of_a_whole_hash(
    hashes: PasswordHashes, good_hash: str, password: str
) -> None:
    """Without a hash the answer is no, after the same work: processor time tells a guesser nothing."""
    await hashes.check(None, "x")  # makes the dummy hash, once

    spent = []
    for each in (good_hash, None):
        begin = time.process_time()
        assert not await hashes.check(each, password)
        spent.append(time.process_time() - begin)

    assert min(spent) > 0.01, "the answer came without a hash"


async def test_two_hashes_are_made_at_once_behind_the_loop(hashes: PasswordHashes) -> None:
    """However many log in, two threads hash, behind the event loop's; two for those to be first stand nearer to it."""
    await asyncio.gather(*(hashes.check(None, "x", first=number % 2 == 0) for number in range(8)))

    own = os.getpriority(os.PRIO_PROCESS, 0)
    for pool, niceness in ((hashes._threads, 10), (hashes._first, 2)):
        threads = [thread.native_id for thread in pool._threads]
        assert len(threads) == 2
        assert {os.getpriority(os.PRIO_PROCESS, thread or 0) for thread in threads} == {min(own + niceness, 19)}


async def test_the_loop_goes_on_while_a_hash_is_made(hashes: PasswordHashes) -> None:
    """The event loop turns while a thread hashes."""
    turns = 0
    making = asyncio.create_task(hashes.make(GOOD))
    while not making.done():
        turns += 1
        await asyncio.sleep(0)

    assert turns > 20
