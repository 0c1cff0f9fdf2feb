"""A stand-in of the Hub's HTTP interface, as far as pushing needs it."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "StandInForAToken" * 2


class Hub(ThreadingHTTPServer):
    """Keeps repositories in memory: (kind, name) -> branch -> path -> bytes.

    It takes `TOKEN` alone. While ``failing`` is set it answers everything with that status.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.private, self.commits, self.failing = {}, {}, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def files(self, name, kind="model", branch="main"):
        return self.repositories[kind, name][branch]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub = self.server
        if hub.failing:
            return self.answer({"error": "out of order"}, hub.failing)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        found = re.fullmatch(
            r"/api/(model|dataset)s/(.+)/(preupload|commit|branch)/(.+)", self.path
        )
        if not found or (found[1], found[2]) not in hub.repositories:
            return self.answer({"error": f"no {self.path} here"}, 404)
        branches = hub.repositories[found[1], found[2]]
        if found[3] == "branch":
            known = found[4] in branches
            branches.setdefault(found[4], dict(branches["main"]))
            return self.answer({}, 409 if known else 200)
        if found[3] == "preupload":
            asked = [one["path"] for one in json.loads(body)["files"]]
            ways = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]
            return self.answer({"files": ways})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                branches[found[4]][line["value"]["path"]] = content
        hub.commits.append((found[2], found[4]))
        url = f"{hub.url}/{found[2]}/commit/{len(hub.commits):040x}"
        return self.answer({"commitUrl": url, "commitOid": f"{len(hub.commits):040x}"})

    def create(self, asked):
        kind = asked.get("type") or "model"
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else ""
        where = "datasets/" if kind == "dataset" else ""
        url = f"{self.server.url}/{where}{name}"
        known = (kind, name) in self.server.repositories
        self.server.repositories.setdefault((kind, name), {"main": {}})
        self.server.private[name] = asked.get("private") or asked.get("visibility") == "private"
        return self.answer({"url": url, "name": name}, 409 if known else 200)

    def do_GET(self):
        self.answer({"error": f"no {self.path} here"}, 404)

    def log_message(self, *_):
        pass
