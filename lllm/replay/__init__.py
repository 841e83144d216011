"""Re-execution: the real machine, prompts, parsers and handlers of today on the recorded effects of a session.

Nothing is asked of a model, no tool runs, no time passes. Every event that the code of today would write is compared,
byte by byte, with the recorded one; the first that differs ends the replay and names its cause.

Two ways lead through a session. Where its first event says what was run (a configured system), that is built and run
again as a whole, so the system's own code is re-executed too. Otherwise each agent call is re-executed by itself, in the
agent that the configuration has under its name. A call of an agent that is not configured (a library's own) is folded:
its events must be moves of the machine, and its messages are taken as recorded; the report counts those apart.
"""

from __future__ import annotations

from lllm.replay.again import areplay_session as areplay_session
from lllm.replay.again import replay_session as replay_session
from lllm.replay.cases import WhatIf as WhatIf
from lllm.replay.cases import awhatif as awhatif
from lllm.replay.cases import whatif as whatif
from lllm.replay.fork import Fork as Fork
from lllm.replay.fork import afork_session as afork_session
from lllm.replay.fork import fork_session as fork_session
from lllm.replay.report import Report as Report
from lllm.replay.resume import Resumption as Resumption
from lllm.replay.resume import aresume_session as aresume_session
from lllm.replay.resume import resume_session as resume_session
from lllm.replay.tape import Replayed as Replayed

__all__ = [
    "Fork",
    "Replayed",
    "Report",
    "Resumption",
    "WhatIf",
    "afork_session",
    "areplay_session",
    "aresume_session",
    "awhatif",
    "fork_session",
    "replay_session",
    "resume_session",
    "whatif",
]
