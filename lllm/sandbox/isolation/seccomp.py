"""The filter of system calls for code in a sandbox, as a program for the kernel.

What is refused changes the view of the machine, looks into other processes, or reaches parts of the kernel that code for data
has no use for. Refused calls fail with EPERM; `clone3`, whose flags a filter cannot see, with ENOSYS: libc then uses `clone`.

A filter is a list of `struct sock_filter` (code, jt, jf, k), see
https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html. Numbers of calls are those of
`arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import platform
import struct
from typing import Final

DENIED: Final = {
    # call: (x86_64, arm64), None where it does not exist
    # mounts and roots
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # namespaces
    "unshare": (272, 97),
    "setns": (308, 268),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "vhangup": (153, 58),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "personality": (135, 92),
    # parts of the kernel in which faults have been found again and again
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "fanotify_init": (300, 262),
    "memfd_secret": (447, 447),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # memory that belongs to no process, and so to no limit
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # of which the machine has so much for all
    "io_setup": (206, 0),
    "uselib": (134, None),
    "_sysctl": (156, None),
}

ALONE: Final = {
    "connect": (42, 203),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    # what other programs have made: it is found by number or name, without the call that makes it
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_unlink": (241, 181),
}
"""Refused besides where no namespace is around: a kernel accepts connections and makes none."""

OTHERS: Final = {
    # call: (x86_64, arm64), the argument that names a process, the value of the first argument that makes it name a user
    "prlimit64": ((302, 261), 0, None),
    "sched_setattr": ((314, 274), 0, None),
    "setpriority": ((141, 140), 1, 2),
    "ioprio_set": ((251, 30), 1, 3),
}
"""Allowed there for the caller itself only, which is 0; not for all processes of its user, who is 0 too. `sched_setscheduler`
is not among them: ZMQ calls it for its threads."""

_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_SOCKET: Final = (41, 198)
_SOCKETPAIR: Final = (53, 199)
_IOCTL: Final = (16, 29)
_PRCTL: Final = (157, 167)
_SET_DUMPABLE: Final = 4
"""It would hide a process from those that watch its limits."""

_UNIX: Final = 1
_STREAMS: Final = (1, 5)
"""SOCK_STREAM and SOCK_SEQPACKET, which send nothing but to the other end. One of a pair of SOCK_DGRAM sends to any address."""
FAMILIES: Final = (_UNIX, 2, 10, 16)
"""Families of sockets that exist: unix, IPv4, IPv6, netlink. Others, vsock among them, are not bound to a network namespace."""

_NEW: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_TERMINALS: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: input for somebody else's terminal."""

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By machine: the column of the numbers, and the AUDIT_ARCH of its calls."""

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
_EPERM, _ENOSYS, _EOPNOTSUPP, _EAFNOSUPPORT = 1, 38, 95, 97
"""ZMQ aborts where it cannot list the machine's addresses, unless it is EOPNOTSUPP."""

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_NUMBER, _ARCH = 0, 4


def _argument(n: int) -> int:
    """Where the lower half of an argument stands in `struct seccomp_data`, on a little-endian machine."""
    return 16 + 8 * n


class _Program:
    """Instructions with labels. A jump is (code, value, label if true); if false, the next instruction follows."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, str]] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        self._lines.append((_LOAD, offset, ""))

    def jump(self, code: int, value: int, label: str) -> None:
        self._lines.append((code, value, label))

    def mask(self, value: int) -> None:
        self._lines.append((_AND, value, ""))

    def end(self, value: int) -> None:
        self._lines.append((_RETURN, value, ""))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._lines)

    def assembled(self) -> bytes:
        made = []
        for place, (code, value, label) in enumerate(self._lines):
            ahead = self._labels[label] - place - 1 if label else 0
            assert 0 <= ahead <= 255
            made.append(struct.pack("=HBBI", code, ahead, 0, value))
        return b"".join(made)


def program(machine: str | None = None, *, alone: bool = False) -> bytes | None:
    """The filter for a machine, by default this one; None for a machine without one.

    Args:
        alone: for code that has no namespaces around it. It has no sockets but unix ones that others connect to.
    """
    found = _MACHINES.get(platform.machine() if machine is None else machine)
    if found is None:
        return None
    column, arch = found
    made = _Program()
    made.load(_ARCH)
    made.jump(_EQUAL, arch, "known")
    made.end(_KILL)  # calls of another architecture have other numbers
    made.label("known")
    made.load(_NUMBER)
    if column == 0:
        made.jump(_LEAST, 0x40000000, "denied")  # the x32 ABI: the same calls by other numbers
    for numbers in ({**DENIED, **ALONE} if alone else DENIED).values():
        if (number := numbers[column]) is not None:
            made.jump(_EQUAL, number, "denied")
    made.jump(_EQUAL, _CLONE3[column], "missing")
    made.jump(_EQUAL, _CLONE[column], "clone")
    made.jump(_EQUAL, _SOCKET[column], "socket")
    made.jump(_EQUAL, _IOCTL[column], "ioctl")
    made.jump(_EQUAL, _PRCTL[column], "prctl")
    others = OTHERS if alone else {}
    if alone:
        made.jump(_EQUAL, _SOCKETPAIR[column], "socket")
    for name, (numbers, _, _) in others.items():
        made.jump(_EQUAL, numbers[column], name)
    made.end(_ALLOW)
    for name, (_, place, user) in others.items():
        made.label(name)
        if user is not None:
            made.load(_argument(0))
            made.jump(_EQUAL, user, "denied")
        made.load(_argument(place))
        made.jump(_EQUAL, 0, "allowed")
        made.end(_ERROR | _EPERM)
    made.label("prctl")
    made.load(_argument(0))
    made.jump(_EQUAL, _SET_DUMPABLE, "denied")
    made.end(_ALLOW)
    made.label("clone")
    made.load(_argument(0))
    made.jump(_ANY_BIT, _NEW, "denied")
    made.end(_ALLOW)
    made.label("ioctl")
    made.load(_argument(1))
    for request in _TERMINALS:
        made.jump(_EQUAL, request, "denied")
    made.end(_ALLOW)
    made.label("socket")
    made.load(_argument(0))
    for family in (_UNIX,) if alone else FAMILIES:
        made.jump(_EQUAL, family, "kinds" if alone else "allowed")
    made.end(_ERROR | (_EOPNOTSUPP if alone else _EAFNOSUPPORT))
    made.label("kinds")
    made.load(_argument(1))
    made.mask(0xF)
    for kind in _STREAMS:
        made.jump(_EQUAL, kind, "allowed")
    made.end(_ERROR | _EPERM)
    made.label("allowed")
    made.end(_ALLOW)
    made.label("missing")
    made.end(_ERROR | _ENOSYS)
    made.label("denied")
    made.end(_ERROR | _EPERM)
    return made.assembled()
