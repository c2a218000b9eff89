"""Reads pages as a browser would, for the tests of the reports."""

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """Collects what a test asks of a page, and checks that tags close in order."""

    VOID = {"meta", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def of_class(self, name):
        """Attributes of all tags of a class."""
        return [tag for _, tag in self.tags if name in (tag.get("class") or "").split()]

    def pictures(self):
        return {
            tag["alt"]: Image.open(io.BytesIO(base64.b64decode(tag["src"].partition(",")[2])))
            for name, tag in self.tags
            if name == "img"
        }


def assert_nothing_outside(text):
    """The page has no script and refers to nothing but itself."""
    for name, attributes in Page(text).tags:
        assert name not in {"script", "link", "iframe", "object"}
        assert "href" not in attributes
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert not any(attribute.startswith("on") for attribute in attributes)
    assert "http" not in text and "@import" not in text and "url(" not in text
