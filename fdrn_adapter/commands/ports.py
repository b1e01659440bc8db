"""The port of a server, taken before anything slow is done."""

import socket


def taken(host: str, port: int) -> socket.socket:
    """A socket on a port, which nobody is answered on yet; 0 for any that is free.

    Raises:
        ValueError: it is in use, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        why = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise ValueError(
            f"--port {port} of {host} cannot be used: {why}. Pass another one, or --port 0 for any "
            "that is free."
        ) from error
    made.set_inheritable(True)
    return made
