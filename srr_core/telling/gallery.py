"""All pictures of a report, in the order in which they are shown."""

from collections.abc import Callable, Sequence

from srr_core.report import Report
from srr_core.telling.frontier import Earlier
from srr_core.telling.frontier_picture import frontier_picture
from srr_core.telling.heat_picture import heat_picture
from srr_core.telling.pictures import WIDE, Picture
from srr_core.telling.size_picture import size_picture

_PICTURES: tuple[Callable[[Report, tuple[int, int]], Picture | None], ...] = (
    size_picture,
    heat_picture,
)


def pictures(report: Report, extent: tuple[int, int] = WIDE, earlier: Sequence[Earlier] = ()) -> tuple[Picture, ...]:
    """Return those that have something to show; the same report gives the same bytes.

    Args:
        earlier: Other results of the same source; what is published leaves them out, and stands by itself.
    """
    drawn = (frontier_picture(report, extent, earlier), *(draw(report, extent) for draw in _PICTURES))
    return tuple(picture for picture in drawn if picture is not None)
