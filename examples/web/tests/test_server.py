"""The server, tried over a real socket on the loopback."""

import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "app"))

import build_pages  # noqa: E402
import server  # noqa: E402


class GuestbookTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        public = ROOT / "public"
        if not public.is_dir():
            public = Path(self.folder.name) / "public"
            build_pages.build(ROOT / "templates", public, "test")
        book = server.Guestbook(Path(self.folder.name))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), server.make_handler(book, public))
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def tearDown(self):
        self.http.shutdown()
        self.http.server_close()
        self.folder.cleanup()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=5) as r:
            return r.read().decode()

    def test_health(self):
        self.assertEqual(self.get("/healthz"), "ok\n")

    def test_entries_are_kept_and_escaped(self):
        urllib.request.urlopen(self.url, data=b"name=%3Cb%3E&text=hello", timeout=5).close()
        self.assertIn("<b>&lt;b&gt;</b>: hello", self.get("/"))

    def test_empty_entries_are_refused(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(self.url, data=b"name=&text=", timeout=5)
        self.assertEqual(caught.exception.code, 400)
        caught.exception.close()

    def test_unknown_pages(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.get("/etc/passwd")
        self.assertEqual(caught.exception.code, 404)
        caught.exception.close()


if __name__ == "__main__":
    unittest.main()
