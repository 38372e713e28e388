import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_gimp import doctor
from napari_gimp.doctor import Finding
from napari_gimp.slide.tiles import tile_cache


@pytest.mark.slow
def test_it_looks_at_everything_once_and_never_fails() -> None:
    findings = doctor.examine()
    names = [finding.name for finding in findings]

    assert len(set(names)) == len(names)
    assert {
        "Python",
        "packages",
        "Qt",
        "OpenGL",
        "GPU",
        "OpenSlide",
        "tile cache",
    } <= set(names)
    assert all(f.value for f in findings)
    assert all(f.remedy for f in findings if f.status != "ok")


def test_text_puts_the_remedy_below_its_finding() -> None:
    bad = Finding("Qt", "missing", "libGL.so.1 is absent", "apt-get install libgl1")

    lines = doctor.as_text([Finding("Python", "ok", "3.12"), bad]).splitlines()

    assert lines[1].startswith("  ok    Python")
    assert lines[2].startswith("MISSING Qt")
    assert lines[3].endswith("-> apt-get install libgl1")


def test_json_has_all_fields() -> None:
    (found,) = json.loads(
        doctor.as_json([Finding("disk", "warn", "1 GB", "free some")])
    )

    assert found == {
        "name": "disk",
        "status": "warn",
        "value": "1 GB",
        "remedy": "free some",
    }


def test_a_package_that_is_absent_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package-at-all"))

    finding = doctor._packages()

    assert finding.status == "missing"
    assert finding.value == "no no-such-package-at-all"
    assert finding.remedy.endswith("-m pip install no-such-package-at-all")


@pytest.fixture
def fresh_cache() -> Iterator[None]:
    """The budget is asked for once per process; here once per test."""
    tile_cache.cache_clear()
    yield
    tile_cache.cache_clear()


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize(
    ("stated", "status", "says"),
    [("700", "ok", "up to 700 MB"), ("much", "missing", "'much'"), ("", "ok", "MB")],
)
def test_the_tile_cache_is_told_with_who_set_it(
    monkeypatch: pytest.MonkeyPatch, stated: str, status: str, says: str
) -> None:
    monkeypatch.setenv("NAPARI_GIMP_CACHE_MB", stated)

    finding = doctor._tile_cache()

    assert finding.status == status
    assert says in finding.value
    assert bool(finding.remedy) is (status == "missing")


def test_a_probe_that_kills_its_process_is_only_a_finding() -> None:
    answer = doctor._probe("import os; os.abort()")

    assert not answer.ok
    assert answer.text


def test_a_probe_reports_the_reason_of_its_failure() -> None:
    answer = doctor._probe("import sys; sys.exit('libfoo.so is not there')")

    assert (answer.ok, answer.text) == (False, "libfoo.so is not there")


def test_opengl_is_not_tried_without_the_window_libraries() -> None:
    """Qt would end the process with an abort that explains nothing."""
    absent = Finding("window libraries", "missing", "no libxcb", "apt-get ...")

    finding = doctor._opengl(absent)

    assert finding.status == "missing"
    assert finding.remedy == absent.remedy


def test_a_gpu_that_lies_idle_says_why() -> None:
    no_cuda, old_driver = doctor._unused_gpu(None), doctor._unused_gpu("13.0")

    assert "built for the CPU only" in no_cuda.value
    assert "13.0" in old_driver.value
    assert no_cuda.status == old_driver.status == "warn"


def test_a_cache_folder_that_cannot_be_made_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_GIMP_CACHE", str(tmp_path / "file" / "cache"))

    finding = doctor._cache()

    assert finding.status == "missing"
    assert str(tmp_path) in finding.remedy
