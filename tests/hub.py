"""A hub without a network: the client's cache, laid out by hand; and a server on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import transformers.utils.hub
import yaml
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_on_hub(
    hub_id: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, ref: str = "main"
) -> Path:
    """Make the files of `folder` what the hub's client finds under `hub_id`.

    Returns:
        The folder that the client will answer with.
    """
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / ref).write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return snapshot


class Hub:
    """A hub of models on this machine, which the real client speaks to over HTTP.

    Attributes:
        repositories: id → branch → file name → content.
        private: the ids of those that are private.
        commits: (id, branch, names added, names deleted) of each.
        tokens: token → the namespaces that it may write to.
        failing: the paths (as regular expressions) that answer with an error, and its status.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.commits: list[tuple[str, str, set[str], set[str]]] = []
        self.tokens: dict[str, set[str]] = {"secret": {"acme"}}
        self.failing: dict[str, int] = {}
        self.blobs: dict[str, bytes] = {}
        self.address = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, object]:
        """Answer a request: the status, and JSON or bytes."""
        for pattern, status in self.failing.items():
            if re.search(pattern, path):
                return status, {"error": "it fails"}
        namespaces = self.tokens.get(token, set())
        if match := re.fullmatch(r"/blobs/(\w+)", path):
            self.blobs[match[1]] = body
            return 200, {}
        if path == "/api/validate-yaml":
            _, header, _ = json.loads(body)["content"].split("---\n", 2)
            is_block = isinstance(yaml.safe_load(header), dict)
            return (200, {}) if is_block else (400, {"errors": [{"message": "no metadata"}]})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            if wanted["organization"] not in namespaces:
                return (403 if token in self.tokens else 401), {"error": "no right to create"}
            hub_id = f"{wanted['organization']}/{wanted['name']}"
            self.repositories[hub_id] = {"main": {".gitattributes": b""}}
            if wanted.get("private") or wanted.get("visibility") == "private":  # old and new
                self.private.add(hub_id)
            return 200, {"url": f"{self.address}/{hub_id}"}
        match = re.fullmatch(r"(?:/api/models)?/([\w.-]+/[\w.-]+?)(?:\.git)?(?:/(.*))?", path)
        branches = self.repositories.get(match[1]) if match else None
        if match is None or branches is None:
            return 404, {"error": "Repository not found"}
        hub_id, rest = match[1], match[2] or ""
        if method == "POST" and hub_id.split("/")[0] not in namespaces:
            return 403, {"error": "no right to write"}
        return self._of_repository(hub_id, branches, rest, body)

    def _of_repository(
        self, hub_id: str, branches: dict[str, dict[str, bytes]], rest: str, body: bytes
    ) -> tuple[int, object]:
        verb, _, more = rest.partition("/")
        revision, _, name = more.partition("/")
        files = branches.get(_branch(revision) or "main")
        if verb == "branch":
            if revision in branches:
                return 409, {"error": "it exists"}
            branches[revision] = dict(branches["main"])
            return 200, {}
        if rest == "info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            for item in objects:
                href = f"{self.address}/blobs/{item['oid']}"
                item["actions"] = {"upload": {"href": href}}
            return 200, {"objects": objects, "transfer": "basic"}
        if files is None:
            return 404, {"error": "Revision not found", "code": "RevisionNotFound"}
        if verb in ("", "revision"):
            siblings = [{"rfilename": file} for file in files]
            private = hub_id in self.private
            sha = _commit(_branch(revision) or "main")
            return 200, {"id": hub_id, "sha": sha, "private": private, "siblings": siblings}
        if verb == "tree":
            entries = [
                {"type": "file", "path": f, "size": len(c), "oid": _digest(c)}
                for f, c in files.items()
            ]
            return 200, entries
        if verb == "resolve":
            return (200, files[name]) if name in files else (404, {"error": "Entry not found"})
        if verb == "preupload":
            wanted = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in wanted
            ]
            return 200, {"files": modes}
        assert verb == "commit", rest
        lines = [json.loads(line) for line in body.splitlines()]
        added = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                added[value["path"]] = self.blobs[value["oid"]]
        deleted = {line["value"]["path"] for line in lines if line["key"] == "deletedFile"}
        for file in deleted:
            del files[file]
        files.update(added)
        self.commits.append((hub_id, revision, set(added), deleted))
        return 200, {"commitUrl": f"{self.address}/{hub_id}/commit/{COMMIT}", "commitOid": COMMIT}


def _commit(branch: str) -> str:
    return hashlib.sha1(branch.encode()).hexdigest()


def _branch(revision: str) -> str:
    """The branch of a revision, which may be the commit that stands for it."""
    known = {_commit(branch): branch for branch in ("main", "v2")}
    return known.get(revision, revision)


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving(cache: Path, token: str | None = "secret") -> Iterator[Hub]:
    """Serve a hub inside the block, and let the client speak to it, with its own cache.

    Args:
        cache: a folder for the client's cache.
        token: the user's.
    """
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            status, content = hub.answer(self.command, path, body, token)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if isinstance(content, bytes):
                self.send_header("ETag", f'"{_digest(content)}"')
                self.send_header("X-Repo-Commit", _commit(_branch(path.split("/")[4])))
            if status == 404 and path.startswith("/api/models"):
                known = isinstance(content, dict) and content.get("code")
                self.send_header("X-Error-Code", str(known or "RepoNotFound"))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.address)
        # It keeps the address of the first hub that it speaks to, and tries it for minutes.
        patch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        patch.delenv("HF_TOKEN", raising=False)
        if token:
            patch.setenv("HF_TOKEN", token)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
