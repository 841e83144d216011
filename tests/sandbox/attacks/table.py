"""The table of all attacks: it is what tests check, and what docs/guides/sandbox-isolation.md shows."""

from typing import Final

from tests.sandbox.attacks.files import FILES
from tests.sandbox.attacks.kernels import MACHINE, MESSAGES
from tests.sandbox.attacks.limits import LIMITS
from tests.sandbox.attacks.network import NETWORK
from tests.sandbox.attacks.processes import PROCESSES
from tests.sandbox.attacks.row import Row

GROUPS: Final = {
    "Keys and files": FILES,
    "Network": NETWORK,
    "Processes": PROCESSES,
    "Limits": LIMITS,
    "The machine's kernel": MACHINE,
    "Messages to lllm": MESSAGES,
}

ROWS: Final[dict[str, Row]] = {name: row for group in GROUPS.values() for name, row in group.items()}
