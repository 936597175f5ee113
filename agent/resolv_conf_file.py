"""One resolv.conf on disk: taken over, and given back as it was.

The original is saved before anything changes, so that any process can give it back at any time: Pharos at its
end, its watchdog after a crash, `pharos resolv-conf restore` by hand. Each call looks at the file anew and
leaves alone what somebody else has written. Everything here blocks: call it in a thread.

The saved original is two files: its bytes, for people to read and copy, and beside them `.json` with mode,
owner and, where the original was a symbolic link, the link. Only the standard library is used: the watchdog
loads this module.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from agent import resolv_conf_lock
from agent.resolv_conf import decode, encode, is_ours, nameservers, ours, upstream_text

UPLINKS = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved names the servers that it asks itself."""
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})
"""systemd-resolved's own addresses. It asks what resolv.conf names: as our upstream it would ask us."""
LARGEST = 1 << 20
MODE = 0o644

_NO_RENAME = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM)
State = Literal["ours", "upstreams", "original", "absent"]
Released = Literal["original", "upstreams", "nothing", "not ours"]


class Original(NamedTuple):
    """A resolv.conf as it was found; `link` is the target of a symbolic link, `absent` that there was none."""

    content: bytes = b""
    mode: int = MODE
    uid: int = 0
    gid: int = 0
    link: str = ""
    absent: bool = False


class Seen(NamedTuple):
    """One look: whether the file is as we want it, paused (given back for a while) or another's, and its bytes."""

    state: Literal["ours", "paused", "changed"]
    content: bytes | None


class ResolvConf:
    """The file at `path`, whose original is kept at `saved`; `addresses` are the resolver's own.

    All methods raise OSError for what the disk does not take.
    """

    def __init__(self, path: Path, saved: Path, addresses: Sequence[str], *, uplinks: Path = UPLINKS) -> None:
        self.path, self.saved, self.addresses = path, saved, tuple(addresses)
        self._uplinks = uplinks
        self._about = saved.with_name(f"{saved.name}.json")

    # --- what is there ----------------------------------------------------------------------------

    def state(self) -> State:
        """Who wrote what programs read now: "ours" (the resolver), "upstreams" (what stands in for it), another."""
        content = self._content()
        if content is None:
            return "absent"
        if not is_ours(decode(content)):
            return "original"
        return "ours" if set(nameservers(decode(content))) & set(self.addresses) else "upstreams"

    def look(self) -> Seen:
        """Whether the file is as it is to be.

        Pharos and its watchdog write without a lock between them, so that neither ever waits for one that
        hangs: the text counts before the note that it is given back, and whoever finds it wrong writes again.
        """
        content = self._content()
        original, paused = self._load()
        if content == self._ours(original) and not self.path.is_symlink():
            return Seen("ours", content)
        return Seen("paused" if paused else "changed", content)

    def servers(self) -> list[str]:
        """The name servers of the file as it is now."""
        return nameservers(decode(self._content() or b""))

    def original_nameservers(self) -> list[str]:
        """The original's servers without our own addresses; where it names systemd-resolved, those that that asks.

        A linked original is read where the link leads: its owner goes on writing there.
        """
        content = self._content()
        if content is None or is_ours(decode(content)):
            content = self._content_of(self._load()[0])
        found = self._foreign(content)
        if found and STUBS.issuperset(found):
            with contextlib.suppress(OSError):
                found = self._foreign(_read(self._uplinks)) or found
        return found

    # --- changes ----------------------------------------------------------------------------------

    def take(self) -> None:
        """Point the file at our addresses; what is there and not ours is saved first, durably, as the original."""
        if not self.addresses:
            raise OSError(errno.EINVAL, "no address to write")
        found = self._find()
        original, paused = self._load()
        if not is_ours(decode(found.content)) and not (found.absent and original is not None):
            original = found
            self._save(found, paused=False)
        elif paused:
            self._save(original or Original(), paused=False)
        self._write(self._ours(original), original or Original())

    def give_back(self) -> bool:
        """Put the original back exactly and forget it; False when the file is not ours, or no original is known."""
        given = self._give_back()
        if given or self.state() == "original":
            self._forget()
        return given

    def fall_back(self, servers: Sequence[str]) -> None:
        """Name these servers instead of ours; the original stays saved."""
        original = self._load()[0] or Original()
        self._write(encode(upstream_text(decode(self._content_of(original)), servers)), original)

    def release(self, upstreams: Sequence[str], *, pause: bool = False) -> Released:
        """End or pause: the original where it names a server that is not ours, otherwise `upstreams`, otherwise
        the original all the same. What somebody else wrote stays. After a pause `take` goes on."""
        content = self._content()
        original = self._load()[0]
        servers = [server for server in upstreams if server not in self.addresses]
        not_ours = content is not None and not is_ours(decode(content))
        if original is None and not servers and not not_ours:
            return "nothing"
        if pause:  # said before it is done: whoever looks after the file then lets it be
            self._save(original or Original(), paused=True)
        if not_ours:
            if not pause:
                self._forget()
            return "not ours"
        if servers and not self._foreign(self._content_of(original)):
            self.fall_back(servers)
            return "upstreams"
        if not self._give_back():
            return "nothing"
        if not pause:
            self._forget()
        return "original"

    def lock(self) -> int:
        """An open file whose lock makes this process and those that inherit it the only keepers of the file.

        Raises BlockingIOError when another has it.
        """
        return resolv_conf_lock.lock(self.path, self.saved)

    def unlock(self, lock: int) -> None:
        """Give the lock back; only for the last of those that have it."""
        resolv_conf_lock.unlock(lock, self.path, self.saved)

    def is_kept(self) -> bool:
        """Whether a process has the lock."""
        return resolv_conf_lock.is_locked(self.path, self.saved)

    def clean(self) -> None:
        """Remove what a process left that was killed while it wrote. Only for whoever holds the lock."""
        for target in (self.path, self.saved, self._about):
            for left in target.parent.glob(f".{target.name}.pharos-*"):
                left.unlink(missing_ok=True)

    # --- parts ------------------------------------------------------------------------------------

    def _ours(self, original: Original | None) -> bytes:
        content = self._content_of(original)
        return encode(ours("" if is_ours(decode(content)) else decode(content), self.addresses, self.saved))

    def _foreign(self, content: bytes) -> list[str]:
        return [server for server in nameservers(decode(content)) if server not in self.addresses]

    def _content(self) -> bytes | None:
        """What programs read, None where there is nothing (a link may lead nowhere)."""
        try:
            return _read(self.path)
        except FileNotFoundError:
            return None

    def _content_of(self, original: Original | None) -> bytes:
        """The original's content; behind a link what is there now, if there is anything."""
        if original is None:
            return b""
        if original.link:
            with contextlib.suppress(OSError):
                return _read(self.path.parent / original.link)
        return original.content

    def _find(self) -> Original:
        """The file as it is."""
        try:
            about = os.lstat(self.path)
        except FileNotFoundError:
            return Original(absent=True)
        link = os.readlink(self.path) if stat.S_ISLNK(about.st_mode) else ""
        if not link and not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, f"{str(self.path)!r} is neither a file nor a symbolic link")
        return Original(self._content() or b"", stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid, link)

    def _save(self, original: Original, *, paused: bool) -> None:
        """The bytes first: what is said about them names them by their checksum."""
        self.saved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = original._asdict() | {"content": zlib.crc32(original.content), "paused": paused}
        before = self._load_about()
        if before.get("content") != about["content"] or not self.saved.exists():
            _replace(self.saved, original.content, 0o600)
        _replace(self._about, json.dumps(about).encode(), 0o600)

    def _load(self) -> tuple[Original | None, bool]:
        """The saved original, None when there is none, and whether it is given back for a while."""
        try:
            content = _read(self.saved)
        except FileNotFoundError:
            return None, False
        about = self._load_about()
        if about.get("content") != zlib.crc32(content):  # written in part: the bytes alone are certain
            return Original(content), False
        mode, uid, gid = (value if type(value := about.get(key)) is int else None for key in ("mode", "uid", "gid"))
        link = about.get("link")
        original = Original(
            content,
            MODE if mode is None else mode & 0o7777,
            uid or 0,
            gid or 0,
            link if isinstance(link, str) else "",
            about.get("absent") is True,
        )
        return original, about.get("paused") is True

    def _load_about(self) -> dict[str, object]:
        try:
            about = json.loads(_read(self._about))
        except (FileNotFoundError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def _forget(self) -> None:
        self._about.unlink(missing_ok=True)
        self.saved.unlink(missing_ok=True)

    def _give_back(self) -> bool:
        original = self._load()[0]
        content = self._content()
        if original is None or (content is not None and not is_ours(decode(content))):
            return False
        if original.link:
            _rename_over(self.path, lambda new: os.symlink(original.link, new))
        elif original.absent:
            self.path.unlink(missing_ok=True)
        else:
            self._write(original.content, original)
        return True

    def _write(self, content: bytes, like: Original) -> None:
        """Atomically; where the file can't be replaced, as one that is mounted by itself, in place."""
        mode = like.mode if not like.link else MODE
        try:
            _replace(self.path, content, mode, like)
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            try:
                _write_in_place(self.path, content)
            except FileNotFoundError:
                raise error from None


def _read(path: Path) -> bytes:
    """Raises OSError (EFBIG for what is no resolv.conf)."""
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(errno.EFBIG, f"{str(path)!r} is larger than {LARGEST} bytes")
    return content


def _replace(path: Path, content: bytes, mode: int, like: Original | None = None) -> None:
    """Write a new file and move it over `path`; on disk when this returns."""

    def write(new: Path) -> None:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            if like is not None:
                _dress(file.fileno(), path, like)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())

    _rename_over(path, write)


def _rename_over(path: Path, make: Callable[[Path], None]) -> None:
    """Let `make` create a file or a link under another name, then rename it to `path`."""
    new = path.with_name(f".{path.name}.pharos-{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        make(new)
        new.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _dress(fd: int, path: Path, like: Original) -> None:
    """Owner and security label as before, as far as we may."""
    with contextlib.suppress(OSError):
        os.fchown(fd, like.uid, like.gid)
    with contextlib.suppress(OSError):
        os.setxattr(fd, "security.selinux", os.getxattr(path, "security.selinux", follow_symlinks=False))


def _write_in_place(path: Path, content: bytes) -> None:
    """Such that a reader never finds it empty. A link is not followed: what it leads to is another's."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(content):
            done += os.pwrite(fd, content[done:], done)
        os.ftruncate(fd, len(content))
        os.fsync(fd)
    finally:
        os.close(fd)
