from pathlib import Path

import pytest

from digitsum.files import replacing


def test_replacing_writes_the_whole_file_and_its_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("content")
        assert not (tmp_path / "new" / "file").exists()
    assert (tmp_path / "new" / "file").read_text() == "content"
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "file"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_replacing_interrupted_leaves_the_old_file(tmp_path: Path, interruption: type[BaseException]) -> None:
    (tmp_path / "file").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half of the n")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert (tmp_path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
