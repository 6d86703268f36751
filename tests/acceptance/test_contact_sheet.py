"""The sheet of a sweep."""

from PIL import Image

from infinitetalk.acceptance.contact_sheet import BACKGROUND, contact_sheet, corner

CELL = (40, 30)
COLOURS = [["red", "green", "blue"], ["yellow", None, "purple"]]


def test_every_picture_is_in_its_cell_and_a_missing_one_is_grey() -> None:
    pictures = [
        [colour and Image.new("RGB", (16, 16), colour) for colour in row] for row in COLOURS
    ]
    sheet = contact_sheet(pictures, ["a", "b"], ["x", "y", "z"], CELL)
    for row, colours in enumerate(COLOURS):
        for column, colour in enumerate(colours):
            left, top = corner(row, column, CELL)
            cell = sheet.crop((left, top, left + CELL[0], top + CELL[1]))
            wanted = Image.new("RGB", CELL, colour or "lightgrey")
            assert cell.tobytes() == wanted.tobytes()
            assert sheet.getpixel((left - 1, top)) == (255, 255, 255)


def test_rows_and_columns_are_labelled() -> None:
    row = [Image.new("RGB", CELL, BACKGROUND)] * 2
    blank = contact_sheet([row], [""], ["", ""], CELL)
    labelled = contact_sheet([row], ["steps 4"], ["", "audio 2"], CELL)
    first, second = (corner(0, column, CELL)[0] for column in (0, 1))
    areas = ((0, 20, first, labelled.height), (second, 0, labelled.width, 28))
    assert all(labelled.crop(area).tobytes() != blank.crop(area).tobytes() for area in areas)
