"""crypt(3) of the system's libcrypt: which password hashes it can check at a bearable cost, and one computation.

Python's own module of this name is gone from newer versions and not safe in threads; crypt_r(3) is.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from typing import Any

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2", None)
"""With most systems a library of its own; None: part of the C library."""
_WORK_SPACE = 256 * 1024
"""Octets, more than any library's struct crypt_data."""
_LONGEST_PASSWORD = 511

_MOST_ROUNDS = 200_000
_MOST_BCRYPT_COST = 12
_MOST_YESCRYPT_COST = "B"
"""The dearest that is computed: some tenths of a second, or 64 MB. Whoever writes a label chooses the cost, and all
apps share the threads that pay it."""

_DIGIT = "[./0-9A-Za-z]"
_SHA = re.compile(rf"\$[56]\$(?:rounds=(?P<rounds>[0-9]{{1,9}})\$)?[^$:\n]{{0,16}}\$(?:{_DIGIT}{{43}}|{_DIGIT}{{86}})")
_MD5 = re.compile(rf"\$1\$[^$:\n]{{0,8}}\${_DIGIT}{{22}}")
_BCRYPT = re.compile(rf"\$2[abxy]\$(?P<cost>[0-9]{{2}})\${_DIGIT}{{53}}")
_YESCRYPT = re.compile(rf"\$g?y\$j(?P<cost>[5-9A-Z])T\${_DIGIT}{{0,86}}\${_DIGIT}{{43}}")
_DES = re.compile(rf"{_DIGIT}{{13}}")


def hash_fault(text: str) -> str:
    """Why a password hash is not one that can be checked; empty: nothing. The text says nothing of the hash itself."""
    if not text:
        return "the password hash is empty"
    if not text.isascii():
        return "the password hash has characters that no crypt(3) hash has"
    if found := _SHA.fullmatch(text):
        if int(found["rounds"] or 0) > _MOST_ROUNDS:
            return f"the password hash has more than {_MOST_ROUNDS} rounds"
    elif found := _BCRYPT.fullmatch(text):
        if int(found["cost"]) > _MOST_BCRYPT_COST:
            return f"the password hash has a cost of more than {_MOST_BCRYPT_COST}"
    elif found := _YESCRYPT.fullmatch(text):
        if found["cost"] > _MOST_YESCRYPT_COST:
            return "the password hash takes more than 64 MB"
    elif not _MD5.fullmatch(text) and not _DES.fullmatch(text):
        return "the password hash is none of crypt(3): use `mkpasswd -m sha-512`; plain passwords are not taken"
    if not _usable(text.encode("ascii")):
        return "the password hash is of a kind that this system's libcrypt does not have"
    return ""


def crypt(password: bytes, setting: bytes) -> bytes | None:
    """The hash of a password by the method, salt and cost of another hash; None: it can't be computed.

    Takes the time that the setting asks for, without Python's lock; may be called from any thread.
    """
    if b"\0" in password or len(password) > _LONGEST_PASSWORD:
        return None
    if (call := _crypt_r()) is None:
        return None
    space = getattr(_thread, "space", None)
    if space is None:
        space = _thread.space = ctypes.create_string_buffer(_WORK_SPACE)
    result = call(password, setting, space)
    ctypes.memset(space, 0, _WORK_SPACE)
    return None if result is None or result.startswith(b"*") else result


_thread = threading.local()
_loaded: list[Any] = []


def _library() -> Any:
    """The library, or None where there is none."""
    if not _loaded:
        for name in _LIBRARIES:
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            if hasattr(library, "crypt_r"):
                library.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
                library.crypt_r.restype = ctypes.c_char_p
                _loaded.append(library)
                break
        else:
            _loaded.append(None)
    return _loaded[0]


def _crypt_r() -> Callable[[bytes, bytes, Any], bytes | None] | None:
    library = _library()
    return None if library is None else library.crypt_r


def _usable(setting: bytes) -> bool:
    """Whether the library has the method; the older glibc can't be asked, and has what begins so."""
    library = _library()
    if library is None:
        return False
    if hasattr(library, "crypt_checksalt"):
        # CRYPT_SALT_OK, or a method that is thought of as out of date.
        return library.crypt_checksalt(setting) in (0, 3)
    return setting.startswith((b"$1$", b"$5$", b"$6$")) or setting[:1] != b"$"
