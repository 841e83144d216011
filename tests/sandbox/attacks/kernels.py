"""Attacks on the machine's kernel, and on lllm by what the notebook's kernel sends."""

from typing import Final

from tests.sandbox.attacks.row import Row

_ROOT: Final = "it needs rights that the control does not have"

MACHINE: Final = {
    "user_namespace": Row("a new user namespace", "single(lambda: call('unshare', 0x10000000))"),
    "clone": Row(
        "a new user namespace, by clone",
        "pid = call('clone', 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nopened(pid)",
    ),
    "clone3": Row(
        "a new user namespace, by clone3",
        "arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, signal.SIGCHLD)\npid = call('clone3', arguments, 88)\n"
        "if pid == 0: os._exit(0)\nopened(pid)",
    ),
    "other_namespace": Row(
        "the namespaces of another process",
        "call('setns', os.open(f\"/proc/{P['victim']}/ns/user\", os.O_RDONLY), 0); opened('entered')",
        control="nobody enters the user namespace that he is in",
    ),
    "mount": Row(
        "a file system mounted",
        "def work():\n    try: call('unshare', 0x10020000)\n    except OSError: pass\n"
        "    call('mount', b'x', b'/proc', b'tmpfs', 0, None)\nsingle(work)",
    ),
    "umount": Row(
        "the read-only root made writable",
        "call('mount', None, b'/', None, 32 | 4096, None); open('/attack', 'w'); opened('written')",
        control=_ROOT,
    ),
    "chroot": Row("another root", "call('chroot', b'/'); opened('changed')", control=_ROOT),
    "module": Row("a kernel module", "call('init_module', b'', 0, b''); opened('loaded')", control=_ROOT),
    "bpf": Row(
        "a BPF program", "opened(call('bpf', 0, ctypes.create_string_buffer(128), 128))", control=_ROOT
    ),
    "perf": Row(
        "performance counters",
        "attributes = (ctypes.c_uint32 * 28)(1, 112)\nopened(call('perf_event_open', attributes, 0, -1, -1, 0))",
        control="machines differ in what they allow",
    ),
    "keys": Row("the machine's key rings", "opened(call('keyctl', 0, -4, 1))"),
    "asynchronous": Row(
        "contexts of asynchronous input and output, of which the machine has a number for all users",
        "opened(call('io_setup', 1000, ctypes.create_string_buffer(8)))",
    ),
    "userfault": Row(
        "userfaultfd", "opened(call('userfaultfd', 1))", control="machines differ in what they allow"
    ),
    "handles": Row(
        "files by handle",
        "opened(call('open_by_handle_at', -100, ctypes.create_string_buffer(24), 0))",
        control=_ROOT,
    ),
    "clock": Row(
        "the machine's clock", "time.clock_settime(time.CLOCK_REALTIME, 0); opened('set')", control=_ROOT
    ),
    "host_name": Row("the machine's name", "socket.sethostname('attack'); opened('set')", control=_ROOT),
    "other_calls": Row(
        "system calls by the numbers of the x32 ABI",
        "if ctypes.CDLL(None).syscall(0x40000000 | 272, 0x10000000) == 0: opened('made')",
        control="few machines have it",
    ),
    "set_user": Row(
        "another user by a program that root has marked (setuid)",
        "found = subprocess.run(['/bin/su', '-c', 'id', 'root'], capture_output=True, stdin=subprocess.DEVNULL)\n"
        "if b'uid=0' in found.stdout: opened('root')",
        control="it needs a password there",
    ),
    "terminal": Row(
        "input for a terminal (TIOCSTI)",
        "import fcntl, pty\nfcntl.ioctl(pty.openpty()[1], 0x5412, b'x'); opened('sent')",
        control="machines differ in what they allow",
    ),
    "hide": Row(
        "a process that cannot be looked at (PR_SET_DUMPABLE)",
        "if ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0: opened('hidden')",
    ),
}

_PARENT: Final = """
kernel = get_ipython().kernel
parent = kernel.get_parent()
session = kernel.session
"""

MESSAGES: Final = {
    "fake_idle": Row(
        "lllm is told that the cell has ended while it runs on",
        _PARENT + "session.send(kernel.iopub_socket, 'status', {'execution_state': 'idle'}, parent=parent)\n"
        "time.sleep(1); print('it was waited for')",
        control="there is no limit to be switched off",
        keeps=True,
    ),
    "fake_reply": Row(
        "lllm is sent a reply of its own making",
        _PARENT
        + "for content in ({'status': 'ok', 'execution_count': 'x' * 9}, {'status': []}, {}, {'execution_count': {}}):\n"
        "    session.send(kernel.iopub_socket, 'execute_reply', content, parent=parent)\n"
        "    session.send(kernel.iopub_socket, 'status', content, parent=parent)\n"
        "    session.send(kernel.iopub_socket, 'stream', content, parent=parent)\n",
        control="there is no limit to be switched off",
    ),
    "unsigned": Row(
        "lllm is sent messages without a signature, and frames that are no messages",
        _PARENT
        + "for frames in ([b'x'], [b'<IDS|MSG>'], [b'<IDS|MSG>', b'', b'{}', b'{}', b'{}', b'{}'], [b''] * 50,\n"
        "    [b'<IDS|MSG>', b'0' * 64, b'[' * 100_000, b'{}', b'{}', b'{}']):\n"
        "    kernel.iopub_socket.send_multipart(frames)\n",
        control="there is no limit to be switched off",
        keeps=True,
    ),
    "huge": Row(
        "lllm is sent a message of 140 MiB",
        _PARENT + "kernel.iopub_socket.send_multipart([bytes(140 * 2**20)])\ntime.sleep(1)",
        check="size",
        control="lllm reads no such message, in no tier",
    ),
    "many_values": Row(
        "lllm is sent a message of 40 MiB that holds millions of values",
        _PARENT + "content = b'{\"name\": \"stdout\", \"text\": [' + b'{},' * (13 * 2**20) + b'{}]}'\n"
        "header = session.pack(session.msg_header('stream'))\n"
        "session.send_raw(kernel.iopub_socket, [header, session.pack(parent['header']), b'{}', content], ident=b'stream')\n"
        "time.sleep(1)",
        check="size",
        control="lllm reads no such message, in no tier",
    ),
    "linked_socket": Row(
        "a link in the place of the kernel's socket, followed by lllm when it connects again",
        """
os.unlink(P["sockets"] + "/k-2"); os.symlink(P["pathname"], P["sockets"] + "/k-2")
for number in range(3, 200):
    try: connection = socket.socket(fileno=os.dup(number)); name = connection.getsockname()
    except OSError: continue
    if name == P["sockets"] + "/k-2" and not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        connection.shutdown(2)
time.sleep(1)
""",
        check="connected",
        control="lllm never follows links, in no tier",
    ),
    "endless_message": Row(
        "lllm is sent a message whose parts never end, past ZMQ",
        """
import struct
part = b"\\x03" + struct.pack(">Q", 2**20) + bytes(2**20)
for number in range(3, 200):
    try: connection = socket.socket(fileno=os.dup(number)); name = connection.getsockname()
    except OSError: continue
    if name == P["sockets"] + "/k-2" and not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        connection.settimeout(8)
        for _ in range(400): connection.sendall(part)
""",
        check="size",
        control="lllm bounds it in every tier",
    ),
}
