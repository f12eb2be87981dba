"""A page of HTML as tests look at it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "wbr", "link"}


class Page(HTMLParser):
    """The elements, attributes and visible text of a page; a tag that is not closed in order is an error."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.text, self.rows = [], [], "", []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]

    def with_class(self, name):
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]
