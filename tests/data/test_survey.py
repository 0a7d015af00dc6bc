import numpy as np
import pytest

from leanspike.data import survey as module
from leanspike.data.folder import decode
from leanspike.data.survey import survey
from leanspike.errors import DataError

Image = pytest.importorskip("PIL.Image")


def write(folder, *sizes, mode="RGB"):
    paths = []
    for number, size in enumerate(sizes):
        path = folder / f"{mode}-{number}.png"
        Image.new(mode, size).save(path)
        paths.append(str(path))
    return paths


@pytest.mark.parametrize(
    ("sides", "size"),
    [((8, 8, 8), 8), ((8, 8, 6, 5), 8), ((4, 5, 6, 7, 7), 6), ((256,), 256), ((300, 300, 8), 224)],
)
def test_the_size_is_the_common_one_or_the_median(tmp_path, sides, size):
    found = survey(write(tmp_path, *((side, side) for side in sides)), None, None)
    assert found.image_size == size
    resized = sum(side != size for side in sides)
    assert [note.split(" ")[0] for note in found.notes] == [str(resized)] * (resized > 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_files_of_one_channel_are_grey(tmp_path, mode):
    paths = write(tmp_path, (8, 8), mode=mode)
    assert survey(paths, None, None).channels == 1
    assert decode(paths[0], 8, 1).shape == (1, 8, 8)


def test_a_palette_is_grey_if_its_colours_are(tmp_path):
    ramp = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    ramp.convert("P").save(tmp_path / "grey.png")
    Image.new("RGB", (8, 8), "red").convert("P", palette=Image.Palette.ADAPTIVE).save(
        tmp_path / "red.png"
    )
    assert survey([str(tmp_path / "grey.png")], None, None).channels == 1
    assert survey([str(tmp_path / "red.png")], None, None).channels == 3
    assert np.array_equal(decode(str(tmp_path / "grey.png"), 8, 1)[0], np.asarray(ramp))
    assert decode(str(tmp_path / "red.png"), 8)[:, 0, 0].tolist() == [255, 0, 0]


def test_sixteen_bits_become_eight(tmp_path):
    values = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert decode(str(tmp_path / "deep.png"), 2, 1).tolist() == [[[0, 1], [128, 255]]]
    assert decode(str(tmp_path / "deep.png"), 2, 3)[2].tolist() == [[0, 1], [128, 255]]


def test_pixels_of_thirty_two_bits_are_refused_by_name(tmp_path):
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x.tif \(ValueError: pixels of 32 bits, mode F; save"):
        decode(str(tmp_path / "x.tif"), 2)


def test_what_is_transparent_is_laid_over_white(tmp_path):
    layer = np.zeros((1, 2, 4), dtype=np.uint8)  # black ink, and nothing beside it
    layer[0, 0, 3] = 255
    Image.fromarray(np.repeat(layer, 2, 0)).save(tmp_path / "ink.png")
    assert decode(str(tmp_path / "ink.png"), 2, 1).tolist() == [[[0, 255], [0, 255]]]
    notes = survey([str(tmp_path / "ink.png")], None, None).notes
    assert notes == ("1 of 1 images are transparent in places, and are laid over white",)


def test_of_many_images_the_same_ones_are_looked_at(tmp_path, monkeypatch):
    paths = write(tmp_path, *((side, side) for side in range(4, 24)))
    monkeypatch.setattr(module, "LOOKED_AT", 5)
    first = survey(paths, None, None)
    assert first == survey(paths, None, None)
    assert first.notes[0].startswith("4 of 5 images are resized")
