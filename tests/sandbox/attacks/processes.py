"""Attacks on other processes, and by those that survive."""

from typing import Final

from tests.sandbox.attacks.row import Row

_SURVIVE: Final = """
subprocess.Popen([P['python'], '-c', 'import time; time.sleep(1000)', 'survivor'], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(P['python'], [P['python'], '-c', 'import time; time.sleep(1000)', 'survivor'])
    os._exit(0)
os.system('nohup ' + P['python'] + ' -c "import time; time.sleep(1000)" survivor >/dev/null 2>&1 &')
opened('started')
"""

PROCESSES: Final = {
    "ptrace": Row("ptrace of another process", "call('ptrace', 16, P['victim'], 0, 0); opened('attached')"),
    "ptrace_parent": Row(
        "ptrace of the parent",
        "call('ptrace', 16, os.getppid(), 0, 0); opened('attached')",
        control="it would stop the control's harness",
    ),
    "memory_read": Row(
        "memory of another process",
        "f = open(f\"/proc/{P['victim']}/mem\", 'rb'); opened('opened')",
    ),
    "vm_readv": Row(
        "memory of another process, by process_vm_readv",
        """
buffer = ctypes.create_string_buffer(8)
local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
remote = (ctypes.c_size_t * 2)(P['address'], 8)
opened(call('process_vm_readv', P['victim'], local, 1, remote, 1, 0))
""",
    ),
    "signal": Row("a signal to another process", "os.kill(P['victim'], 9); opened('sent')", check="victim"),
    "signal_parent": Row(
        "SIGKILL to the parent",
        "os.kill(os.getppid(), 9); time.sleep(0.5)",
        keeps=True,
        control="it would kill the control's harness",
    ),
    "signals_parent": Row(
        "every other signal to the parent",
        """
for number in range(1, 65):
    try:
        if number != 9: os.kill(os.getppid(), number)
    except OSError: pass
time.sleep(0.5)
""",
        keeps=True,
        control="it would stop the control's harness",
    ),
    "signal_first": Row(
        "SIGKILL to process 1",
        "os.kill(1, 9); time.sleep(0.5)",
        keeps=True,
        control="it would kill the control's world",
    ),
    "signal_all": Row(
        "SIGKILL to every process there is",
        "os.kill(-1, 9); time.sleep(0.5)",
        check="victim",
        control="it would kill the control's harness",
    ),
    "limit": Row(
        "another process's limits",
        "resource.prlimit(P['victim'], resource.RLIMIT_CPU, (1, 1)); opened('set')",
    ),
    "nice_user": Row(
        "the nice values of all processes of the user",
        "os.setpriority(os.PRIO_USER, 0, 1)\n"
        "if os.getpriority(os.PRIO_PROCESS, P['victim']) == 1: opened('set')",
    ),
    "nice": Row(
        "another process's nice value", "os.setpriority(os.PRIO_PROCESS, P['victim'], 19); opened('set')"
    ),
    "io_user": Row(
        "the input and output priorities of all processes of the user",
        "call('ioprio_set', 3, os.getuid(), 2 << 13 | 5)\n"
        "if call('ioprio_get', 1, P['victim']) == 2 << 13 | 5: opened('set')",
    ),
    "schedule": Row(
        "another process's scheduling policy",
        "os.sched_setscheduler(P['victim'], os.SCHED_IDLE, os.sched_param(0)); opened('set')",
        {"process/user": "open"},
    ),
    "shared_memory": Row("System V shared memory", "opened(call('shmget', 4711, 4096, 0o1666))"),
    "shared_memory_found": Row(
        "System V shared memory of another process",
        """
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for index in range(64):
    found = libc.shmctl(index, 13, ctypes.create_string_buffer(256))  # SHM_STAT
    if found < 0: continue
    at = libc.shmat(found, None, 0)
    if at not in (None, 2**64 - 1) and ctypes.string_at(at, 6) == b'victim': opened('attached')
""",
    ),
    "survivors": Row(
        "children that leave their session and ignore signals outlive the kernel",
        _SURVIVE,
        {"namespace": "bounded", "process": "bounded"},
        check="survivors",
    ),
    "exit": Row(
        "the kernel ends itself",
        "os._exit(3)",
        {"namespace": "bounded", "process": "bounded"},
        control="it ends in every tier",
    ),
    "crash": Row(
        "the kernel crashes",
        "ctypes.string_at(0)",
        {"namespace": "bounded", "process": "bounded"},
        control="it crashes in every tier",
    ),
    "descriptors": Row(
        "all open files are closed, sockets to lllm among them",
        "os.closerange(0, 256); time.sleep(60)",
        {"namespace": "bounded", "process": "bounded"},
        control="they are closed in every tier",
        seconds=2.0,
    ),
}
