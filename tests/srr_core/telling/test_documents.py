"""A report as a document: every number of it, safe names, and the same bytes every time."""

from html import escape
from html.parser import HTMLParser

from srr_core.report import Report
from srr_core.telling.compression_words import compression_document
from srr_core.telling.document import Words, to_markdown
from srr_core.telling.document_html import to_html
from srr_core.telling.facts import facts
from srr_core.telling.frontier import Earlier, frontier
from srr_core.telling.frontier_picture import frontier_picture
from srr_core.telling.verdict import verdict
from tests.srr_core.telling.reports import SIZE, measured, report


class Outline(HTMLParser):
    """What is open, and which elements there were."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read_again(found: Report) -> Report:
    """Return a report as another process would read it."""
    return Report.model_validate_json(found.model_dump_json())


def test_a_report_read_again_gives_the_same_bytes() -> None:
    one, other = compression_document(report()), compression_document(read_again(report()))

    assert (to_html(one), to_markdown(one)) == (to_html(other), to_markdown(other))


def test_a_page_that_stands_alone_is_well_formed_and_asks_for_nothing() -> None:
    page = to_html(compression_document(report()))

    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert not outline.seen & {"script", "link", "img", "iframe", "a"}
    assert "svg" in outline.seen


def test_the_verdict_is_in_both_in_the_same_words() -> None:
    document, sentence = compression_document(report()), verdict(report()).sentence

    assert document.sections[0].blocks[0] == Words(sentence, is_strong=True)
    assert f"**{sentence}**" in to_markdown(document)
    assert escape(sentence) in to_html(document)


def test_a_name_of_a_stranger_starts_no_markup() -> None:
    source = report().source.model_copy(update={"id": "a/<script>|[x](y)"})
    document = compression_document(report().model_copy(update={"source": source}))

    assert "<script>" not in to_html(document) + to_markdown(document)


def test_bits_are_told_of_the_whole_model_first() -> None:
    (bits,) = [fact.value for fact in facts(report()) if fact.name == "bits"]

    whole = 16 * report().size_bytes.compressed / report().size_bytes.source
    assert bits == f"{whole:.2f} over the whole model, {report().bits_per_weight.total:.2f} in the compressed layers"


def test_an_earlier_result_stands_on_the_frontier_with_its_gap_in_size() -> None:
    size = report().size_bytes.model_copy(update={"compressed": 2 * SIZE})
    other = Earlier(report().model_copy(update={"size_bytes": size}), "job_1")

    (row,) = [row for row in frontier(report(), [other]) if row.kind == "earlier"]

    assert (row.reference, row.size_note) == ("job_1", "100 % larger than this artifact")
    alone, beside = frontier_picture(report()), frontier_picture(report(), earlier=[other])
    assert alone is not None
    assert beside is not None
    assert len(beside.rows) == len(alone.rows) + 1
    assert 'class="rest"' in beside.drawing


def test_an_earlier_result_of_another_protocol_or_source_is_left_out() -> None:
    otherwise = measured(0.01).model_copy(update={"protocol": "another text"})
    elsewhere = report().source.model_copy(update={"sha": "b" * 40})
    others = [
        Earlier(report().model_copy(update={"measurements": (otherwise,)}), "job_1"),
        Earlier(report().model_copy(update={"source": elsewhere}), "job_2"),
    ]

    assert frontier(report(), others) == frontier(report())
