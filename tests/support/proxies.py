"""How the proxies of tests listen: on a free loopback port, each request in a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def listening(answer: Callable[[BaseHTTPRequestHandler], None], *, keep_alive: bool = False) -> Iterator[str]:
    """Have every request answered by `answer`; gives the address. With `keep_alive` a connection takes several."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"
        wbufsize = -1 if keep_alive else 0

        def answer(self) -> None:
            answer(self)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_LIST = answer  # noqa: N815 - the names it looks for

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on standard error."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever asked has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
