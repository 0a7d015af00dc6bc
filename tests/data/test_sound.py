import pytest
import torch

from leanspike.data import load_dataset, sound
from leanspike.data.folder import read_image_folder
from leanspike.errors import DataError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def tree(tmp_path):
    """Two classes of five images, of which one is cut short, one is no image and one is a bomb."""
    for part in ("train", "val"):
        for name in "ab":
            for number in range(5):
                path = tmp_path / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    cut = tmp_path / "train" / "a" / "1.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    (tmp_path / "train" / "b" / "3.png").write_bytes(b"no image")
    return tmp_path


def test_bad_images_are_refused_unless_asked_and_the_advice_works(tree):
    with pytest.raises(DataError, match=r"or skip such: data.options.skip_bad=true$"):
        load_dataset("image_folder", tree)
    data = load_dataset("image_folder", tree, options={"skip_bad": True}, validation=2)
    assert (len(data.train) + len(data.val), len(data.test)) == (8, 10)
    images, labels = data.train.batch(torch.arange(len(data.train)))
    assert len(images) == len(labels) == 6


def test_they_are_counted_and_named(tree):
    notes = read_image_folder(tree, None, None, True).notes
    assert notes[0].startswith("2 of 20 images are bad and left out: ")
    for name in ("train/a/1.png (OSError: ", "train/b/3.png (UnidentifiedImageError: "):
        assert f"{tree}/{name}" in notes[0]
    assert read_image_folder(tree / "val", None, None, True).notes[1] == "none of 10 images is bad"


def test_what_was_left_out_is_labelled_as_before(tree):
    with_all = read_image_folder(tree, 8, 3).train
    without = read_image_folder(tree, 8, 3, True).train
    bad = {str(tree / "train" / name) for name in ("a/1.png", "b/3.png")}
    kept = [n for n, path in enumerate(with_all.paths) if path not in bad]
    assert list(without.paths) == [with_all.paths[n] for n in kept]
    assert torch.equal(without.labels, with_all.labels[kept])


def test_all_are_decoded_once_and_again_when_a_file_changes(tree, monkeypatch):
    seen, original = [], sound.why_bad
    monkeypatch.setattr(sound, "why_bad", lambda place: seen.append(place) or original(place))
    first = read_image_folder(tree, 8, 3, True)
    assert len(seen) == 20
    again = read_image_folder(tree, 8, 3, True)
    assert len(seen) == 20
    assert again.notes == first.notes
    Image.new("RGB", (8, 8)).save(tree / "train" / "b" / "3.png")  # mended: of the same part all
    assert len(read_image_folder(tree, 8, 3, True).train) == 9
    assert len(seen) == 30


def test_many_are_named_in_the_file_that_keeps_them(tree, monkeypatch):
    monkeypatch.setattr(sound, "SHOWN", 1)
    note = read_image_folder(tree, 8, 3, True).notes[0]
    assert note.endswith(f" and 1 more, all named in {tree}")
    assert any("b/3.png" in path.read_text() for path in tree.glob(".leanspike-*.json"))


def test_a_class_of_bad_images_only_is_refused(tree):
    for path in (tree / "train" / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="all training images of class b are bad; replace them"):
        read_image_folder(tree, 8, 3, True)


def test_where_nothing_can_be_kept_it_is_found_each_time(tree, monkeypatch):
    monkeypatch.setenv("LEANSPIKE_CACHE", str(tree / "train" / "b" / "3.png"))  # is no folder
    places = list(read_image_folder(tree, 8, 3).train.paths)
    assert set(sound._bad(places, tree)) == {1, 8}
    assert set(sound._bad(places, tree)) == {1, 8}
