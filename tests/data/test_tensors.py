import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from leanspike.data import Augment, Loader, TensorSplit, describe, load_dataset, normalise
from leanspike.data.cross_validation import cross_validation_split
from leanspike.data.tensors import read_tensors
from leanspike.errors import DataError

RANDOM = np.random.default_rng(0)


def arrays(x=(5,), y=(), n=20, test=8, kind="class"):
    """Arrays of both parts: samples of a shape and targets of another."""
    make = {
        "class": lambda shape: RANDOM.integers(0, 3, shape),
        "several": lambda shape: np.eye(3, dtype=np.uint8)[RANDOM.integers(0, 3, shape[0])] | 1,
        "number": lambda shape: RANDOM.normal(size=shape),
        "yes": lambda shape: RANDOM.integers(0, 2, shape).astype(np.float32),
    }[kind]
    return {
        f"{name}_{part}": values
        for part, count in (("train", n), ("test", test))
        for name, values in (("x", RANDOM.normal(3, 2, (count, *x))), ("y", make((count, *y))))
    }


@pytest.mark.parametrize("form", ["npz", "safetensors", "npy", "parts"])
def test_each_layout_gives_the_same_data(tmp_path, form):
    found = arrays((4, 6))
    if form == "npz":
        np.savez(tmp_path / "all.npz", **found)
    elif form == "safetensors":
        save_file(found, tmp_path / "all.safetensors")
    elif form == "npy":
        for name, array in found.items():
            np.save(tmp_path / f"{name}.npy", array)
    else:
        for part in ("train", "test"):
            np.savez(tmp_path / f"{part}.npz", x=found[f"x_{part}"], y=found[f"y_{part}"])
    roots = [tmp_path, *(tmp_path / name for name in ("all.npz", "all.safetensors"))]
    for root in (root for root in roots if root.exists()):
        parts = read_tensors(root)
        x, y = parts.train.batch(torch.arange(20))
        assert x.dtype == parts.train.dtype == torch.float32
        assert np.array_equal(x.numpy(), found["x_train"].astype(np.float32))
        assert np.array_equal(y.numpy(), found["y_train"])
        assert (len(parts.test), parts.classes, parts.task) == (8, ("0", "1", "2"), "multiclass")
        assert parts.train.shape == (4, 6)


@pytest.mark.parametrize(
    ("kind", "row", "task", "answers", "names"),
    [
        ("class", (), "multiclass", (3,), 3),
        ("class", (1,), "multiclass", (3,), 3),
        ("several", (3,), "multilabel", (3,), 3),
        ("yes", (1,), "binary", (1,), 2),
        ("number", (), "none", (1,), 0),
        ("number", (4,), "none", (4,), 0),
        ("number", (2, 4), "none", (2, 4), 0),
    ],
)
def test_targets_say_what_is_asked_for(tmp_path, kind, row, task, answers, names):
    np.savez(tmp_path / "all.npz", **arrays(y=row, kind=kind))
    data = load_dataset("tensors", tmp_path, validation=4)
    assert (data.task, data.answer_shape, len(data.classes)) == (task, answers, names)
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 8)
    assert data.train.labels.dtype == (torch.int64 if task == "multiclass" else torch.float32)


def test_a_batch_is_normalised_by_channel_in_the_tensors_own_units(tmp_path):
    found = arrays((4, 6), n=50)
    np.savez(tmp_path / "all.npz", **found)
    data = load_dataset("tensors", tmp_path, validation=0)
    assert data.mean == pytest.approx(found["x_train"].mean((0, 2)), abs=1e-4)
    assert data.std == pytest.approx(found["x_train"].std((0, 2)), abs=1e-4)
    loader = Loader(data.train, batch_size=50, mean=data.mean, std=data.std, seed=0, train=True)
    x, y = next(loader.epoch(0))
    assert (x.shape, x.dtype, y.dtype) == ((50, 4, 6), torch.float32, torch.int64)
    assert x.mean((0, 2)).abs().max() < 1e-4
    rest = list(
        Loader(data.train, batch_size=7, mean=data.mean, std=data.std, seed=0, train=True).epoch(
            3, 2
        )
    )
    assert len(rest) == 5
    assert "tensors of 4x6, 3 classes; 50 train, 0 validate, 8 test; mean " in describe(data)


def test_vectors_have_a_constant_for_each_feature():
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    before = x.clone()
    assert normalise(x, (2.0, 20.0), (1.0, 10.0)).tolist() == [[-1, -1], [1, 1]]
    assert torch.equal(x, before)


def test_bytes_of_pictures_stay_images(tmp_path):
    found = arrays((8, 8))
    found |= {name: RANDOM.integers(0, 256, (20, 8, 8), np.uint8) for name in ("x_train", "x_test")}
    found["y_test"] = found["y_train"]
    np.savez(tmp_path / "mnist.npz", **found)
    data = load_dataset("tensors", tmp_path / "mnist.npz", validation=5)
    assert data.of_images
    assert data.shape == (1, 8, 8)
    assert Augment(crop=1)(data.train.batch(torch.arange(2))[0], torch.Generator()).shape[1:] == (
        1,
        8,
        8,
    )


def test_x_and_y_alone_give_a_fixed_fifth_to_the_test(tmp_path):
    for name, array in (("x", RANDOM.normal(size=(10, 3))), ("y", RANDOM.normal(size=10))):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "other.npy", np.zeros(3))
    one, two = (read_tensors(tmp_path) for _ in range(2))
    assert (len(one.train), len(one.test)) == (8, 2)
    assert torch.equal(one.test.images, two.test.images)
    assert one.notes == (f"{tmp_path} has no test part: a fixed fifth tests",)


def test_validation_arrays_validate_and_a_file_names_the_classes(tmp_path):
    found = arrays()
    np.savez(tmp_path / "a.npz", **found, x_val=found["x_test"], y_val=found["y_test"])
    (tmp_path / "classes.txt").write_text("cat\ndog\neel\n")
    data = load_dataset("tensors", tmp_path)
    assert (len(data.val), data.classes) == (8, ("cat", "dog", "eel"))
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"classes.txt names 1 classes, and there are 3; mend it"):
        read_tensors(tmp_path)


def test_numbers_are_split_for_cross_validation(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(kind="number"))
    data = cross_validation_split(load_dataset("tensors", tmp_path, validation=4), 1, 4)
    assert (len(data.train), len(data.val), len(data.test)) == (17, 4, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x_train": np.full((20, 5), np.nan)},
            r"x_train in \S+a.npz has values that are NaN or i",
        ),
        ({"x_train": np.zeros(20)}, r"x_train in \S+ is \[20\]; give samples of one to three axes"),
        ({"x_train": np.zeros((20, 1, 1, 1, 1))}, r"is \[20, 1, 1, 1, 1\]; give samples of one"),
        ({"x_train": np.zeros((20, 5), complex)}, r"is of complex128; give floats or whole"),
        (
            {"x_train": np.zeros((19, 5))},
            r"x_train in \S+ has 19 samples, and y_train in \S+ has",
        ),
        ({"x_test": np.zeros((8, 6))}, r"x_test in \S+ are torch.float32 \[8, 6\], and x_train"),
        ({"y_train": None}, r"no y_train in \S+, which has x_test, x_train, y_test; add it"),
        ({"y_train": np.full(20, -1)}, r"y_train in \S+ has class -1; number the classes from 0"),
        (
            {"y_train": np.zeros((20, 2))},
            r"other parts have rows of shapes .*; give all",
        ),
        (
            {"y_train": np.eye(2)[np.zeros(20, int)], "y_test": np.eye(2)[np.zeros(8, int)]},
            r"has a single 1 in each row, .* y.argmax\(1\), as whole numbers",
        ),
        (
            {"y_train": np.full((20, 2), 7), "y_test": np.full((8, 2), 7)},
            r"are whole numbers \[20, 2\]; give classes \[N\], labels 0 and 1",
        ),
        ({"y_train": np.array(3)}, r"y_train in \S+ is a single number"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, message):
    found = {name: a for name, a in (arrays() | change).items() if a is not None}
    np.savez(tmp_path / "a.npz", **found)
    with pytest.raises(DataError, match=message) as error:
        read_tensors(tmp_path)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no arrays at \S+; give a file .npz or .safetensors with"):
        read_tensors(tmp_path)
    np.savez(tmp_path / "a.npz", **arrays())
    np.savez(tmp_path / "b.npz", **arrays())
    with pytest.raises(DataError, match=r"x_train is in x_train in \S+a.npz and \S+b.npz; remove"):
        read_tensors(tmp_path)
    (tmp_path / "b.npz").unlink()
    for name in ("a.npz", "b.npy", "c.safetensors"):
        (tmp_path / name).write_bytes(b"\x93NUMPY")
        with pytest.raises(DataError, match=rf"{name} cannot be read \(.*\); write it again"):
            read_tensors(tmp_path / name)
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))  # a pickle: never opened
    with pytest.raises(DataError, match=r"b.npy cannot be read \(Object arrays cannot be loaded"):
        read_tensors(tmp_path / "b.npy")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"x.txt is of no known kind; give one of .npy, .npz"):
        read_tensors(tmp_path / "x.txt")


def test_other_types_are_refused():
    with pytest.raises(DataError, match=r"torch.float64 \[2, 3\]; give .*or torch.float32 \[N"):
        TensorSplit(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2))
