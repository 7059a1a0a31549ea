"""A model hub on loopback: a real HTTP server that answers as the public one does.

Files are at /OWNER/NAME/resolve/REVISION/PATH.  Small ones come at once, weights by way of a
redirect that tells their size and SHA-256.  Parts of files are served (Range), connections can
be cut, and what the hub says can be made wrong.
"""

import hashlib
import http.server
import ssl
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate=None):
        """`certificate`: a PEM file with its key, for HTTPS."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.repos = {}  # "OWNER/NAME" -> {revision: {path: bytes}}
        self.requests_seen = []  # (path, range) of every request
        self.cuts = {}  # path of a file -> list of bytes after which its next answers are cut
        self.statuses = {}  # path of a file -> list of statuses its next answers have instead
        self.linked = {}  # path of a file -> headers that replace what the redirect tells
        self.direct = False  # no redirects, no sums: a plain mirror
        self.ranges = True  # parts are served
        self.commit = COMMIT
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def add(self, repo, files, revision="main"):
        self.repos.setdefault(repo, {})[revision] = files
        self.repos[repo][self.commit] = files

    def asked_for(self, path):
        return [range_ for seen, range_ in self.requests_seen if seen.endswith("/" + path)]

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that breaks off is what some tests are about

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server
        path = urllib.parse.urlsplit(self.path).path
        hub.requests_seen.append((path, self.headers.get("Range")))
        parts = path.lstrip("/").split("/")
        is_store = parts[0] == "store"
        if is_store:
            parts = parts[1:]
        if len(parts) < 5 or parts[2] != "resolve":
            return self.answer(404, b"no such page")
        repo, revision, name = "/".join(parts[:2]), urllib.parse.unquote(parts[3]), "/".join(parts[4:])
        if repo not in hub.repos:
            return self.answer(401, b"Invalid username or password.", X_Error_Code="RepoNotFound")
        files = hub.repos[repo].get(revision)
        if files is None or name not in files:
            return self.answer(404, b"Entry not found", X_Repo_Commit=hub.commit)
        if hub.statuses.get(name):
            return self.answer(hub.statuses[name].pop(0), b"not now")
        if name.endswith(".safetensors") and not is_store and not hub.direct:
            sum_ = hashlib.sha256(files[name]).hexdigest()
            told = {
                "Location": f"/store{path}",
                "ETag": '"moved"',
                "X_Repo_Commit": hub.commit,
                "X_Linked_Size": str(len(files[name])),
                "X_Linked_Etag": f'"{sum_}"',
                **hub.linked.get(name, {}),
            }
            return self.answer(302, b"Found", **told)
        return self.send_file(name, files[name])

    def send_file(self, name, content):
        hub = self.server
        start, status = 0, 200
        wanted = self.headers.get("Range")
        headers = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        if hub.commit and not hub.direct:
            headers["X-Repo-Commit"] = hub.commit
        if wanted and hub.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.answer(416, Content_Range=f"bytes */{len(content)}", ETag=headers["ETag"])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if hub.cuts.get(name):
            self.wfile.write(body[: hub.cuts[name].pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return None
        self.wfile.write(body)
        return None
