from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from callisto_telnetd.errors import CallistoError, FolderError, SettingsError
from callisto_telnetd.quantities import parse_bytes
from callisto_telnetd.settings import Section, Settings, default_data_folder, load_settings

NETWORKS = "allowed: networks that may connect, such as 10.0.0.0/8; none named: all"
BANNER = "allowed: first line that a client sees; blank: product and version"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith("CALLISTO_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the data folder's settings stand."""
    return tmp_path / "callisto.toml"


def refusal(data: Path, **flags: object) -> str:
    """Return what is said of wrong settings."""
    with pytest.raises(SettingsError) as refused:
        load_settings(data, flags=flags)
    assert refused.value.exit_code == 2
    return str(refused.value)


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    """An empty folder is an appliance of its defaults, at home on loopback."""
    settings = load_settings(tmp_path)

    assert (settings.telnet.host, settings.telnet.port, settings.telnet.tls) == ("127.0.0.1", 23, None)
    assert (settings.appliance.edition, settings.appliance.hostname) == ("ucm", "callisto")
    limits = settings.limits
    assert (limits.sessions, limits.sessions_per_source, limits.pending) == (100, 20, 32)
    assert (limits.login_s, limits.idle_s) == (60, 900)
    assert (settings.clock.mode, settings.telnet.echo) == ("offset", "negotiated")


def test_later_sources_win(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file goes before the defaults, the environment before the file, flags before all; the rest stays."""
    file.write_text('[telnet]\nport = 2001\nhost = "127.0.0.2"\necho = "always"\n[limits]\nidle_s = 60\n')
    assert load_settings(tmp_path).telnet.port == 2001
    monkeypatch.setenv("CALLISTO_TELNET__PORT", "2002")
    monkeypatch.setenv("CALLISTO_TELNET__HOST", "127.0.0.3")
    assert load_settings(tmp_path).telnet.port == 2002
    settings = load_settings(tmp_path, flags={"telnet": {"port": 2003}})

    assert (settings.telnet.port, settings.telnet.host, settings.telnet.echo) == (2003, "127.0.0.3", "always")
    assert settings.limits.idle_s == 60


def test_a_file_of_the_owner_s_stands_in_for_the_folder_s(tmp_path: Path, file: Path) -> None:
    """``--config`` reads that file alone."""
    file.write_text("[telnet]\nport = 1\n")
    other = tmp_path / "other.toml"
    other.write_text('[appliance]\nhostname = "box"\n')
    settings = load_settings(tmp_path, other)

    assert (settings.telnet.port, settings.appliance.hostname) == (23, "box")
    assert settings.file == other


@pytest.mark.parametrize(
    ("name", "value", "path", "wanted"),
    [
        ("CALLISTO_LIMITS__SESSIONS", "2000", "limits.sessions", 2000),
        ("callisto_limits__sessions", "2000", "limits.sessions", 100),
        ("CALLISTO_TRACE__SIZE", "64k", "trace.size", 65_536),
        ("CALLISTO_TELNET__ALLOW", "10.0.0.0/8, 2001:db8::/32", "telnet.allow", ("10.0.0.0/8", "2001:db8::/32")),
        ("CALLISTO_TELNET__TLS__PORT", "", "telnet.port", 23),
        ("CALLISTO_DATA", "/somewhere", "telnet.port", 23),
        ("CALLISTO_ADMIN_PASSWORD", "Secret-123", "telnet.port", 23),
    ],
)
def test_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, path: str, wanted: object
) -> None:
    """A variable sets its key; a blank one, and those of other use, set nothing."""
    monkeypatch.setenv(name, value)
    found: object = load_settings(tmp_path)
    for part in path.split("."):
        found = getattr(found, part)

    if name.islower():
        assert found in {wanted, 2000}
    else:
        assert (tuple(map(str, found)) if isinstance(found, tuple) else found) == wanted


def test_tls_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nested table can be set by the environment alone."""
    monkeypatch.setenv("CALLISTO_TELNET__TLS__CERTIFICATE", "/a.pem")
    monkeypatch.setenv("CALLISTO_TELNET__TLS__KEY", "/b.pem")
    tls = load_settings(tmp_path).telnet.tls

    assert tls is not None
    assert (str(tls.certificate), str(tls.key), tls.port) == ("/a.pem", "/b.pem", 992)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[telnet]\nport = 70000", "telnet.port: '70000' is not allowed; allowed: TCP port, 0 to 65535"),
        ('[telnet]\nport = "x"', "telnet.port: 'x' is not allowed; allowed: TCP port, 0 to 65535"),
        ("[telnet]\nports = 1", "'telnet.ports' is no setting; allowed: host, port, allow, echo or tls"),
        (
            "port = 1",
            (
                "'port' is no setting;"
                " allowed: appliance, telnet, limits, clock, trace, log, database, backup, services or variables"
            ),
        ),
        ('[telnet]\necho = "never"', "telnet.echo: 'never' is not allowed; allowed: negotiated or always"),
        ('telnet = "x"', "telnet: 'x' is not allowed; allowed: a table with host, port, allow, echo or tls"),
        (
            '[telnet]\nallow = ["10.0.0.0/33"]',
            f"telnet.allow: '10.0.0.0/33' is not allowed; {NETWORKS}",
        ),
        ("[telnet.tls]\nport = 1", "telnet.tls.certificate is missing: PEM file of the certificate chain"),
        (
            '[telnet.tls]\ncertificate = "a"\nkey = "b"\nciphers = "x"',
            "'telnet.tls.ciphers' is no setting; allowed: certificate, key or port",
        ),
        ('[appliance]\nedition = "pro"', "appliance.edition: 'pro' is not allowed; allowed: ucm, ucme or one"),
        (
            '[appliance]\nhostname = "a b"',
            "appliance.hostname: 'a b' is not allowed; allowed: 1 to 63 letters, digits, . and -",
        ),
        (
            '[appliance]\nbanner = "two\\nlines"',
            f"appliance.banner: 'two\\nlines' is not allowed; {BANNER}",
        ),
        ("[limits]\nsessions = 0", "limits.sessions: '0' is not allowed; allowed: sessions in all, 1 to 100000"),
        (
            '[trace]\nsize = "10X"',
            "trace.size: '10X' is not allowed; allowed: default bound of one capture, 1k to 1024G",
        ),
        (
            '[log]\nlevel = "loud"',
            (
                "log.level: 'loud' is not allowed; "
                "allowed: debug, info, notice, warning, error, critical, alert or emergency"
            ),
        ),
        ("[variables]\ngX = 5", "variables: '5' is not allowed; allowed: the owner's own system variables"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, file: Path, toml: str, said: str) -> None:
    """Every error names the file, the key and what is allowed, in one printable line."""
    file.write_text(toml)

    line = refusal(tmp_path)
    assert line == f"{file}: {said}"
    assert line.isprintable()


def test_an_error_names_the_source_that_it_came_from(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three sources the one whose value counts is named."""
    file.write_text("[telnet]\nport = -1\n")
    assert refusal(tmp_path).startswith(f"{file}: telnet.port: '-1' is not allowed")
    monkeypatch.setenv("CALLISTO_TELNET__PORT", "-2")
    assert refusal(tmp_path).startswith("environment: telnet.port: '-2' is not allowed")
    assert refusal(tmp_path, telnet={"port": -3}).startswith("command line: telnet.port: '-3' is not allowed")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CALLISTO_FOO", "1", "environment: 'CALLISTO_FOO' is no setting; allowed: CALLISTO_APPLIANCE__…,"),
        ("CALLISTO_TELNET", "1", "environment: "),
        ("CALLISTO_TELNET_PORT", "1", "environment: 'CALLISTO_TELNET_PORT' is no setting"),
        ("CALLISTO_FOO__BAR", "1", "environment: 'CALLISTO_FOO__BAR' is no setting"),
        ("CALLISTO_TELNET__FOO", "1", "environment: 'telnet.foo' is no setting; allowed: host, port"),
        ("CALLISTO_TELNET__TLS", "{", "environment: "),
    ],
)
def test_a_wrong_variable_of_the_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """A slip in a name is an error, never a setting that is silently left out."""
    monkeypatch.setenv(name, value)

    line = refusal(tmp_path)
    assert line.startswith(said)
    assert line.isprintable()


@pytest.mark.parametrize("content", [b"[telnet", b"port = = 1", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_says_so(tmp_path: Path, file: Path, content: bytes) -> None:
    """The file is named, and the reason is one printable line."""
    file.write_bytes(content)

    line = refusal(tmp_path)
    assert line.startswith(f"{file}: not TOML: ")
    assert line.isprintable()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """The folder's own file may be missing, one that the owner names may not."""
    with pytest.raises(SettingsError, match=r"none\.toml: no such settings file$"):
        load_settings(tmp_path, tmp_path / "none.toml")
    with pytest.raises(SettingsError, match=r"Is a directory$"):
        load_settings(tmp_path, tmp_path)


def test_a_folder_whose_file_cannot_be_read_is_a_fault_of_the_folder(tmp_path: Path, file: Path) -> None:
    """What stands in the file's place and is none is told as it is."""
    file.mkdir()

    with pytest.raises(FolderError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("64k", 65_536),
        ("10M", 10 << 20),
        ("1g", 1 << 30),
        ("0k", 0),
        ("512", 512),
        ("x", None),
        ("", None),
        ("-1", None),
    ],
)
def test_sizes_have_units(value: str, size: int | None) -> None:
    """k, M and G are steps of 1024 in any case; what is none is nothing."""
    assert parse_bytes(value) == size


def test_a_plain_number_is_a_size(tmp_path: Path, file: Path) -> None:
    """In the file a size is a number or a text with a unit."""
    file.write_text('[trace]\nsize = 2048\nheld_bytes = "2M"\nfree = "0"\n')
    trace = load_settings(tmp_path).trace

    assert (trace.size, trace.held_bytes, trace.free) == (2048, 2 << 20, 0)


def test_what_is_held_and_kept_of_the_trace_by_default(tmp_path: Path) -> None:
    """Without a word of the owner's no UDP port and no page are open, and all files together have their budget."""
    trace = load_settings(tmp_path).trace

    assert (trace.udp, trace.metrics, trace.budget) == (None, None, 256 << 20)


@pytest.mark.parametrize("key", ["udp", "metrics"])
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:514", ("127.0.0.1", 514)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:514", ("::1", 514)),
        ("[0:0:0:0:0:0:0:1]:9464", ("::1", 9464)),
        ("[2001:DB8::7]:9464", ("2001:db8::7", 9464)),
    ],
)
def test_an_address_to_listen_on(tmp_path: Path, file: Path, key: str, text: str, address: tuple[str, int]) -> None:
    """Address and port of IPv4, or of IPv6 in brackets, as others write them."""
    file.write_text(f'[trace]\n{key} = "{text}"\n')

    assert getattr(load_settings(tmp_path).trace, key) == address


@pytest.mark.parametrize(
    "value",
    [
        *("", "514", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:514 ", "localhost:514"),
        *("::1:514", "[::1]", "[::1]514", "1.2.3:514", "1.2.3.4.5:514", "01.2.3.4:5", "٣.0.0.1:514", "*:514"),
        *("[fe80::1%lo]:514", "[:::]:514", "127.0.0.1:514\n", "x" * 5000),
        *(514, ["127.0.0.1", 70000], {"host": "127.0.0.1"}),
    ],
)
@pytest.mark.parametrize("key", ["udp", "metrics"])
def test_what_is_no_address_names_how_one_is_written(tmp_path: Path, key: str, value: object) -> None:
    """The refusal names the key and shows an address, in one bounded printable line."""
    line = refusal(tmp_path, trace={key: value})

    example = {"udp": "take syslog by UDP, such as 127.0.0.1:514", "metrics": "page, such as 127.0.0.1:9464"}[key]
    assert line.startswith(f"command line: trace.{key}: ")
    assert " is not allowed; allowed: address and port " in line
    assert line.endswith(example.replace("page", "of the Prometheus page") if key == "metrics" else example)
    assert line.isprintable()
    assert len(line) < 300


@pytest.mark.parametrize("key", ["udp", "metrics"])
@pytest.mark.parametrize("toml", ["514", "true", "[1, 2]", "{ host = 1 }", '"127.0.0.1"', "[]"])
def test_an_address_is_text(tmp_path: Path, file: Path, key: str, toml: str) -> None:
    """A number, a list or a table is refused by the key's name."""
    file.write_text(f"[trace]\n{key} = {toml}\n")

    assert refusal(tmp_path).startswith(f"{file}: trace.{key}")


def test_addresses_and_sizes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container sets them without a file."""
    monkeypatch.setenv("CALLISTO_TRACE__UDP", "[::1]:5514")
    monkeypatch.setenv("CALLISTO_TRACE__METRICS", "127.0.0.1:9464")
    monkeypatch.setenv("CALLISTO_TRACE__BUDGET", "1G")
    trace = load_settings(tmp_path).trace

    assert (trace.udp, trace.metrics, trace.budget) == (("::1", 5514), ("127.0.0.1", 9464), 1 << 30)


@pytest.mark.parametrize(("value", "size"), [("1M", 1 << 20), (1 << 20, 1 << 20), ("1024G", 1 << 40)])
def test_the_budget_of_all_trace_files(tmp_path: Path, value: object, size: int) -> None:
    """From one mebibyte to one tebibyte."""
    assert load_settings(tmp_path, flags={"trace": {"budget": value}}).trace.budget == size


@pytest.mark.parametrize("value", ["0", "1023k", "1025G", "x", "", -1, None, 1.5])
def test_a_budget_outside_its_range_is_refused(tmp_path: Path, value: object) -> None:
    """The refusal names the range."""
    line = refusal(tmp_path, trace={"budget": value})

    assert line.startswith("command line: trace.budget: ")
    assert line.endswith("is not allowed; allowed: size of all trace files, 1M to 1024G")


def test_settings_do_not_change(tmp_path: Path) -> None:
    """Nobody changes a setting while the server runs."""
    settings = load_settings(tmp_path)

    with pytest.raises(ValidationError, match="frozen"):
        settings.telnet.port = 1  # type: ignore[misc]


def sections(model: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    """Yield the model and every table in it."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from sections(kind)


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.__name__)
def test_every_setting_has_a_description(section: type[BaseModel]) -> None:
    """Every key says what it is; every table says so in its docstring, and refuses keys that it does not know."""
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        table = any(isinstance(kind, type) and issubclass(kind, Section) for kind in kinds)
        assert field.description or table, name
    assert section.__doc__
    assert section.model_config["extra"] == "forbid"


def test_where_the_data_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``$CALLISTO_DATA`` first, then the system's state folder for root, the user's for others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_folder() == Path("/var/lib/callisto")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_data_folder() == tmp_path / "callisto"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert default_data_folder() == Path.home() / ".local" / "state" / "callisto"
    monkeypatch.setenv("CALLISTO_DATA", "/srv/callisto")
    assert default_data_folder() == Path("/srv/callisto")


def test_a_hostile_path_is_one_line(tmp_path: Path) -> None:
    """A path with a line end in it makes no second line."""
    with pytest.raises(CallistoError) as refused:
        load_settings(tmp_path, tmp_path / "a\nb\x1b.toml")

    assert str(refused.value).isprintable()
