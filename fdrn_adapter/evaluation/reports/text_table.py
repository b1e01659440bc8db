"""Rows of cells as aligned text or as Markdown."""


def aligned(rows: list[list[str]], left: int = 1, gap: str = "  ") -> str:
    """Columns of equal width.

    Args:
        rows: the head first; all of one length.
        left: how many columns are aligned to the left; the others to the right.
        gap: between columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        gap.join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table, the head first."""
    rule = [":--" if i < left else "--:" for i in range(len(rows[0]))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (rows[0], rule, *rows[1:])
    )
