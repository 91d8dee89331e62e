"""Numbers and times as people read them: the filters of the templates."""

from datetime import UTC, datetime

_LARGE = (
    (10**15, "quadrillion"),
    (10**12, "trillion"),
    (10**9, "billion"),
    (10**6, "million"),
    (10**3, "thousand"),
)


def duration(seconds: float) -> str:
    """Return a time span with its two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(value: datetime) -> str:
    """Return a time in UTC to the minute; the page says that it is UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def clock(value: datetime) -> str:
    """Return the time of day in UTC to the second, for a log."""
    return value.astimezone(UTC).strftime("%H:%M:%S")


def percent(share: float) -> str:
    """Return a share from 0 to 1 in percent."""
    return f"{share:.0%}"


def short_sha(sha: str) -> str:
    """Return the first characters of a commit, as every Git tool shows it."""
    return sha[:7]


def count_words(count: int) -> str:
    """Return a large count as people say it: `6.5 million`, `8.0 billion`."""
    for limit, word in _LARGE:
        if count >= limit:
            return f"{count / limit:.1f} {word}"
    return str(count)
