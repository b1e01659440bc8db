"""What people train on, opened by the rules of the evaluation's data sets, or as COCO JSON."""

import functools
import json
import logging
from pathlib import Path

import numpy as np

from fdrn_adapter.coco import CocoImage, mask_functions, read_coco
from fdrn_adapter.evaluation.datasets.catalogue import FOLDER, FOLDER_255, Dataset, open_dataset
from fdrn_adapter.evaluation.datasets.coco import image_file, image_folders
from fdrn_adapter.evaluation.datasets.layout import pixels, read_instance
from fdrn_adapter.image_folders import files_in, listed
from fdrn_adapter.label_maps import AUTO, IGNORE, instance_labels
from fdrn_adapter.training.batched.pictures import Picture, from_label_map, stamp_of

logger = logging.getLogger(__name__)


def open_pictures(specs: str) -> list[Picture]:
    """The pictures of data sets as written on the command line; none of them is read yet.

    Raises:
        ValueError: there is no such folder or file, or it is not laid out so.
    """
    found = []
    for source, spec in enumerate(filter(None, map(str.strip, specs.split(",")))):
        file, _, images = spec.partition("=")
        if file.lower().endswith(".json"):
            found += _coco(Path(file).expanduser(), images, source)
        else:
            told = "=" in spec or spec.startswith((f"{FOLDER}:", f"{FOLDER_255}:"))
            name = spec if told else f"{FOLDER}:{spec}"
            found += _data_set(open_dataset(name), source)
    if not found:
        raise ValueError(
            "--data names no data set: DIR with images/ and masks/ or instances/, FILE.json of "
            "COCO, or NAME=DIR; several with commas between."
        )
    return found


def open_images(specs: str) -> list[Path]:
    """The image files of data sets; a folder of images alone will do."""
    files: list[Path] = []
    for spec in filter(None, map(str.strip, specs.split(","))):
        folder = Path(spec).expanduser()
        if "=" not in spec and folder.is_dir() and not any(p.is_dir() for p in folder.iterdir()):
            files += files_in(folder)
        else:
            files += [picture.image for picture in open_pictures(spec)]
    if not files:
        raise ValueError(
            "--data names no images: a folder of them, or a data set as `fdrn train` takes it."
        )
    return list(dict.fromkeys(files))


# -- folders -----------------------------------------------------------------------------------


def _data_set(dataset: Dataset, source: int) -> list[Picture]:
    pictures, left_out = [], []
    for name, numbers in dataset.groups():
        of_image = [dataset.items[i] for i in numbers]
        items = [item for item in of_image if item.mask is not None and not item.problem]
        if not items:
            left_out.append(of_image[0].problem or f"{of_image[0].image.name} has no mask")
            continue
        masks = sorted({item.mask for item in items if item.mask is not None})
        stamp = "\n".join([stamp_of(*masks), *(str(item.label) for item in items)])
        part = Dataset(dataset.name, items, dataset.read)
        labels = functools.partial(_labels_of, part)
        pictures.append(
            Picture(f"{dataset.name}/{name}", items[0].image, labels, stamp, source)
        )
    if not pictures:
        raise ValueError(f"{dataset.name}: no image can be trained on: {listed(left_out)}.")
    if left_out:
        logger.warning("%s: %d of %d images are left out: %s", dataset.name, len(left_out),
                       len(left_out) + len(pictures), listed(left_out))
    return pictures


def _labels_of(dataset: Dataset) -> np.ndarray:
    """(H, W) int32 labels of the objects of one image; smaller ones lie above larger ones."""
    items = dataset.items
    reads = getattr(dataset.read, "func", dataset.read)
    if reads is read_instance:  # all at once
        void = getattr(dataset.read, "keywords", {}).get("void", AUTO)
        stored = instance_labels(pixels(items[0]), void)
        wanted = np.isin(stored, [item.label for item in items])
        return from_label_map(np.where(wanted | (stored == IGNORE), stored, 0))
    masks = [dataset.load(i).mask for i in range(len(items))]
    labels = np.zeros(masks[0].shape, np.int32)
    for mask in masks:
        labels[mask == IGNORE] = IGNORE
    order = sorted(range(len(masks)), key=lambda i: -int((masks[i] == 1).sum()))
    for number in order:
        labels[masks[number] == 1] = number + 1
    return labels


# -- COCO --------------------------------------------------------------------------------------


def _coco(file: Path, images: str, source: int) -> list[Picture]:
    mask_functions()  # say now that pycocotools is missing
    if not file.is_file():
        raise ValueError(f"There is no file {file}.")
    folders = [Path(images).expanduser()] if images else image_folders(file)
    pictures, missing = [], []
    for image in read_coco(file):
        if not image.objects:
            continue
        path = image_file(folders, image.file_name)
        if path is None:
            missing.append(image.file_name)
            continue
        stamp = json.dumps([[o.segmentation, o.crowd] for o in image.objects])
        labels = functools.partial(CocoImage.label_map, image)
        pictures.append(Picture(f"{file.stem}/{image.file_name}", path, labels, stamp, source))
    if missing:
        raise ValueError(
            f"{file}: {len(missing)} of its images are not in {', '.join(map(str, folders))} "
            f"(the first is {missing[0]}). Name their folder: {file}=DIR."
        )
    if not pictures:
        raise ValueError(f"{file}: none of its images has an object.")
    return pictures
