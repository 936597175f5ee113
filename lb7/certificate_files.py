"""The folder of certificates, watched: each PEM file has a certificate, its chain and its key, in any order.

A file that can't be used is reported, and what it last held stays; one that is gone is no longer used. Files whose
names begin with a dot, or do not end as those of certificates, are left alone. Sorted by name, the first is for clients
that ask for no name that there is.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import stat as mode

from cryptography import x509
from cryptography.x509.oid import NameOID

from lb7.certificates import context_of
from lb7.wire import Certificate
from mesos_dns.watched_file import SETTLE, Stamp, opened, stamp_of

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the folder."""
MOST_FILES = 10_000
MOST_OCTETS = 256 << 10
"""Of one file."""
_ENDINGS = (".pem", ".crt", ".cert")


class CertificateFiles:
    """See the module. `certificates`: those in use; `expiry`: UNIX times by file; `problems`: texts by file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.certificates: tuple[Certificate, ...] = ()
        self.expiry: dict[str, float] = {}
        self.problems: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}

    def __repr__(self) -> str:
        return f"<CertificateFiles folder={self.folder!r} in_use={len(self.certificates)} bad={len(self.problems)}>"

    async def look(self, *, settled: bool = False) -> bool:
        """Read what is new; whether the certificates in use have changed. `settled`: files are not being written."""
        if not self.folder:
            return False
        try:
            stamps = await asyncio.to_thread(_stamps_of, self.folder)
            if stamps == self._stamps:
                return False
            if not settled:
                await asyncio.sleep(SETTLE)
                if await asyncio.to_thread(_stamps_of, self.folder) != stamps:
                    return False
        except Exception as error:
            self._complain("", f"can't read the folder {self.folder!r}: {getattr(error, 'strerror', None) or error}")
            return False
        self.problems.pop("", None)
        return await self._take(stamps)

    async def _take(self, stamps: dict[str, Stamp]) -> bool:
        """Read those of which the stamp is another."""
        before = {certificate.name: certificate for certificate in self.certificates}
        now: dict[str, Certificate] = {}
        failed: set[str] = set()
        for name in sorted(stamps)[:MOST_FILES]:
            if stamps[name] == self._stamps.get(name):
                if name in before:
                    now[name] = before[name]
                continue
            try:
                now[name], self.expiry[name] = await asyncio.to_thread(read_certificate, self.folder, name)
                self.problems.pop(_printable(name), None)
            except Exception as error:  # what is odd in a certificate is told by many kinds of them
                if isinstance(error, OSError):  # its rights may change, which no stamp shows
                    failed.add(name)
                kept = "; what it held before is still used" if name in before else ""
                self._complain(name, f"{self.folder}/{name}: {str(error) or type(error).__name__}{kept}")
                if name in before:
                    now[name] = before[name]
        if len(stamps) > MOST_FILES:
            self._complain("", f"{self.folder!r} has more than {MOST_FILES} PEM files: the last by name are left out")
        self._stamps = {name: stamp for name, stamp in stamps.items() if name not in failed}
        self.expiry = {name: when for name, when in self.expiry.items() if name in now}
        there = set(map(_printable, stamps))
        self.problems = {name: text for name, text in self.problems.items() if not name or name in there}
        changed = now != before
        self.certificates = tuple(now.values())
        return changed

    def _complain(self, name: str, text: str) -> None:
        name, text = _printable(name), _printable(text)
        if self.problems.get(name) != text:
            self.problems[name] = text
            log.error("a certificate can't be used: %s", text)


def _printable(name: str) -> str:
    """A file's name, or what is said of it, as UTF-8 can have it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _stamps_of(folder: str) -> dict[str, Stamp]:
    """The PEM files of a folder (links are followed, as those that tools for certificates make); blocks."""
    found: dict[str, Stamp] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.endswith(_ENDINGS):
                continue
            try:
                status = entry.stat()
            except OSError:  # a link to nowhere, or gone since
                continue
            if mode.S_ISREG(status.st_mode):
                found[entry.name] = stamp_of(status)
    return found


def read_certificate(folder: str, name: str) -> tuple[Certificate, float]:
    """A file's certificate, and when it expires; blocks. Raises OSError, ValueError that say what is wrong with it, and
    whatever else `x509` does."""
    if _printable(name) != name:  # workers could not be told
        raise ValueError("has a name that is not UTF-8")
    with opened(os.path.join(folder, name)) as (fd, status):
        if status.st_size > MOST_OCTETS:
            raise ValueError(f"is larger than {MOST_OCTETS} octets")
        pem = os.read(fd, MOST_OCTETS)
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise ValueError("has no certificate (-----BEGIN CERTIFICATE-----)") from None
    if b"PRIVATE KEY-----" not in pem:
        raise ValueError("has no key (-----BEGIN PRIVATE KEY-----)")
    try:
        context_of(pem)
    except OSError as error:
        raise ValueError(f"certificate and key can't be used: {error}") from None
    return Certificate(name, names_of(leaf), pem), leaf.not_valid_after_utc.replace(tzinfo=datetime.UTC).timestamp()


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The server names that a certificate is for, lower-cased: those of its extension, else its common name (what is
    still seen within companies, although RFC 9525 forbids clients to look at it)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        found = []
    if not found:
        found = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in found))
