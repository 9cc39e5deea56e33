"""Every error that a user can cause or meet: one line each, naming the value and what would be accepted."""

from difflib import get_close_matches


class AirepairError(Exception):
    """Is the root of the project's own errors; its text is one line that a person can act on."""


class UsageError(AirepairError):
    """Says that an input is bad: an unknown name, a value out of range, an unreadable file.

    Exit code 2 on the command line.
    """


class Unsupported(AirepairError):
    """A method cannot repair this subject; the text says why. A result, not a failure."""


class Unavailable(AirepairError):
    """Something the cell needs is not found (data, an extra, an environment); the text says how to get it.

    A skip.
    """


class NotTrained(AirepairError):
    """The baseline is not in the cache as this profile and device need it."""


class OutOfTime(AirepairError):
    """Says that the cell's time limit has passed."""


class OutOfBudget(OutOfTime):
    """The cell's budget of training images is used up: training ends with its best state, a method
    that has none ends like out of time.
    """


def one_line(error: BaseException, width: int = 300) -> str:
    """Returns the text of an error on one line, with its type where that is not one of ours."""
    try:
        text = " ".join(str(error).split()) or "no message"
    except Exception:
        text = "its text cannot be shown"
    name = "" if isinstance(error, AirepairError) else f"{type(error).__name__}: "
    return shortened(printable(name + text), width)


def shortened(text: str, width: int) -> str:
    """Returns at most `width` characters of a text, cut between words; "..." stands for what is cut."""
    if len(text) <= width:
        return text
    return (text[: width - 4].rpartition(" ")[0] or text[: width - 4]) + " ..."


def printable(text: str) -> str:
    """The text with whatever a terminal would act on (line ends, escapes) spelled out: names from a
    foreign file may hold anything.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def choose(kind: str, value: str, accepted: "list[str] | tuple[str, ...]") -> str:
    """Returns `value` if it is one of `accepted`; otherwise raises a UsageError that lists them and
    names the nearest.
    """
    if value in accepted:
        return value
    near = get_close_matches(value, accepted, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"unknown {kind} {value!r}{hint}; accepted: {', '.join(accepted) or 'none'}")
