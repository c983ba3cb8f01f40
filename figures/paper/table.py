"""The column "ours" of `docs/paper.md`, which is the only one that is not written by hand."""

from collections.abc import Mapping

OURS = 3  # claim | where | the paper | ours | agrees | why


def cells(row: str) -> list[str]:
    """Return the cells of a row of a Markdown table; none if the line is no row."""
    return [cell.strip() for cell in row.split("|")[1:-1]] if row.startswith("|") else []


def fill(text: str, said: Mapping[str, str]) -> str:
    """Lay what our results say to the claims of the paper into their table.

    Args:
        text: Markdown whose rows start with the name of a claim.
        said: Claim → what the results say; see `claims.say`.

    Returns:
        The text with the column "ours" of these rows replaced.

    Raises:
        ValueError: If the table has no row of a claim.
    """
    lines, missing = text.split("\n"), set(said)
    for number, line in enumerate(lines):
        row = cells(line)
        if row and row[0] in said:
            row[OURS] = said[row[0]]
            lines[number] = f"| {' | '.join(row)} |"
            missing.discard(row[0])
    if missing:
        raise ValueError(f"the table has no row of: {', '.join(sorted(missing))}")
    return "\n".join(lines)
