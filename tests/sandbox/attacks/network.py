"""Attacks by way of sockets."""

from typing import Final

from tests.sandbox.attacks.row import Row

_TCP: Final = """
s = socket.create_connection((P['{0}'], P['tcp']), 3); s.sendall(b'x'); opened(s.recv(9))
"""
_UDP: Final = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto({1}, (P['{0}'], P['udp'])); opened(s.recv(99)[:4])
"""
_QUERY: Final = r"b'\1\2\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1'"

NETWORK: Final = {
    "tcp_host": Row("TCP to the host's loopback", _TCP.format("loopback")),
    "tcp_outside": Row("TCP to another machine", _TCP.format("outside_address")),
    "udp_host": Row("UDP to the host's loopback", _UDP.format("loopback", "b'x'")),
    "dns": Row("a DNS query to another machine", _UDP.format("outside_address", _QUERY)),
    "resolver": Row(
        "a name resolved by the system",
        "opened(socket.getaddrinfo('example.com', 80))",
        control="the control's world has no DNS server",
    ),
    "abstract": Row(
        "an abstract unix socket",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + P['abstract']); s.sendall(b'x'); opened(s.recv(9))",
    ),
    "pathname": Row(
        "a unix socket with a path, open to everybody",
        "s = socket.socket(socket.AF_UNIX); s.connect(P['pathname']); s.sendall(b'x'); opened(s.recv(9))",
    ),
    "datagram": Row(
        "a datagram to a unix socket with a path",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', P['datagram']); opened('sent')",
    ),
    "datagram_pair": Row(
        "a datagram to a unix socket with a path, by a socket of a pair",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', P['datagram']); opened('sent')",
    ),
    "vsock": Row(
        "vsock, which leads out of a virtual machine", "socket.socket(40, socket.SOCK_STREAM); opened('made')"
    ),
    "netlink": Row(
        "addresses and routes of the machine, by netlink",
        "if P['outside_address'] in subprocess.run([P['python'], '-c', P['addresses']], capture_output=True, text=True).stdout:"
        " opened('seen')",
    ),
    "uring": Row(
        "io_uring, by which system calls pass a filter",
        "opened(call('io_uring_setup', 4, ctypes.create_string_buffer(120)))",
    ),
}
