"""Whether this process can listen on a port, found out by binding it for a moment."""

import errno
import socket


class CannotListen(Exception):
    """Why not, as a sentence."""


class PortTaken(CannotListen):
    """Another process listens there."""


def probe(host: str, port: int) -> None:
    """Bind ``port`` and let it go again. Raises CannotListen, PortTaken."""
    with socket.socket(family(host), socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            tried.bind((host, port))
        except PermissionError as error:
            raise CannotListen(f"This user may not listen on port {port}; take one above 1023.") from error
        except socket.gaierror as error:
            raise CannotListen(f"{host!r} is not an address of this machine.") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise CannotListen(f"{host!r} is not an address of this machine.") from error
            raise PortTaken(f"Port {port} on {host} is taken by another process.") from error


def family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
