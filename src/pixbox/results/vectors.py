"""Regions and boxes as the documents that other programs read: COCO and GeoJSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.labels import LabelMap
from pixbox.results.outlines import Corners, Region
from pixbox.sample import Georeference


def coco_document(
    file_name: str,
    size_hw: tuple[int, int],
    regions: Sequence[Region],
    parts: Sequence[Sequence[Corners]],
    labels: LabelMap,
) -> dict[str, Any]:
    """COCO's description of one picture: ``images``, ``annotations`` (one a region), ``categories`` (ids from 1).

    ``parts`` are the polygons of each region; COCO's have no holes. ``area`` is in pixels, ``bbox`` (x, y, width,
    height).
    """
    annotations = []
    for number, (region, polygons) in enumerate(zip(regions, parts, strict=True), start=1):
        (left, top), (right, bottom) = region.outline.min(axis=0).tolist(), region.outline.max(axis=0).tolist()
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": region.index + 1,
                "segmentation": [polygon.ravel().tolist() for polygon in polygons],
                "bbox": [left, top, right - left, bottom - top],
                "area": region.pixels,
                "iscrowd": 0,
            }
        )
    return {
        "images": [{"id": 1, "file_name": file_name, "height": size_hw[0], "width": size_hw[1]}],
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(labels.names, start=1)],
    }


def polygon_feature(
    rings_xy: Iterable[NDArray[Any]], properties: dict[str, Any], georeference: Georeference | None
) -> dict[str, Any]:
    """A GeoJSON feature with one polygon: its outline first, then its holes.

    The rings are (K, 2) corners in pixels of the picture, outlines with positive area in x and y, holes with negative.
    On the map they are rounded to a thousandth of a pixel.
    """
    rings = [np.concatenate([ring, ring[:1]]) for ring in rings_xy]
    if georeference is not None:
        decimals = max(0, 3 - math.floor(math.log10(abs(georeference.determinant)) / 2))
        # Outlines go counter-clockwise by the standard; a map whose y runs up turns them round.
        turn = -1 if georeference.determinant < 0 else 1
        rings = [georeference.to_map(ring)[::turn].round(decimals) for ring in rings]
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]},
    }


def feature_collection(features: list[dict[str, Any]], georeference: Georeference | None) -> dict[str, Any]:
    """A GeoJSON document. Its ``crs`` is that of GeoJSON before RFC 7946, which GDAL and QGIS still read.

    Without a georeference the coordinates are pixels, column and row from the upper left corner, and there is no
    ``crs``.
    """
    document: dict[str, Any] = {"type": "FeatureCollection"}
    if georeference is not None:
        document["crs"] = {"type": "name", "properties": {"name": _crs_name(georeference.crs)}}
    return document | {"features": features}


def _crs_name(crs: str) -> str:
    if crs == "EPSG:4326":
        # Longitude first, as the coordinates are; by its own definition EPSG:4326 begins with the latitude.
        return "urn:ogc:def:crs:OGC:1.3:CRS84"
    return f"urn:ogc:def:crs:EPSG::{crs.removeprefix('EPSG:')}" if crs.startswith("EPSG:") else crs
