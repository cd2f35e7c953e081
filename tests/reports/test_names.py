"""What is handed on shows no folders of the machine."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.reports.drawing.names import file_name, is_absolute, short_names

PART = st.text("ab1. ", min_size=1, max_size=3).filter(lambda part: part.strip(". "))
PATHS = st.lists(PART, min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "C:\\" + "\\".join(parts), "/".join(parts)])
)


def test_whole_paths_of_every_system() -> None:
    assert [is_absolute(p) for p in ("/a/b", "C:\\a", "\\\\server\\a", "a/b", "a.svs")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert [file_name(p) for p in ("/a/b.svs", "C:\\a\\b.svs", "b.svs", "a/", "/")] == [
        "b.svs",
        "b.svs",
        "b.svs",
        "a",
        "/",
    ]


@given(st.lists(PATHS, max_size=6, unique=True))
@settings(max_examples=100)
def test_names_tell_images_apart_and_end_as_they_do(paths: list[str]) -> None:
    shown = short_names(paths)
    assert list(shown) == paths
    plain = [path.replace("\\", "/").strip("/") for path in paths]
    if len(set(plain)) == len(plain):
        assert len(set(shown.values())) == len(paths)
    for path, name in shown.items():
        assert path.replace("\\", "/").endswith(name.replace("\\", "/"))


def test_no_folder_is_shown_that_is_not_needed() -> None:
    assert short_names(["/srv/patients/1.svs", "/srv/patients/2.svs"]) == {
        "/srv/patients/1.svs": "1.svs", "/srv/patients/2.svs": "2.svs",
    }  # fmt: skip
