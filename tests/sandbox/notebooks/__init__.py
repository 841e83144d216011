"""Notebooks, one a file: `NAME.nb`, whose cells each begin with a line `# %%`."""

from pathlib import Path

HERE = Path(__file__).parent

NAMES = sorted(path.stem for path in HERE.glob("*.nb"))


def cells(name: str) -> list[str]:
    """The sources of a notebook's code cells."""
    parts = ("\n" + (HERE / f"{name}.nb").read_text()).split("\n# %%\n")[1:]
    return [part.removesuffix("\n") for part in parts]
