from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.errors import TargetError
from callisto_telnetd.transports.target import Target, parse_remote_file, parse_target
from callisto_telnetd.transports.wire import is_own_name, is_plain, part_name, parted_name

TAKEN = [
    ("sftp://backup@nas/folder", Target("sftp", "backup", "nas", 22, "/folder")),
    ("SFTP://backup@NAS.example.org:2222/a/b/", Target("sftp", "backup", "nas.example.org", 2222, "/a/b")),
    ("sftp://backup@nas/", Target("sftp", "backup", "nas", 22, "/")),
    ("sftp://backup@nas/~/a/b", Target("sftp", "backup", "nas", 22, "a/b", in_home=True)),
    ("sftp://backup@nas/~", Target("sftp", "backup", "nas", 22, "", in_home=True)),
    ("sftp://backup@nas/~/", Target("sftp", "backup", "nas", 22, "", in_home=True)),
    ("sftp://backup@nas/%7E/a", Target("sftp", "backup", "nas", 22, "/~/a")),
    ("sftp://backup@nas/~other/a", Target("sftp", "backup", "nas", 22, "/~other/a")),
    ("sftp://b%40example.org@192.0.2.7/x", Target("sftp", "b@example.org", "192.0.2.7", 22, "/x")),
    ("ftps://b@[2001:DB8::7]:990/x", Target("ftps", "b", "2001:db8::7", 990, "/x")),
    ("ftps://b@[::1]/x", Target("ftps", "b", "::1", 21, "/x")),
    ("sftp://b@nas/B%C3%BCro/a%20b%3F%23%25", Target("sftp", "b", "nas", 22, "/Büro/a b?#%")),
    ("sftp://b@nas/Büro", Target("sftp", "b", "nas", 22, "/Büro")),
    ("file:///var/backup", Target("file", "", "", 0, "/var/backup")),
    ("file://localhost/var/a%20b", Target("file", "", "", 0, "/var/a b")),
    ("/var/100%?#", Target("file", "", "", 0, "/var/100%?#")),
    ("/", Target("file", "", "", 0, "/")),
]

REFUSED = [
    ("", "blank"),
    ("nas", "no target"),
    ("var/backup", "no target"),
    ("~/backup", "no target"),
    ("sftp:/b@nas/x", "no target"),
    ("//nas/x", "empty part"),
    ("http://b@nas/x", "begins with"),
    ("sftp://nas/x", "user@host"),
    ("sftp://@nas/x", "user@host"),
    ("sftp://b:Secret-1@nas/x", "no password"),
    ("sftp://b:@nas/x", "no password"),
    ("sftp://b:Sec@ret@nas/x", "no password"),
    ("sftp://b@nas", "no folder"),
    ("sftp://b@nas?Secret", "neither"),
    ("sftp://b@/x", "neither"),
    ("sftp://b@nas:0/x", "port"),
    ("sftp://b@nas:65536/x", "port"),
    ("sftp://b@nas:/x", "port"),
    ("sftp://b@nas:+22/x", "port"),
    ("sftp://b@nas:２２/x", "port"),
    ("sftp://b@nas:22:22/x", "port"),
    ("sftp://b@2001:db8::7/x", "neither"),
    ("sftp://b@[2001:db8::7/x", "neither"),
    ("sftp://b@[2001:db8::7]22/x", "neither"),
    ("sftp://b@[fe80::1%25eth0]/x", "neither"),
    ("sftp://b@[192.0.2.7]/x", "neither"),
    ("sftp://b@192.0.2/x", "neither"),
    ("sftp://b@0x7f.1/x", "neither"),
    ("sftp://b@1.2.3.256/x", "neither"),
    ("sftp://b@na s/x", "neither"),
    ("sftp://b@-nas/x", "neither"),
    ("sftp://b@näs/x", "neither"),
    ("sftp://b@nas..org/x", "neither"),
    ("sftp://b@" + "a" * 64 + "/x", "neither"),
    ("sftp://b@nas/x?y", "no query"),
    ("sftp://b@nas/x#y", "no query"),
    ("sftp://b@nas/a//b", "empty part"),
    ("sftp://b@nas/a/../b", "empty part"),
    ("sftp://b@nas/%2e%2e/b", "empty part"),
    ("sftp://b@nas/a%2Fb", "slash"),
    ("sftp://b@nas/a%0D%0ADELE%20x", "control"),
    ("sftp://b@nas/a%00", "control"),
    ("sftp://b@nas/a%E2%80%AEb", "control"),
    ("sftp://b%0A@nas/a", "control"),
    ("sftp://b@nas/%zz", "percent"),
    ("sftp://b@nas/%C3", "percent"),
    ("sftp://b@nas/a\nb", "printable"),
    ("sftp://b@nas/" + "x" * 1000, "longer"),
    ("sftp://" + "b" * 256 + "@nas/x", "user@host"),
    ("file://nas/x", "file:///folder"),
    ("file://", "file:///folder"),
    ("/a/../b", "empty part"),
]


@pytest.mark.parametrize(("text", "target"), TAKEN)
def test_a_target_is_what_its_url_says(text: str, target: Target) -> None:
    """Scheme, user, host, port and folder are told apart, and the text form parses to the same again."""
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_is_no_target_is_one_clear_line(text: str, reason: str) -> None:
    """What is wrong is said in one line that repeats nothing of what was typed: it may hold a password."""
    with pytest.raises(TargetError, match=reason) as raised:
        parse_target(text)

    assert str(raised.value).isprintable()
    assert "Sec" not in str(raised.value)


def test_plain_ftp_is_only_taken_with_leave() -> None:
    """Clear text is refused unless it is allowed by name, and the target says what it is."""
    with pytest.raises(TargetError, match="--allow-plain-ftp"):
        parse_target("ftp://b@nas/x")

    target = parse_target("ftp://b@nas/x", allow_plain_ftp=True)

    assert target == Target("ftp", "b", "nas", 21, "/x")
    assert target.is_clear_text
    assert not parse_target("ftps://b@nas/x").is_clear_text


@given(
    st.sampled_from(["sftp", "ftps", "ftp"]),
    st.text(min_size=1, max_size=20),
    st.lists(st.text(min_size=1, max_size=8), max_size=5),
    st.integers(1, 65535),
    st.booleans(),
)
def test_every_target_survives_its_text(scheme: str, user: str, parts: list[str], port: int, in_home: bool) -> None:
    """Whatever a target holds, its text is printable, and parses to it, or is refused with a reason."""
    folder = "/".join(parts) if in_home else "/" + "/".join(parts)
    try:
        text = str(Target(scheme, user, "nas", port, folder, in_home))  # type: ignore[arg-type]
    except UnicodeEncodeError:
        return  # a lone surrogate, which no parsed target holds
    try:
        parsed = parse_target(text, allow_plain_ftp=True)
    except TargetError:
        return

    assert str(parsed) == text
    assert parsed == Target(scheme, user, "nas", port, folder, in_home)  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=()), max_size=60) | st.from_regex(r"sftp://[ -~]{0,40}@[ -~]{0,40}/.*"))
def test_any_text_is_a_target_or_one_line(text: str) -> None:
    """Hostile text gives a plain target or a line; nothing in a target drives a server or a terminal."""
    try:
        target = parse_target(text)
    except TargetError as error:
        line = str(error)
    else:
        line = target.user + target.host + target.folder + str(target)
        assert ".." not in target.folder.split("/")

    assert line.isprintable()


@pytest.mark.parametrize(
    ("text", "folder", "name"),
    [
        ("sftp://b@nas/folder/a.zip", "sftp://b@nas:22/folder", "a.zip"),
        ("sftp://b@nas/~/a%20b.zip", "sftp://b@nas:22/~/", "a b.zip"),
        ("sftp://b@nas/a.zip", "sftp://b@nas:22/", "a.zip"),
        ("/var/a b.zip", "file:///var", "a b.zip"),
        ("/a.zip", "file:///", "a.zip"),
        ("file:///var/a.zip", "file:///var", "a.zip"),
    ],
)
def test_a_file_at_a_target_is_its_folder_and_its_name(text: str, folder: str, name: str) -> None:
    """The last part of the URL is the name, the rest a target."""
    target, found = parse_remote_file(text)

    assert (str(target), found) == (folder, name)


@pytest.mark.parametrize("text", ["a.zip", "/", "sftp://b@nas/", "sftp://b@nas/x/", "sftp://b@nas/..", "sftp://b@nas"])
def test_a_file_at_a_target_has_a_name(text: str) -> None:
    """Without a name at its end, or without a folder, it is refused."""
    with pytest.raises(TargetError):
        parse_remote_file(text)


def test_places_are_named_without_the_user() -> None:
    """Messages name host and port, IPv6 in brackets, or the folder."""
    assert parse_target("ftps://b@[2001:db8::7]:990/x").place == "[2001:db8::7]:990"
    assert parse_target("/var/backup").place == "/var/backup"


def test_temporary_names_are_told_from_names() -> None:
    """A part is known by its form, and belongs to one name; it is never a name itself."""
    part = part_name("a.zip", "0123456789abcdef")

    assert parted_name(part) == "a.zip"
    assert parted_name("a.zip") is None
    assert parted_name("a.zip.part-0123456789abcdeF") is None
    assert is_own_name("a.zip")
    assert not is_own_name(part)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a\x1b[2J", "a\nb", "a\u202eb", "a\u2028", "\udcff", "x" * 256]
)
def test_hostile_names_are_not_plain(name: str) -> None:
    """What leads elsewhere, drives a terminal or is too long is no plain name."""
    assert not is_plain(name)
