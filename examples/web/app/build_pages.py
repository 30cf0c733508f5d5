"""Usage: build_pages.py TEMPLATES PUBLIC SITE_NAME: fills every template into a page."""

import html
import string
import sys
from pathlib import Path


def build(templates: Path, public: Path, site: str) -> int:
    public.mkdir(parents=True, exist_ok=True)
    count = 0
    for template in sorted(templates.glob("*.html")):
        text = string.Template(template.read_text(encoding="utf-8")).substitute(site=html.escape(site))
        (public / template.name).write_text(text, encoding="utf-8")
        count += 1
    return count


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]), "pages")
