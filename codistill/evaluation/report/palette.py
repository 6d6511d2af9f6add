"""The colours of a report, in light and in dark: told apart by the colour-blind, and readable as text.

Figures are drawn in the light colours. In a page each becomes a CSS variable, so that one figure serves both themes.
Series follow Okabe and Ito, "Color universal design", 2008, darkened (or, for dark pages, lightened) until text in them
has a contrast of at least 4.5 to 1.
"""

INK, MUTED, RULE, SURFACE = "ink", "muted", "rule", "surface"
LIGHT = {
    INK: "#1b1f24",
    MUTED: "#5b636d",
    RULE: "#dfe3e8",
    SURFACE: "#fefefe",
    "s1": "#0063a6",
    "s2": "#b84600",
    "s3": "#96397c",
    "s4": "#00705f",
    "s5": "#7a5f00",
    "s6": "#4a52b8",
    "s7": "#a3263e",
    "teacher": "#007a3d",
    "ensemble": "#4d545c",
}
DARK = {
    INK: "#e8ebef",
    MUTED: "#a0a9b4",
    RULE: "#333a43",
    SURFACE: "#14181d",
    "s1": "#63b7f2",
    "s2": "#ff9d5c",
    "s3": "#e79ad2",
    "s4": "#4fc9b3",
    "s5": "#dcbd4f",
    "s6": "#a3abff",
    "s7": "#ff8b9d",
    "teacher": "#5fce8b",
    "ensemble": "#bcc4cd",
}
SERIES = [name for name in LIGHT if name.startswith("s") and name[1:].isdigit()]
DASHES = ["-", "-", "-", "--", "--", "--", ":"]  # of series: colour is never all that tells two lines apart


def series(place: int) -> str:
    """The light colour of the student, or whatever else comes in a row, in this place."""
    return LIGHT[SERIES[place % len(SERIES)]]


def with_variables(svg: str) -> str:
    """A figure in light colours -> one that takes them from the page."""
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def css(colours: dict[str, str]) -> str:
    """``--ink:#1b1f24; ...``"""
    return "; ".join(f"--{name}:{colour}" for name, colour in colours.items())
