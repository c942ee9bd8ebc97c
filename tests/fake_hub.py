"""A Hugging Face hub on loopback: what creating a repository, uploading a folder and downloading it ask for."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Files of repositories by owner/name, in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        """Large files by their SHA-256."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)

    def missing(self) -> None:
        self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        if path == "/api/repos/create":
            given = json.loads(body)
            repo = "/".join(filter(None, (given.get("organization"), given["name"])))
            self.server.repos.setdefault(repo, {})
            self.answer(200, {"url": f"{self.server.address}/{repo}"})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/.+", path):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": modes}) if found[1] in self.server.repos else self.missing()
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.address}/objects/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self.answer(200, {"objects": objects, "transfer": "basic"})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/.+", path):
            self.commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer(404)

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.repos[repo]
        for line in lines:
            of = line["value"]
            if line["key"] == "file":
                files[of["path"]] = base64.b64decode(of["content"])
            elif line["key"] == "lfsFile":
                files[of["path"]] = self.server.objects[of["oid"]]
        url = f"{self.server.address}/{repo}/commit/{COMMIT}"
        self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url})

    def do_PUT(self) -> None:
        body = self.body()
        digest = hashlib.sha256(body).hexdigest()
        assert self.path == f"/objects/{digest}"
        self.server.objects[digest] = body
        self.answer(200)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
            if (files := self.server.repos.get(found[1])) is None:
                return self.missing()
            return self.answer(
                200, {"id": found[1], "sha": COMMIT, "siblings": [{"rfilename": name} for name in sorted(files)]}
            )
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/.+", path):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in sorted(self.server.repos.get(found[1], {}).items())
            ]
            return self.answer(200, entries)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            data = self.server.repos.get(found[1], {}).get(found[2])
            if data is None:
                return self.answer(404, X_Error_Code="EntryNotFound")
            etag = hashlib.sha256(data).hexdigest()
            return self.answer(200, data, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
        return self.answer(404)
