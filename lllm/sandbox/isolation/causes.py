"""Why a tier does not work on a machine, by what its programs print, and what to type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

INSTALL: Final = "Type: sudo apt-get install bubblewrap"

CAUSES: Final = (
    # (printed, cause, cure); the first that fits
    (
        "Can't mount proc",
        "parts of /proc are hidden from this container, so that none can be mounted inside",
        "Start the container with --security-opt systempaths=unconfined (Docker) or unmask=ALL (Podman).",
    ),
    (
        "max_*_namespaces exceeded",
        "user namespaces are switched off, or no more are allowed here",
        "Type: sudo sysctl user.max_user_namespaces=15000",
    ),
    (
        "execvp prlimit",
        "the program 'prlimit' of util-linux is missing",
        "Type: sudo apt-get install util-linux",
    ),
    (
        "failed to execute setpriv",
        "the program 'setpriv' of util-linux is missing",
        "Type: sudo apt-get install util-linux",
    ),
    (
        "PR_SET_SECCOMP",
        "this machine has no filters of system calls (CONFIG_SECCOMP_FILTER)",
        "Use another kernel.",
    ),
    (
        "unrecognised option",
        "bubblewrap is older than 0.8",
        "Install a newer one: https://github.com/containers/bubblewrap",
    ),
    (
        "Unknown option",
        "bubblewrap is older than 0.8",
        "Install a newer one: https://github.com/containers/bubblewrap",
    ),
)

SWITCHES: Final = (
    # (file, value that forbids user namespaces, cause, cure)
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are switched off for users other than root",
        "Type: sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are switched off",
        "Type: sudo sysctl user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor allows user namespaces to named programs only, and bubblewrap is not among them (Ubuntu since 24.04)",
        "Give bubblewrap a profile: write 'abi <abi/4.0>, include <tunables/global> profile bwrap /usr/bin/bwrap "
        "flags=(unconfined) { userns, }' to /etc/apparmor.d/bwrap and type: sudo systemctl reload apparmor",
    ),
)

NAMESPACES: Final = ("namespace", "uid map", "RTM_NEWADDR", "slave", "pivot_root", "clone", "mount")
"""Words of bubblewrap's messages where the machine does not allow it to make what it needs."""


def explain(printed: str, *, root: bool, filtered: bool | None = None) -> tuple[str, str]:
    """The cause and the cure.

    Args:
        printed: what bubblewrap and the programs in it printed.
        root: whether lllm is root.
        filtered: whether a filter of system calls holds for lllm itself; by default this is looked up.
    """
    for words, cause, cure in CAUSES:
        if words in printed:
            return cause, cure
    if any(word in printed for word in NAMESPACES):
        for file, value, cause, cure in SWITCHES:
            if not (root and "max" not in file) and _read(file) == value:
                return cause, cure
        if _filtered() if filtered is None else filtered:
            return (
                f"a filter of system calls, as containers have it, forbids namespaces ({_short(printed)})",
                "Start the container with --security-opt seccomp=FILE, a profile that allows clone, unshare, mount and "
                "pivot_root, or with --security-opt seccomp=unconfined.",
            )
        if root and not _may_administer():
            return (
                f"root has no right to make namespaces in this container ({_short(printed)})",
                "Run lllm as a user other than root, or start the container with --cap-add SYS_ADMIN.",
            )
        return (
            f"this machine does not allow namespaces ({_short(printed)})",
            "See: docs/guides/sandbox-isolation.md",
        )
    return _short(
        printed
    ) or "its first command printed nothing and failed", "See: docs/guides/sandbox-isolation.md"


def _read(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def _status(name: str) -> str:
    lines = _read("/proc/self/status").splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "0")


def _filtered() -> bool:
    return _status("Seccomp") == "2"


def _may_administer() -> bool:
    """Whether CAP_SYS_ADMIN (21) is in the effective set."""
    return bool(int(_status("CapEff"), 16) >> 21 & 1)


def _short(printed: str) -> str:
    line = printed.strip().splitlines()[-1] if printed.strip() else ""
    return "".join(char for char in line if char.isprintable())[:200].replace(os.sep + "newroot", "")
