"""``format: folders``: a folder of pictures and a folder of masks, matched by name."""

from __future__ import annotations

from pathlib import Path

from pixbox.config import FolderPair
from pixbox.data.findings import Findings
from pixbox.data.formats.pairing import below, find_folders, find_pairs, read_list
from pixbox.sample import Record


def read_records(root: Path, source: str | FolderPair, findings: Findings) -> list[Record]:
    """Pictures whose masks have the same name (and ``mask_suffix``), in natural order, or as ``ids`` lists them.

    A name ``train`` stands for ``train/images`` and ``train/masks``, or ``images/train`` and ``masks/train``.
    Folders within them are searched too; the path below the folder belongs to the name. Suffixes are
    compared without regard to case.

    Raises:
        DataError: folders or lists that are not there, or no picture.
    """
    if isinstance(source, str):
        images, masks = find_folders(root, (f"{source}/images", f"images/{source}"),
                                     (f"{source}/masks", f"masks/{source}"))  # fmt: skip
        return find_pairs(root, images, masks, findings)
    images, masks = find_folders(root, (source.images,), (source.masks,))
    only = None if source.ids is None else read_list(below(root, source.ids, str(root)))
    return find_pairs(root, images, masks, findings, mask_end=source.mask_suffix, only=only)
