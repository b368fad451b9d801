"""Volumes in the page: files of a series at once, slices, planes, windows, the whole volume and its mask."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from mpsams.datasets import phantom
from mpsams.datasets.phantom import files
from mpsams.imaging import geometry, nifti
from tests.support import made_volumes
from tests.support.browser import WAIT, browser, expect_shown, idle, open_details, page, pytestmark, upload  # noqa: F401


@pytest.fixture(scope="module")
def volume() -> phantom.Volume:
    """Seven slices of the T1 phantom, so that a whole volume takes seconds."""
    whole = phantom.brain_volume(1)
    middle = int(whole.mask_shw.sum(axis=(1, 2)).argmax())
    part = slice(middle - 3, middle + 4)
    return phantom.Volume(
        whole.voxels_shw[part], whole.mask_shw[part], whole.spacing, whole.modality, whole.title, whole.tilt
    )


def number(page, label: str):
    """The number field of a slider in the sidebar."""
    return page.locator("#side").get_by_role("spinbutton", name=label).first


def choose(page, paths) -> None:
    """Choose files in the sidebar, several at once."""
    page.locator("#own input[type=file]").first.set_input_files([str(path) for path in paths])


def test_a_dicom_series_is_opened_moved_through_and_looked_at_from_all_sides(page, volume, tmp_path):  # noqa: F811
    choose(page, files.dicom(volume, tmp_path))
    expect_shown(page, "axial slice 4 of 7", "#shown")
    expect_shown(page, "DICOM MR", "#shown")
    assert "Phantom^" not in page.content() and "ct-neck" not in page.locator("#main").inner_text()
    before = page.locator("#case-image").get_attribute("href")
    number(page, "Slice").fill("6")
    number(page, "Slice").press("Enter")
    expect_shown(page, "axial slice 6 of 7", "#shown")
    assert page.locator("#case-image").get_attribute("href") != before
    page.locator("#volume").get_by_text("Coronal").click()
    expect_shown(page, "coronal slice", "#shown")
    tall = page.locator("#shown svg").first.get_attribute("viewBox").split()
    height, width = 7 * volume.spacing[0] / volume.spacing[2], volume.voxels_shw.shape[2]
    assert float(tall[3]) / float(tall[2]) == pytest.approx(height / width, rel=1e-3)  # true proportions


def test_a_volume_of_thick_sagittal_slices_opens_in_them_and_says_so(page, tmp_path):  # noqa: F811
    choose(page, [made_volumes.spine(tmp_path / "spine.nii.gz")])
    expect_shown(page, "sagittal slice 7 of 12", "#shown")
    expect_shown(page, "Shown in the sagittal plane, in which it was acquired.", "#shown")
    assert page.locator("#volume").get_by_role("radio", name="Sagittal").is_checked()
    page.locator("#volume").get_by_text("Axial").click()
    expect_shown(page, "axial slice 21 of 40", "#shown")
    expect_shown(page, "Acquired in the sagittal plane.", "#shown")


def test_one_of_several_volumes_in_a_file_can_be_chosen_and_called_something_else(page, tmp_path):  # noqa: F811
    voxels = np.random.default_rng(0).integers(1, 900, (40, 44, 5, 3), dtype=np.int16)
    nibabel.Nifti1Image(voxels, np.diag([-1, -1, 4, 1])).to_filename(tmp_path / "four.nii.gz")
    choose(page, [tmp_path / "four.nii.gz"])
    expect_shown(page, "axial slice 3 of 5", "#shown")
    before = page.locator("#case-image").get_attribute("href")
    page.get_by_label("The upload holds several images").click()
    page.get_by_role("option", name="volume 2 of 3").click()
    page.wait_for_function(
        "before => document.querySelector('#case-image').getAttribute('href') !== before", arg=before, timeout=WAIT
    )
    open_details(page)
    page.locator("#image-details").get_by_text("CT", exact=True).click()
    expect_shown(page, "Your CT", "#shown")
    expect_shown(page, "Networks look at the framed part", "#shown")


def test_brightness_changes_what_is_shown_and_not_what_networks_see(page, volume, tmp_path):  # noqa: F811
    choose(page, [files.nifti(volume, tmp_path)])
    expect_shown(page, "axial slice 4 of 7", "#shown")
    before, clusters = (
        page.locator("#case-image").get_attribute("href"),
        page.locator("path.lesion").first.get_attribute("d"),
    )
    number(page, "Width").fill("200")
    number(page, "Width").press("Enter")
    page.wait_for_function(
        "before => document.querySelector('#case-image').getAttribute('href') !== before", arg=before, timeout=WAIT
    )
    idle(page)
    assert page.locator("path.lesion").first.get_attribute("d") == clusters


def test_the_whole_volume_is_segmented_and_its_mask_lies_on_the_grid_of_the_upload(page, volume, tmp_path):  # noqa: F811
    source = files.nifti(volume, tmp_path)
    choose(page, [source])
    expect_shown(page, "axial slice 4 of 7", "#shown")
    upload(page, files.nifti_mask(volume, tmp_path), -1)
    page.locator("#shown").get_by_text("true lesion outlined").wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Segment & compare").click()
    page.get_by_role("button", name="Segment the whole volume").click()
    expect_shown(page, "Lesion area by slice")
    expect_shown(page, "HD95")
    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download the mask (of the whole volume)").click()
    assert download.value.suggested_filename == "lesion-mask.nii.gz"
    download.value.save_as(tmp_path / "said.nii.gz")
    downloaded, stored = nifti.read(tmp_path / "said.nii.gz"), nifti.read(source)
    assert downloaded.voxels_xyz.shape == stored.voxels_xyz.shape and np.array_equal(downloaded.affine, stored.affine)
    assert geometry.radiological_view(downloaded.voxels_xyz, downloaded.affine).shape == volume.voxels_shw.shape
