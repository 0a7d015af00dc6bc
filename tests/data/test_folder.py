import io
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.data import folder
from leanspike.data.folder import FolderSplit, decode, read_image_folder
from leanspike.data.layout import SUFFIXES
from leanspike.errors import DataError, LeanspikeError

Image = pytest.importorskip("PIL.Image")


def write_image(path, width=8, height=8, seed=0, mode="RGB"):
    """A random image; returns its pixels as RGB, uint8 [3, height, width]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(path)
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


@pytest.fixture
def tree(tmp_path):
    """Two classes, three training and one validation image each, with clutter."""
    for seed, name in enumerate(["b/0.png", "b/1.PNG", "b/deep/er/2.png", "a/0.png", "a/1.png"]):
        write_image(tmp_path / "train" / name, seed=seed)
    write_image(tmp_path / "train" / "a" / "2.jpg", 12, 9)
    write_image(tmp_path / "val" / "a" / "0.png", seed=10)
    write_image(tmp_path / "val" / "b" / "0.png", seed=11)
    (tmp_path / "train" / "README.txt").write_text("clutter")
    (tmp_path / "train" / "a" / "notes.txt").write_text("clutter")
    (tmp_path / "train" / "a" / "._0.png").write_bytes(b"clutter")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def test_the_folders_are_the_classes(tree):
    parts = read_image_folder(tree, 8)
    assert parts.classes == ("a", "b")
    assert parts.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert parts.test.labels.tolist() == [0, 1]
    assert parts.train.shape == (3, 8, 8)
    images, labels = parts.train.batch(torch.tensor([5, 0, 0]))
    assert labels.tolist() == [1, 0, 0]
    assert images.dtype == torch.uint8
    assert np.array_equal(
        images[0], np.asarray(Image.open(tree / "train/b/deep/er/2.png")).transpose(2, 0, 1)
    )
    assert torch.equal(images[1], images[2])


def test_size_and_channels_are_the_images_own(tree):
    parts = read_image_folder(tree, None)
    assert parts.train.shape == parts.test.shape == (3, 8, 8)
    assert parts.notes == (
        "1 of 8 images are resized to 8x8 (shorter sides of 8 to 9 pixels; "
        "data.options.image_size=N is another size)",
        "1 of 8 images are not square, and their central square is taken",
    )
    assert read_image_folder(tree, 16, 1).train.shape == (1, 16, 16)


def test_grey_images_stay_grey(tmp_path):
    grey = [
        write_image(tmp_path / name / f"{seed}.png", seed=seed, mode="L")
        for name in "ab"
        for seed in range(5)
    ]
    parts = read_image_folder(tmp_path, None)
    assert parts.train.shape == (1, 8, 8)
    images, _ = parts.train.batch(torch.tensor([0]))
    assert any(np.array_equal(images[0, 0], pixels[0]) for pixels in grey)
    write_image(tmp_path / "a" / "colour.png")
    mixed = read_image_folder(tmp_path, None)
    assert mixed.train.shape == (3, 8, 8)
    assert any("are grey and become colour" in note for note in mixed.notes)
    forced = read_image_folder(tmp_path, None, 1)
    assert any("1 of 11 images are in colour and become grey" in note for note in forced.notes)


@pytest.mark.parametrize("under", ["train", "."])
def test_without_test_images_a_fixed_fifth_tests(tmp_path, under):
    for name in "ab":
        for seed in range(10):
            write_image(tmp_path / under / name / f"{seed}.png", seed=seed)
    parts = read_image_folder(tmp_path, None)
    assert (len(parts.train), len(parts.test)) == (16, 4)
    assert parts.test.labels.tolist() == [0, 0, 1, 1]
    assert not set(parts.train.paths) & set(parts.test.paths)
    assert read_image_folder(tmp_path, None).test.paths == parts.test.paths
    assert parts.notes == (
        f"{tmp_path} has no test or val folder: a fixed fifth of each class tests",
    )


def test_with_test_and_val_those_of_val_validate(tree):
    assert read_image_folder(tree, None).val is None
    write_image(tree / "test" / "b" / "0.png")
    parts = read_image_folder(tree, None)
    assert "/val/" in parts.val.paths[0]
    assert "/test/" in parts.test.paths[0]


def test_an_unlabelled_test_folder_is_passed_over(tree):
    write_image(tree / "test" / "0.png")
    write_image(tree / "test" / "images" / "0.png")
    assert "val" in read_image_folder(tree, 8).test.paths[0]
    write_image(tree / "test" / "b" / "0.png")
    with pytest.raises(DataError, match=r"test/images is not a class of \S+train"):
        read_image_folder(tree, 8)
    (tree / "test/images/0.png").unlink()
    (tree / "test/images").rmdir()
    parts = read_image_folder(tree, 8)
    assert parts.test.labels.tolist() == [1]
    assert "test" in parts.test.paths[0]


def test_a_file_that_is_no_image_is_found_by_its_header(tree):
    (tree / "val" / "a" / "0.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"no image in \S+val/a/0.png \(Unidentified.*\); replace"):
        read_image_folder(tree, 8)


def test_what_is_kept_can_be_decoded_ahead(tree):
    path = tree / "train" / "a" / "2.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    parts = read_image_folder(tree, 8)
    parts.test.prepare()
    with pytest.raises(DataError, match=r"no image in \S+train/a/2.jpg \(OSError: .*truncated"):
        parts.train.prepare()
    write_image(path)
    parts.train.select(torch.arange(6)).prepare()
    path.unlink()
    assert parts.train.batch(torch.arange(6))[0].shape == (6, 3, 8, 8)


def test_nothing_is_opened_before_it_is_asked_for_where_all_is_said(tree):
    broken = tree / "train" / "a" / "0.png"
    broken.write_bytes(b"not an image")
    parts = read_image_folder(tree, 8, 3)
    parts.train.batch(torch.tensor([1, 2]))
    with pytest.raises(
        DataError, match=r"no image in \S+train/a/0.png \(Unidentified.*\); replace"
    ):
        parts.train.batch(torch.tensor([1, 0]))


@pytest.mark.parametrize("keep", [True, False])
def test_decoded_images_stay_in_memory_only_with_keep(tmp_path, keep):
    path = tmp_path / "0.png"
    pixels = write_image(path)
    split = FolderSplit([str(path)], torch.tensor([0]), image_size=8, keep=keep)
    assert np.array_equal(split.batch(torch.tensor([0]))[0][0], pixels)
    path.unlink()
    if keep:
        assert np.array_equal(split.batch(torch.tensor([0]))[0][0], pixels)
    else:
        with pytest.raises(DataError, match=r"0\.png"):
            split.batch(torch.tensor([0]))


def test_images_are_kept_within_the_budget(tree, monkeypatch):
    monkeypatch.setattr(folder, "KEEP_BYTES", 8 * 3 * 8 * 8)
    assert read_image_folder(tree, 8).train.keep
    monkeypatch.setattr(folder, "KEEP_BYTES", 8 * 3 * 8 * 8 - 1)
    assert not read_image_folder(tree, 8).train.keep


def test_an_empty_part_has_an_empty_batch(tree):
    part = read_image_folder(tree, 8).train.select(torch.tensor([], dtype=torch.int64))
    images, labels = part.batch(torch.arange(0))
    assert images.shape == (0, 3, 8, 8)
    assert labels.shape == (0,)


@pytest.mark.parametrize(("width", "height"), [(24, 8), (8, 24)])
def test_the_centre_is_cut_out(tmp_path, width, height):
    pixels = write_image(tmp_path / "x.png", width, height)
    left, top = (width - 8) // 2, (height - 8) // 2
    assert np.array_equal(
        decode(str(tmp_path / "x.png"), 8), pixels[:, top : top + 8, left : left + 8]
    )


def test_the_resizing_is_torchvisions(tmp_path):
    transforms = pytest.importorskip("torchvision.transforms")
    write_image(tmp_path / "x.png", 60, 40)
    reference = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16)])
    expected = np.asarray(reference(Image.open(tmp_path / "x.png"))).transpose(2, 0, 1)
    found = decode(str(tmp_path / "x.png"), 16)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_listed_format_is_read(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_image(path, mode="L" if suffix == ".pgm" else "RGB")
    assert decode(str(path), 8).shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    pixels = write_image(path, mode=mode)
    assert np.array_equal(decode(str(path), 8), pixels)


def test_other_formats_are_not_even_tried(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")  # PIL would start Ghostscript for it
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(DataError, match="UnidentifiedImageError"):
        decode(str(tmp_path / "x.png"), 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11, 15])  # above PIL's limit, and above twice the limit
def test_a_decompression_bomb_is_named(tmp_path, monkeypatch, side):
    write_image(tmp_path / "bomb.png", side, side)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"bomb\.png \(\S+: .*pixels"):
        decode(str(tmp_path / "bomb.png"), 8)


def test_a_thin_image_does_not_explode(tmp_path):
    write_image(tmp_path / "thin.png", 20_000, 1)
    assert decode(str(tmp_path / "thin.png"), 64).shape == (3, 64, 64)


def test_a_truncated_image_is_named(tmp_path):
    write_image(tmp_path / "x.jpg", 64, 64)
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:-200])
    with pytest.raises(DataError, match=r"no image in \S+x.jpg \(OSError: .*truncated"):
        decode(str(tmp_path / "x.jpg"), 8)


def shape_or_message(path):
    try:
        return decode(path, 8).shape
    except DataError as error:
        return str(error)


@settings(max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF"]), st.data())
def test_damaged_bytes_are_an_image_or_an_error_of_one_line(tmp_path_factory, kind, data):
    stream = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    found = shape_or_message(str(path))
    assert found == (3, 8, 8) or (str(path) in found and "\n" not in found)


def test_a_missing_pillow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(LeanspikeError, match=r"pip install 'leanspike\[vision\]'$"):
        decode(str(tmp_path / "x.png"), 8)


def test_a_missing_tree_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"no folder \S+nowhere; give the root of .*LEANSPIKE_DATA"):
        read_image_folder(tmp_path / "nowhere", 8)
    with pytest.raises(DataError, match=r"no class folders in \S+; .*LEANSPIKE_DATA"):
        read_image_folder(tmp_path, 8)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"no class folders in \S+train; .*LEANSPIKE_DATA"):
        read_image_folder(tmp_path, 8)


def test_one_class_and_parts_in_the_place_of_classes_are_refused(tmp_path):
    write_image(tmp_path / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"train has one class only, cat; two or more are needed"):
        read_image_folder(tmp_path, 8)
    (tmp_path / "train").rename(tmp_path / "training")
    write_image(tmp_path / "val" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"/training looks like a part .*; call the parts train,"):
        read_image_folder(tmp_path, 8)


def test_hidden_folders_and_what_archives_leave_are_passed_over(tree):
    before = read_image_folder(tree, None).train.paths
    write_image(tree / "train" / "a" / ".ipynb_checkpoints" / "0.png")
    write_image(tree / "train" / "__MACOSX" / "0.png")
    assert read_image_folder(tree, None).train.paths == before


def test_a_class_without_images_is_named(tree):
    (tree / "val" / "b" / "0.png").unlink()
    with pytest.raises(DataError, match=r"no images in \S+val/b; put some there \(\.bmp, "):
        read_image_folder(tree, 8)


def test_a_size_below_one_is_refused(tree):
    with pytest.raises(DataError, match="image_size is 0; give 1 or more"):
        read_image_folder(tree, 0)


def test_paths_without_labels_are_refused():
    with pytest.raises(DataError, match="1 paths, but 2 labels"):
        FolderSplit(["x"], torch.tensor([0, 1]), image_size=8, keep=True)


def test_tiny_imagenets_own_layout_is_read(tmp_path):
    for name in ("n01", "n02"):
        for number in range(3):
            write_image(tmp_path / "train" / name / "images" / f"{name}_{number}.JPEG", seed=number)
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("clutter")
    for number in range(4):
        write_image(tmp_path / "val" / "images" / f"val_{number}.JPEG", seed=10 + number)
        write_image(tmp_path / "test" / "images" / f"test_{number}.JPEG")
    annotations = tmp_path / "val" / "val_annotations.txt"
    rows = [f"val_{number}.JPEG\tn0{1 + number % 2}\t0\t0\t62\t62" for number in (1, 0, 3, 2)]
    annotations.write_text("\n".join(rows) + "\n")
    parts = read_image_folder(tmp_path, None)
    assert parts.classes == ("n01", "n02")
    assert (len(parts.train), len(parts.test), parts.val) == (6, 4, None)
    assert [path[-6] for path in parts.test.paths] == ["1", "0", "3", "2"]
    assert parts.test.labels.tolist() == [1, 0, 1, 0]
    annotations.write_text("val_0.JPEG\tn03\n")
    with pytest.raises(
        DataError, match=r"val_annotations.txt, line 1: 'val_0.JPEG\\tn03' is not an"
    ):
        read_image_folder(tmp_path, 8)
    annotations.write_text("")
    with pytest.raises(DataError, match=r"val_annotations.txt names no images; restore it"):
        read_image_folder(tmp_path, 8)
