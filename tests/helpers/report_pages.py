"""Check that a page of a report needs nothing but itself."""

import itertools
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page holds: attributes of each element by tag, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def assert_page_stands_alone(text):
    assert "http:" not in text and "https:" not in text and "//" not in re.sub(r"base64,[^\"]*", "", text)
    page = Page(text)
    assert not page.of("script") and [link["href"] for link in page.of("link")] == ["data:,"]
    for image in page.of("img"):
        assert image["alt"] and image["src"].startswith("data:image/png;base64,iVBOR")
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"] for link in page.of("a")} <= {f"#{name}" for name in ids}
    assert len(page.of("caption")) == len(page.of("table")) and page.of("html")[0]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(headings))
    return page
