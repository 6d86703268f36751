"""Pictures of a grid on one sheet, with a label for every row and column."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN = 8  # pixels around every cell
LABELS = 150  # width of the column of row labels
HEADER = 28  # height of the row of column labels
BACKGROUND, INK, EMPTY = "white", "black", "lightgrey"


def contact_sheet(
    pictures: Sequence[Sequence[Image.Image | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    cell: tuple[int, int],
) -> Image.Image:
    """Draw a sheet.

    Args:
        pictures: row by row; None leaves a grey cell.
        cell: (width, height) that every picture is brought to.
    """
    width = LABELS + len(columns) * (cell[0] + MARGIN)
    height = HEADER + len(rows) * (cell[1] + MARGIN)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for column, label in enumerate(columns):
        draw.text((corner(0, column, cell)[0], MARGIN // 2), label, INK, font)
    for row, label in enumerate(rows):
        draw.text((MARGIN, corner(row, 0, cell)[1]), label, INK, font)
        for column, picture in enumerate(pictures[row]):
            shown = Image.new("RGB", cell, EMPTY) if picture is None else picture.resize(cell)
            sheet.paste(shown, corner(row, column, cell))
    return sheet


def corner(row: int, column: int, cell: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a cell."""
    return LABELS + column * (cell[0] + MARGIN), HEADER + row * (cell[1] + MARGIN)
