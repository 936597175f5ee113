"""What a worker gives up before it hears anybody: privileges, others' files, and a life beyond its parent's.

Root becomes nobody; in a container that lacks the right to change its user it stays root without capabilities. A
process that has none already keeps what it is.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 15, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


class _Head(ctypes.Structure):
    """struct __user_cap_header_struct; pid 0 is this thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """struct __user_cap_data_struct, of which there are two: for capabilities 0 to 31, and 32 to 63."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def name_process(name: str) -> None:
    """The name that top and ps show, up to 15 octets."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def close_others(kept: int) -> None:
    """Close all files but the standard ones and one other: what a parent passed on unknowingly."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, kept)
    os.closerange(max(3, kept + 1), most)


def give_up_privileges() -> None:
    """Become nobody, without capabilities and without a way to get any. Raises OSError. Call it while there is but one
    thread: each has capabilities of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError:  # no right to: see the module
            pass
    head, none = _Head(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    # Some sandboxes forbid to give up what there is not.
    if libc.capset(ctypes.byref(head), none) and _has_capabilities(libc):
        raise OSError(ctypes.get_errno(), "can't give up capabilities")


def end_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends; a change of user before would have undone it. Raises
    ProcessLookupError when it has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "can't ask for the parent's end")
    if os.getppid() != parent:
        raise ProcessLookupError("the parent is gone")


def _has_capabilities(libc: ctypes.CDLL) -> bool:
    head, held = _Head(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    return bool(libc.capget(ctypes.byref(head), held)) or any(part.effective or part.permitted for part in held)
