"""A guestbook: pages from a folder, entries in a file, nothing but the standard library."""

import html
import json
import os
import signal
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LONGEST = 500


class Guestbook:
    """Entries, one JSON text a line, appended under a lock."""

    def __init__(self, folder: Path):
        self.file = folder / "entries.jsonl"
        self.lock = threading.Lock()

    def add(self, name: str, text: str) -> None:
        name, text = name.strip()[:LONGEST], text.strip()[:LONGEST]
        if not name or not text:
            raise ValueError("name and text are needed")
        with self.lock, self.file.open("a", encoding="utf-8") as f:
            f.write(json.dumps({"name": name, "text": text}) + "\n")

    def entries(self) -> list:
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]


def render(page: str, entries: list) -> str:
    items = "".join(
        f"<li><b>{html.escape(e['name'])}</b>: {html.escape(e['text'])}</li>" for e in entries
    )
    return page.replace("<!-- entries -->", items)


def make_handler(book: Guestbook, public: Path):
    class Handler(BaseHTTPRequestHandler):
        def reply(self, status: int, body: str, kind: str = "text/html", **headers) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self.reply(200, "ok\n", "text/plain")
            elif self.path == "/":
                page = (public / "index.html").read_text(encoding="utf-8")
                self.reply(200, render(page, book.entries()))
            else:
                self.reply(404, "not found\n", "text/plain")

        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), 8 * LONGEST)
            form = urllib.parse.parse_qs(self.rfile.read(length).decode("utf-8", "replace"))
            try:
                book.add(form.get("name", [""])[0], form.get("text", [""])[0])
            except ValueError as e:
                self.reply(400, f"{e}\n", "text/plain")
            else:
                self.reply(303, "", Location="/")

    return Handler


def main() -> None:
    folder = Path(os.environ.get("DATA_DIR", "data"))
    folder.mkdir(parents=True, exist_ok=True)
    public = Path(__file__).resolve().parent.parent / "public"
    server = ThreadingHTTPServer(
        ("", int(os.environ.get("PORT", "8080"))), make_handler(Guestbook(folder), public)
    )
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


if __name__ == "__main__":
    main()
