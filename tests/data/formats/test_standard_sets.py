"""The published data sets: their folders, their lists and their label tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from pixbox.data.formats import ade20k, ccp, cityscapes, coco_stuff, voc
from pixbox.data.images import image_size_hw, read_mask
from pixbox.errors import DataError
from pixbox.labels import IGNORE, LabelMap, RawMask
from tiny import strictly

CCP = Path(__file__).parents[3].parent / "shared" / "data" / "ccp"


def index_of(labels: LabelMap, value: int) -> int:
    """Class index that a mask value becomes."""
    return int(labels.encode(RawMask(np.array([[value]], dtype=np.uint8)))[0, 0])


def message(read, root: Path, source: str) -> str:
    with pytest.raises(DataError) as error:
        read(root, source)
    return str(error.value)


# Pascal VOC


def test_voc_ids_lead_to_jpeg_and_png(tmp_path, write_pictures, write_masks, write_text):
    write_pictures("JPEGImages/2007_000032.jpg", "JPEGImages/2007_000039.jpg", "JPEGImages/other.jpg")
    write_masks("SegmentationClass/2007_000032.png", "SegmentationClass/2007_000039.png")
    write_text("ImageSets/Segmentation/train.txt", "2007_000039", "2007_000032")
    records = strictly(voc.read_records)(tmp_path, "train")
    assert [record.id for record in records] == ["JPEGImages/2007_000039", "JPEGImages/2007_000032"]
    assert records[0].annotation == tmp_path / "SegmentationClass" / "2007_000039.png"


def test_voc_trainaug_lines_of_two_paths_are_read(tmp_path, write_pictures, write_masks, write_text):
    write_pictures("JPEGImages/a.jpg")
    write_masks("SegmentationClassAug/a.png", "SegmentationClass/a.png")
    write_text("ImageSets/Segmentation/trainaug.txt", "/JPEGImages/a.jpg /SegmentationClassAug/a.png")
    (record,) = strictly(voc.read_records)(tmp_path, "trainaug")
    assert record.annotation == tmp_path / "SegmentationClassAug" / "a.png"


def test_voc_trainaug_ids_take_the_augmented_mask_where_there_is_no_other(
    tmp_path, write_pictures, write_masks, write_text
):
    write_pictures("JPEGImages/a.jpg", "JPEGImages/b.jpg")
    write_masks("SegmentationClass/a.png", "SegmentationClassAug/a.png", "SegmentationClassAug/b.png")
    write_text("ImageSets/Segmentation/trainaug.txt", "a", "b")
    records = strictly(voc.read_records)(tmp_path, "trainaug")
    assert [Path(str(record.annotation)).parent.name for record in records] == [
        "SegmentationClass",
        "SegmentationClassAug",
    ]


def test_semantic_boundaries_folder_is_read_with_mat_masks(tmp_path, write_pictures, write_text):
    write_pictures("img/2008_000002.jpg")
    (tmp_path / "cls").mkdir()
    truth = np.array([[0, 20], [5, 0]], dtype=np.uint8)
    scipy.io.savemat(tmp_path / "cls" / "2008_000002.mat", {"GTcls": {"Segmentation": truth}})
    write_text("train.txt", "2008_000002")
    (record,) = strictly(voc.read_records)(tmp_path, "train")
    assert isinstance(record.annotation, Path)
    assert np.array_equal(voc.LABELS.encode(read_mask(record.annotation)), truth)


def test_voc_faults_name_what_was_looked_for(tmp_path, write_pictures, write_masks, write_text):
    assert "no folder JPEGImages/ or img/" in message(strictly(voc.read_records), tmp_path, "train")
    write_pictures("JPEGImages/a.jpg")
    write_text("ImageSets/Segmentation/val.txt", "a", "b", "a b c", "../../../x")
    text = message(strictly(voc.read_records), tmp_path, "train")
    assert 'no list "train" here: looked for ImageSets/Segmentation/train, ImageSets/Segmentation/train.txt' in text
    assert "ImageSets/Segmentation holds val.txt." in text
    text = message(strictly(voc.read_records), tmp_path, "val")
    assert 'val.txt:3: 3 entries in "a b c"' in text
    assert "val.txt:4: " in text
    write_text("ImageSets/Segmentation/val.txt", "a", "b")
    text = message(strictly(voc.read_records), tmp_path, "val")
    assert f"val.txt:1: no such file: {tmp_path}/SegmentationClass/a.png" in text
    assert f"val.txt:2: no such file: {tmp_path}/JPEGImages/b.jpg" in text


def test_voc_labels_have_the_published_palette():
    # As the development kit's documentation shows them.
    known = {
        "background": (0, 0, 0),
        "aeroplane": (128, 0, 0),
        "bicycle": (0, 128, 0),
        "bird": (128, 128, 0),
        "bus": (0, 128, 128),
        "car": (128, 128, 128),
        "cat": (64, 0, 0),
        "person": (192, 128, 128),
        "pottedplant": (0, 64, 0),
        "tvmonitor": (0, 64, 128),
    }
    colors = {item.name: item.colors[0] for item in voc.LABELS.classes}
    assert len(voc.LABELS) == 21
    assert {name: colors[name] for name in known} == known
    assert voc.voc_color(255) == (224, 224, 192)
    assert index_of(voc.LABELS, 15) == voc.LABELS.names.index("person") == 15
    assert index_of(voc.LABELS, 255) == IGNORE
    painted = RawMask(np.array([[[224, 224, 192], [192, 128, 128]]], dtype=np.uint8))
    assert voc.LABELS.encode(painted).tolist() == [[IGNORE, 15]]


# Cityscapes


def test_cityscapes_pictures_find_their_label_ids(tmp_path, write_pictures, write_masks):
    stems = ("aachen/aachen_000010_000019", "bochum/bochum_000000_000313", "aachen/aachen_000009_000019")
    write_pictures(*(f"leftImg8bit/train/{stem}_leftImg8bit.png" for stem in stems))
    ends = ("labelIds", "color", "instanceIds", "labelTrainIds")
    write_masks(*(f"gtFine/train/{stem}_gtFine_{end}.png" for stem in stems for end in ends))
    records = strictly(cityscapes.read_records)(tmp_path, "train")
    assert [record.id for record in records] == [
        "leftImg8bit/train/aachen/aachen_000009_000019_leftImg8bit",
        "leftImg8bit/train/aachen/aachen_000010_000019_leftImg8bit",
        "leftImg8bit/train/bochum/bochum_000000_000313_leftImg8bit",
    ]
    assert records[2].annotation == tmp_path / "gtFine/train/bochum/bochum_000000_000313_gtFine_labelIds.png"


def test_cityscapes_faults_name_what_was_looked_for(tmp_path, write_pictures, write_masks):
    write_pictures("leftImg8bit/train/ulm/ulm_1_leftImg8bit.png")
    write_masks("gtFine/train/ulm/ulm_1_gtFine_color.png")
    text = message(strictly(cityscapes.read_records), tmp_path, "train")
    assert f"looked for {tmp_path}/gtFine/train/ulm/ulm_1_gtFine_labelIds with .png" in text
    text = message(strictly(cityscapes.read_records), tmp_path, "val")
    assert "no folder leftImg8bit/val/" in text
    assert "leftImg8bit holds train/." in text


def test_cityscapes_34_ids_become_19_classes():
    # Names and colours of the benchmark's own table, in the order of its train ids.
    assert cityscapes.LABELS.names == (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    ids = [index_of(cityscapes.LABELS, value) for value in range(34)]
    train_ids = [IGNORE] * 7 + [0, 1, IGNORE, IGNORE, 2, 3, 4, IGNORE, IGNORE, IGNORE, 5, IGNORE, 6, 7, 8, 9, 10]
    train_ids += [11, 12, 13, 14, 15, IGNORE, IGNORE, 16, 17, 18]
    assert ids == train_ids
    assert index_of(cityscapes.LABELS, 255) == IGNORE
    assert cityscapes.LABELS.colors[0].tolist() == [128, 64, 128]
    assert cityscapes.LABELS.colors[10].tolist() == [70, 130, 180]
    assert cityscapes.LABELS.colors[18].tolist() == [119, 11, 32]


# ADE20K


@pytest.mark.parametrize(("name", "folder"), [("training", "training"), ("train", "training"), ("val", "validation")])
def test_ade20k_splits_are_read(tmp_path, write_pictures, write_masks, name, folder):
    write_pictures(f"images/{folder}/ADE_1.jpg")
    write_masks(f"annotations/{folder}/ADE_1.png")
    (record,) = strictly(ade20k.read_records)(tmp_path, name)
    assert record.id == f"images/{folder}/ADE_1"
    assert record.annotation == tmp_path / "annotations" / folder / "ADE_1.png"


def test_ade20k_faults_name_what_was_looked_for(tmp_path, write_pictures):
    write_pictures("images/training/a.jpg")
    text = message(strictly(ade20k.read_records), tmp_path, "train")
    assert "no folder annotations/training/" in text


def test_ade20k_values_1_to_150_are_the_classes():
    labels = ade20k.LABELS
    assert len(labels) == 150
    assert [index_of(labels, value) for value in range(151)] == [IGNORE, *range(150)]
    # Lines of the benchmark's objectInfo150.txt.
    known = {1: "wall", 13: "person", 21: "car", 46: "counter", 67: "flower", 77: "boat", 84: "truck",
             90: "television", 101: "poster", 110: "swimming pool",
             121: "food", 128: "bicycle", 137: "traffic light", 150: "flag"}  # fmt: skip
    assert {value: labels.names[index_of(labels, value)] for value in known} == known
    assert len(np.unique(labels.colors, axis=0)) == 150


# COCO-Stuff


@pytest.mark.parametrize("name", ["train2017", "train"])
@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/train2017", "stuffthingmaps/train2017"),
        ("train2017", "stuffthingmaps/train2017"),
        ("images/train2017", "annotations/train2017"),
    ],
)
def test_coco_stuff_layouts_are_read(tmp_path, write_pictures, write_masks, name, images, masks):
    write_pictures(f"{images}/000000000009.jpg")
    write_masks(f"{masks}/000000000009.png")
    (record,) = strictly(coco_stuff.read_records)(tmp_path, name)
    assert record.id == f"{images}/000000000009"
    assert record.annotation == tmp_path / masks / "000000000009.png"


def test_coco_stuff_faults_name_what_was_looked_for(tmp_path, write_pictures):
    write_pictures("images/val2017/1.jpg")
    text = message(strictly(coco_stuff.read_records), tmp_path, "val")
    assert "no folder stuffthingmaps/val2017/ or annotations/val2017/" in text


def test_coco_stuff_has_171_classes_with_the_published_gaps():
    labels = coco_stuff.LABELS
    assert len(labels) == 171
    values = [item.values[0] for item in labels.classes]
    # Category ids without a segmentation: street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door,
    # blender, hair brush.
    gaps = {category - 1 for category in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)}
    assert values == [value for value in range(182) if value not in gaps]
    # Lines of the set's labels.txt, whose numbers are one more.
    known = {0: "person", 12: "stop sign", 61: "chair", 79: "toaster", 89: "toothbrush", 91: "banner",
             95: "building-other", 105: "clouds", 115: "floor-stone", 123: "grass", 143: "platform",
             156: "sky-other", 168: "tree",
             181: "wood"}  # fmt: skip
    assert {value: labels.names[index_of(labels, value)] for value in known} == known
    assert index_of(labels, 255) == IGNORE


# Clothing Co-Parsing


@pytest.fixture
def clothes(tmp_path, write_pictures, write_masks, write_text):
    write_pictures(*(f"photos/{number:04}.jpg" for number in range(1, 6)))
    write_masks("annotations/pixel-level/0001.mat", "annotations/pixel-level/0003.mat", value=1)
    write_text("ids.txt", "0003", "0001")
    names = np.empty((1, 3), dtype=object)
    names[0] = ["null", "hair", "skin"]
    scipy.io.savemat(tmp_path / "label_list.mat", {"label_list": names})
    return tmp_path


def test_ccp_uses_only_photos_with_a_pixel_level_label(clothes):
    assert [record.id for record in strictly(ccp.read_records)(clothes, "all")] == ["photos/0001", "photos/0003"]
    assert [record.id for record in strictly(ccp.read_records)(clothes, "ids.txt")] == ["photos/0003", "photos/0001"]


def test_ccp_faults_name_what_was_looked_for(clothes, write_masks, write_text):
    text = message(strictly(ccp.read_records), clothes, "train")
    assert 'no list "train" here' in text
    assert "`all` stands for every photo with a pixel-level label" in text
    write_text("train.txt", "0001", "0002", "0009")
    text = message(strictly(ccp.read_records), clothes, "train")
    assert f"photos/0002.jpg: no mask for this picture: looked for {clothes}/annotations/pixel-level/0002" in text
    assert 'train.txt:3: no picture is called "0009"' in text
    write_masks("annotations/pixel-level/0077.mat")
    assert '0077.mat: no picture is called "0077"' in message(strictly(ccp.read_records), clothes, "all")


def test_ccp_labels_come_from_the_set_and_null_is_a_class(clothes):
    labels = ccp.labels(clothes)
    assert labels.names == ("null", "hair", "skin")
    assert [index_of(labels, value) for value in range(3)] == [0, 1, 2]
    assert labels.colors[0].tolist() == [0, 0, 0]


def test_ccp_label_list_that_cannot_be_read_names_itself(clothes):
    path = clothes / "label_list.mat"
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(DataError, match="holds no list `label_list` of names"):
        ccp.labels(clothes)
    path.unlink()
    with pytest.raises(DataError, match="it names the labels") as error:
        ccp.labels(clothes)
    assert str(error.value).startswith(str(path))


@pytest.mark.skipif(not CCP.is_dir(), reason="the clothing pictures are not here")
def test_real_clothing_set_has_250_photos_and_59_labels():
    everything, listed = strictly(ccp.read_records)(CCP, "all"), strictly(ccp.read_records)(CCP, "ids.txt")
    assert everything == listed
    assert len(everything) == 250
    labels = ccp.labels(CCP)
    assert len(labels) == 59
    assert {value: labels.names[value] for value in (0, 19, 41, 51, 58)} == {
        0: "null", 19: "hair", 41: "skin", 51: "t-shirt", 58: "wedges",
    }  # fmt: skip
    seen = np.zeros(256, dtype=np.int64)
    for record in everything:
        assert isinstance(record.annotation, Path)
        mask = labels.encode(read_mask(record.annotation))
        assert mask.shape == image_size_hw(record.image)
        seen += np.bincount(mask.ravel(), minlength=256)
    never = {labels.names[index] for index in range(59) if seen[index] == 0}
    assert never == {"bra", "clogs", "earrings", "intimate", "panties", "swimwear"}
    assert round(seen[0] / seen.sum(), 3) == 0.771
