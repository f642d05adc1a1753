"""Which archive is meant: one of the folder of backups, or one at a target, which is fetched first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from callisto_telnetd.errors import DeclinedError, HostKeyUnknownError, UsageError, quoted
from callisto_telnetd.maintenance.fetching import fetch
from callisto_telnetd.menus.answers import Answer, Line
from callisto_telnetd.menus.arguments import take_options
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.progress import progress
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target, parse_remote_file

ACCEPT = "accept-host-key"
SOURCE = "[FILE|URL] [target-password | key=FILE] [ca=FILE] [allow-plain-ftp] [accept-host-key]"
_FLAGS = ("target-password", "allow-plain-ftp", ACCEPT)


@dataclass(frozen=True, slots=True)
class Source:
    """The archive that is meant."""

    place: str
    """Its name in the folder of backups, or its path; blank for the newest."""
    target: Target | None
    """None where it is here."""
    flags: frozenset[str]
    key_file: Path | None
    ca_file: Path | None

    async def fetched(self, context: Context) -> AsyncGenerator[Answer, None]:
        """Bring it here, where it is at a target; ask for what that takes."""
        if self.target is None:
            return
        require_owner_for_files(context, {"key": self.key_file, "ca": self.ca_file})
        password: SecretStr | None = None
        if "target-password" in self.flags:
            password = SecretStr(await context.dialogue.ask(f"Password at {self.target.place}: ", secret=True))
        credentials = Credentials(
            password=password,
            key_file=self.key_file,
            host_key=context.parts.backup_runs.host_key_of(self.target),
            ca_file=self.ca_file,
        )
        try:
            async with aclosing(self._steps(context, self.target, credentials)) as lines:
                async for line in lines:
                    yield line
        except HostKeyUnknownError as error:
            yield Line(f"Host key of {self.target.place}: {error.fingerprint}")
            await confirm_host_key(context, accepted=ACCEPT in self.flags)
            known = replace(credentials, host_key=error.key_line)
            async with aclosing(self._steps(context, self.target, known)) as lines:
                async for line in lines:
                    yield line

    async def _steps(self, context: Context, target: Target, credentials: Credentials) -> AsyncGenerator[Line, None]:
        folder = context.parts.folder.backup
        async with progress(partial(fetch, folder, target, credentials, self.place)) as steps:
            async for line in steps:
                yield Line(line)
            _ = steps.result


def require_owner_for_files(context: Context, named: Mapping[str, object]) -> None:
    """Refuse files that are named over the network: the server's user would log in with keys of his own at any host.

    Args:
        context: Of the caller.
        named: The options that name a file, with what was given.

    Raises:
        UsageError: one is given, and the caller is not the owner at the command line.
    """
    given = next((key for key, value in named.items() if value), None)
    if given is not None and not context.origin.is_owner:
        raise UsageError(
            f"{given}= names a file that the server's user reads: give it at the command line; nothing was changed"
        )


async def confirm_host_key(context: Context, *, accepted: bool) -> None:
    """Return if the host key that was shown is accepted, by its word in the line or now.

    Raises:
        UsageError: it is not; nothing was sent.
    """
    try:
        await context.confirm("Compare it with the server's. Accept it", confirmed=accepted)
    except DeclinedError:
        raise DeclinedError("the host key was not accepted; nothing was sent") from None
    except UsageError:
        raise UsageError(f"the host key was not accepted, nothing was sent; {ACCEPT!r} accepts it") from None


async def ask_password(context: Context, place: str) -> str | None:
    """Return the password of an archive, named as :attr:`Source.place` is; None where nothing protects it.

    Raises:
        BackupError: there is none of that name, or it is none inside.
        UsageError: none is given; or nothing protects it, and one is: somebody may have put it in another's place.
    """
    protected, name = await context.parts.backups.is_protected(place), Path(place).name
    if protected:
        password = await context.dialogue.ask(f"Password of {name}: ", secret=True)
        if not password:
            raise UsageError(
                f"{name} is protected by a password; give it at the question or with --password-stdin;"
                " nothing was changed"
            )
        return password
    if context.dialogue.brings_password:
        raise UsageError(f"no password protects {name}, but one was given: is it the right file?; nothing was changed")
    return None


def take_source(words: Sequence[str]) -> tuple[Source, list[str]]:
    """Return which archive the words mean, and the words that say something else.

    Raises:
        UsageError: what is said of a target fits none.
    """
    plain, options = take_options(words, ("key", "ca"))
    flags = frozenset(word for each in plain if (word := each.lower().removeprefix("--")) in _FLAGS)
    rest = [each for each in plain if each.lower().removeprefix("--") not in _FLAGS]
    place = rest.pop(0) if rest else ""
    key_file, ca_file = (Path(options[key]).absolute() if options.get(key) else None for key in ("key", "ca"))
    if "://" not in place:
        if flags or options:
            named = quoted(place) if place else "the newest backup"
            raise UsageError(f"{named} is here: what is said of a target belongs to a URL; nothing was changed")
        return Source(place, None, flags, None, None), rest
    target, name = parse_remote_file(place, allow_plain_ftp="allow-plain-ftp" in flags)
    return Source(name, target, flags, key_file, ca_file), rest
