"""Attacks that use up what there is. Each stops by itself a little beyond its limit, so that the control can be run."""

from typing import Final

from tests.sandbox.attacks.row import BOUNDED, Row

_FORKS: Final = """
children = []
try:
    for _ in range(P['processes'] * 2):
        pid = os.fork()
        if pid == 0: time.sleep(60); os._exit(0)
        children.append(pid)
    opened(len(children))
finally:
    for pid in children: os.kill(pid, 9); os.waitpid(pid, 0)
"""
_THREADS: Final = """
stop, threads = threading.Event(), []
try:
    for _ in range(P['processes'] * 2):
        threads.append(threading.Thread(target=stop.wait)); threads[-1].start()
    opened(len(threads))
finally:
    stop.set()
"""
_MANY: Final = """
part = P['memory'] // 4
code = f"x = bytearray({part}); x[::4096] = b'1' * len(x[::4096]); print(1, flush=True); import time; time.sleep(60)"
children = [subprocess.Popen([P['python'], '-S', '-c', code], stdout=subprocess.PIPE) for _ in range(5)]
print([child.stdout.readline() for child in children]); time.sleep(P['settle'])
for child in children: child.kill()
opened('all have their memory')
"""
_MEMFD: Final = """
files = [os.memfd_create('x') for _ in range(20)]
for file in files:
    for _ in range(P['memory'] // 18 >> 20): os.write(file, bytes(2**20))
time.sleep(P['settle']); opened('written')
"""
_TEMP: Final = """
folder = {0}
for number in range({1}):
    with open(f'{{folder}}/attack{{number}}', 'wb') as file:
        for _ in range(P['disk'] // 50 >> 16): file.write(bytes(2**16))
time.sleep(P['settle']); opened('written')
"""
_UNLINKED: Final = """
files = []
for _ in range(8):
    files.append(open('gone', 'wb', buffering=0)); os.unlink('gone')
    for _ in range(P['disk'] // 4 >> 16): files[-1].write(bytes(2**16))
time.sleep(P['settle']); opened('written')
"""
_MAPPED: Final = """
libc, size = ctypes.CDLL(None), P['disk'] // 4
libc.mmap.restype = ctypes.c_void_p
for _ in range(8):
    file = os.open('gone', os.O_RDWR | os.O_CREAT); os.unlink('gone'); os.ftruncate(file, size)
    at = libc.mmap(None, ctypes.c_size_t(size), 3, 1, file, ctypes.c_long(0))
    os.close(file); ctypes.memset(ctypes.c_void_p(at), 1, size)
time.sleep(P['settle']); opened('written')
"""
_HIDDEN: Final = """
shutil.copy(os.path.realpath('/bin/sh'), 'program'); os.chmod('program', 0o111)
fill = f"printf %0{P['disk'] // 4}d 0"  # by the shell itself
script = ''.join(f"exec {n}>unseen; rm unseen; {fill} >&{n}; " for n in range(3, 9)) + "read x"
subprocess.Popen(['./program', '-c', script], stdin=subprocess.PIPE)
time.sleep(1 + P['settle']); opened('written')
"""
_NUMBER: Final = """
for number in range(P['inodes'] * 2): open({0} + f'/f{{number}}', 'w').close()
time.sleep(P['settle']); opened('made')
"""

LIMITS: Final = {
    "forks": Row("processes without end", _FORKS, {"namespace": "stopped", "process": "stopped"}),
    "threads": Row("threads without end", _THREADS),
    "bomb": Row(
        "a fork bomb in a shell",
        "subprocess.run(['/bin/sh', '-c', 'b() { b | b & }; b'], stderr=subprocess.DEVNULL); time.sleep(60)",
        BOUNDED,
        control="it would go on without end",
        seconds=2.0,
    ),
    "memory": Row("memory of one process", "x = bytearray(P['memory'] * 2); opened(len(x))"),
    "memory_many": Row("memory of several processes, each within its limit", _MANY, BOUNDED),
    "memory_files": Row("memory in files that have no name (`memfd`)", _MEMFD, BOUNDED),
    "memory_shm": Row(
        "memory in files of `/dev/shm`",
        _TEMP.format("'/dev/shm'", 200),
    ),
    "disk": Row("the working folder, filled", _TEMP.format("'.'", 100), BOUNDED, check="undone"),
    "disk_file": Row(
        "one file that is too large",
        "f = open('large', 'wb'); f.truncate(P['file'] * 2); opened('made')",
    ),
    "disk_temp": Row(
        "the temporary folder, filled",
        _TEMP.format("os.environ['TMPDIR']", 100),
        {"process": "bounded"},
    ),
    "disk_home": Row(
        "the home folder, filled", _TEMP.format("os.environ['HOME']", 100), {"process": "bounded"}
    ),
    "disk_sockets": Row(
        "the folder of the kernel's sockets, filled", _TEMP.format("P['sockets']", 100), BOUNDED
    ),
    "disk_unlinked": Row("files without a name, filled", _UNLINKED, BOUNDED),
    "disk_mapped": Row("files without a name, mapped and filled", _MAPPED, BOUNDED),
    "disk_unreadable": Row(
        "files without a name, filled by a program that nobody may read",
        _HIDDEN,
        BOUNDED,
        control="lllm looks at what is hidden in every tier",
    ),
    "disk_sparse": Row(
        "files that are all holes, larger together than the folder may be",
        "for number in range(P['inodes'] // 2):\n"
        "    with open(f'hole{number}', 'wb') as file: file.truncate(P['file'] - 1)",
        BOUNDED,
        check="undone",
        control="lllm would read them for minutes",
    ),
    "disk_quick": Row(
        "the working folder, filled by a cell that ends at once",
        _TEMP.format("'.'", 100).replace("time.sleep(P['settle']); opened('written')", "")
        + "if not P['settle']: opened('written')",
        BOUNDED,
        check="undone",
    ),
    "disk_hidden": Row(
        "a folder that nobody may read, filled",
        "os.mkdir('hidden')\n"
        + _TEMP.format("'hidden'", 100).replace("time.sleep", "os.chmod('hidden', 0); time.sleep"),
        BOUNDED,
        check="undone",
    ),
    "disk_names": Row(
        "files whose names are no text, filled",
        "os.mkdir(b'\\xff')\n" + _TEMP.format("os.fsdecode(b'\\xff')", 100),
        BOUNDED,
        check="undone",
    ),
    "inodes": Row(
        "more files than there may be",
        "for number in range(P['inodes'] * 2): open(f'f{number}', 'w').close()\ntime.sleep(P['settle']); opened('made')",
        BOUNDED,
        check="undone",
    ),
    "inodes_temp": Row(
        "more files than there may be, in the temporary folder",
        _NUMBER.format("os.environ['TMPDIR']"),
        BOUNDED,
    ),
    "inodes_home": Row(
        "more files than there may be, in the home folder", _NUMBER.format("os.environ['HOME']"), BOUNDED
    ),
    "depth": Row(
        "folders within each other without end",
        "at = os.getcwd()\ntry:\n    for _ in range(P['inodes'] // 2): os.mkdir('d'); os.chdir('d')\n"
        "    time.sleep(P['settle']); opened('made')\nfinally: os.chdir(at)",
        BOUNDED,
        check="undone",
        control="they are bounded in every tier",
    ),
    "replaced": Row(
        "a file of an earlier cell, overwritten in a cell that fills the folder",
        "open('kept.txt', 'w').write('changed')\n" + _TEMP.format("'.'", 100),
        BOUNDED,
        check="undone",
    ),
    "output": Row(
        "output without end",
        "line = 'x' * 99 + '\\n'\nfor _ in range(32):\n    print(line * (P['flood'] // 800), flush=True)\n"
        "    time.sleep(0.25 if P['settle'] else 0)\n"
        "time.sleep(P['settle']); opened('printed')",
        BOUNDED,
    ),
    "endless": Row(
        "C code that cannot be interrupted",
        "sum(range(10**12))",
        BOUNDED,
        control="it would take an hour",
        seconds=1.0,
    ),
    "stubborn": Row(
        "code that ignores interrupts",
        "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass",
        BOUNDED,
        control="it would go on without end",
        seconds=1.0,
    ),
}
