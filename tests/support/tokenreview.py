"""A server that answers a Kubernetes TokenReview, as Vault makes it when a pod logs in; and tokens of pods."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

NAMESPACE = "secretbinding"


class _TokenReview(http.server.BaseHTTPRequestHandler):
    """Says yes to every token, and that it is the controller's."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = {"username": f"system:serviceaccount:{NAMESPACE}:secretbinding", "uid": "1", "groups": []}
        body = json.dumps({**asked, "status": {"authenticated": True, "user": user}}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def token_reviews(directory: Path) -> Iterator[tuple[str, Path]]:
    """Address and CA of something that answers as a Kubernetes API server does."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(directory / "api-server-ca.pem"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TokenReview)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}", directory / "api-server-ca.pem"
    finally:
        server.shutdown()
        server.server_close()


def account_token(account: str) -> str:
    """A service account's token as Vault reads it before it asks the API server."""
    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": f"system:serviceaccount:{NAMESPACE}:{account}",
        "kubernetes.io": {"namespace": NAMESPACE, "serviceaccount": {"name": account, "uid": "1"}},
    }
    return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
