"""Attacks on keys and files."""

from typing import Final

from tests.sandbox.attacks.row import BOUNDED, Row

FILES: Final = {
    "env_own": Row(
        "keys of lllm's environment, in the own one",
        "if P['canary'] in repr(dict(os.environ)): opened('key')",
    ),
    "env_proc": Row(
        "keys in the environments of other processes (`/proc/*/environ`)",
        """
for path in glob.glob('/proc/[0-9]*/environ'):
    try:
        if P['canary'].encode() in open(path, 'rb').read(): opened(path)
    except OSError: pass
""",
    ),
    "env_first": Row(
        "the environment of the first process (`/proc/1/environ`)",
        "if open('/proc/1/environ', 'rb').read(): opened('it is not empty')",
        check="first",
        control="the first process of the control's world has none either",
    ),
    "arguments": Row(
        "secrets in the arguments of other processes (`/proc/*/cmdline`)",
        """
for path in glob.glob('/proc/[0-9]*/cmdline'):
    try:
        if P['canary'].encode() in open(path, 'rb').read(): opened(path)
    except OSError: pass
""",
    ),
    "ssh": Row(
        "a key in the home folder",
        "if P['canary'] in open(P['home'] + '/.ssh/id_ed25519').read(): opened('key')",
    ),
    "home": Row("names in the home folder", "opened(os.listdir(P['home']))"),
    "log_read": Row("the project's log, read", "opened(len(open(P['log'], 'rb').read()))"),
    "log_write": Row(
        "the project's log, written", "open(P['log'], 'ab').write(b'x'); opened('written')", check="log"
    ),
    "write_outside": Row(
        "a new file in a folder that everybody may write",
        "open(P['outside'] + '/new', 'w').write('x'); opened('written')",
        check="outside",
    ),
    "packages": Row(
        "a module added to the interpreter's packages",
        "open(P['packages'] + '/attack.py', 'w').write('x'); opened('written')",
        check="packages",
    ),
    "system": Row(
        "files of the system (`/etc/passwd`, `/usr/bin`), written",
        """
for path in ('/etc/passwd', '/usr/bin/attack', '/attack'):
    try:
        open(path, 'a').close(); opened(path)
    except OSError: pass
""",
        control="the control's world is read-only too",
    ),
    "symlink": Row(
        "a link out of the working folder, read inside",
        "os.symlink(P['home'] + '/.ssh/id_ed25519', 'link'); opened(open('link').read()[:4])",
        check="copied",
    ),
    "symlink_host": Row(
        "a link out of the working folder, followed by lllm when it copies files out",
        "os.symlink(P['home'], 'folder'); os.symlink(P['home'] + '/.ssh/id_ed25519', 'file.txt')",
        check="copied",
        control="lllm never follows links, in no tier",
    ),
    "symlink_put": Row(
        "a link out of the working folder, followed by lllm when it puts a file in",
        "os.symlink(P['outside'], 'put')",
        check="put",
        control="lllm never follows links, in no tier",
    ),
    "hardlink": Row(
        "a second name in the working folder for a key",
        "os.link(P['home'] + '/.ssh/id_ed25519', 'hard'); opened(open('hard').read()[:4])",
        check="copied",
    ),
    "pipe": Row(
        "a named pipe in the working folder, at which lllm waits for ever",
        "os.mkfifo('pipe'); os.mkfifo('table.csv')",
        check="put",
        control="lllm opens no pipes, in no tier",
    ),
    "modes": Row(
        "the mode of a file outside",
        "os.chmod(P['home'] + '/note', 0o666); opened('changed')",
        {"process/user": "open"},
    ),
    "names": Row(
        "whether a file outside exists, and its size",
        "opened(os.stat(P['outside'] + '/note').st_size)",
        {"process": "open"},
    ),
    "connection": Row(
        "the connection file of another kernel",
        "opened(open(P['other']).read()[:4])",
    ),
    "owner": Row(
        "the mark by which a dead owner's folder is found, changed",
        "open(os.path.dirname(P['sockets']) + '/owner.json', 'w').write('{}'); opened('written')",
        check="owner",
    ),
    "workspace": Row(
        "the working folder, removed",
        "shutil.rmtree(os.getcwd(), ignore_errors=True); os.rmdir(os.getcwd()); opened('gone')",
        check="put",
    ),
    "closed": Row(
        "the working folder, closed to everybody before the kernel ends",
        "os.chmod(os.getcwd(), 0); os._exit(3)",
        BOUNDED,
        control="it ends in every tier",
    ),
    "shadows": Row(
        "modules in the working folder, in the place of those that a new kernel imports",
        """
for name in ('ipykernel_launcher', 'contextlib', 'types', 'fnmatch', 'ntpath', 'pathlib', 'urllib', 'appnope'):
    open(name + '.py', 'w').write('import os; os._exit(9)')
os._exit(3)
""",
        BOUNDED,
        check="starts",
        control="it ends in every tier",
    ),
    "places": Row(
        "any folder but the working folder, the home, and the temporary ones, in every file system that is mounted",
        """
allowed = [os.getcwd(), os.environ['HOME'], os.environ['TMPDIR'], P['sockets'], '/tmp', '/dev/shm', '/proc']
try: places = [line.split()[4] for line in open('/proc/self/mountinfo')]
except OSError: places = []
for top in {'/', '/dev', '/run', '/etc', '/var', '/home', '/away', '/away/0', *places}:
    if any(top == one or top.startswith(one + '/') for one in allowed): continue
    try:
        open(top + '/attack', 'w').close(); os.unlink(top + '/attack'); opened(top)
    except OSError: pass
""",
        control="the control's world is read-only too",
    ),
    "devices": Row(
        "disks and memory as files (`/dev`)",
        """
for name in ('mem', 'kmsg', 'vda', 'sda', 'nvme0n1', 'kvm', 'fuse', 'net/tun'):
    try:
        os.close(os.open('/dev/' + name, os.O_RDONLY)); opened(name)
    except OSError: pass
""",
        control="the control's world has no such devices",
    ),
    "sysctl": Row(
        "settings of the machine (`/proc/sys`, `/sys`)",
        """
for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/vm/overcommit_memory', '/proc/sysrq-trigger', '/sys/power/state'):
    try:
        os.close(os.open(path, os.O_WRONLY)); opened(path)
    except OSError: pass
""",
        control="they are root's, and the control is not",
    ),
}
