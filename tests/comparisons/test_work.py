"""What comparisons measure is kept: a record with other settings takes the place of none."""

from pathlib import Path

from vdm.comparisons.work import read_measured, write_measured


def test_what_was_measured_with_other_settings_is_kept_and_found(tmp_path: Path) -> None:
    path, many, few = tmp_path / "heun-10.json", {"samples": 10_000}, {"samples": 8}
    for settings in (many, few, {"samples": 9}):
        assert read_measured(path, settings, ["mmd"]) is None
        write_measured(path, {"metrics": {"mmd": settings["samples"]}}, settings)
    for settings in (many, few, {"samples": 9}, many):
        found = read_measured(path, settings, ["mmd"])
        assert found is not None
        assert found["metrics"] == {"mmd": settings["samples"]}
        assert read_measured(path, settings, ["mmd", "fid"]) is None
    assert len(list(tmp_path.iterdir())) == 3
    # Measured again, as with another metric: the newer one counts.
    write_measured(path, {"metrics": {"mmd": 7, "fid": 1}}, many)
    again = read_measured(path, many, ["mmd", "fid"])
    assert again is not None
    assert again["metrics"]["mmd"] == 7


def test_samples_of_an_earlier_version_are_those_of_its_one_precision_and_no_guidance(tmp_path: Path) -> None:
    path, before = tmp_path / "heun-10.json", {"sampling": {"num": 8}, "seed": 0}
    write_measured(path, {"metrics": {"mmd": 1.5}}, before)

    def settings(**now: str) -> dict:
        of_then = {"precision": "tf32", "labels": None, "text": None, "guidance": "none", "guidance_batch": "auto"}
        return before | {"sampling": {"num": 8} | of_then | now}

    assert read_measured(path, settings(precision="bfloat16"), ["mmd"]) is None
    assert read_measured(path, settings(guidance="apg"), ["mmd"]) is None
    assert read_measured(path, settings(text="a round 3"), ["mmd"]) is None
    assert read_measured(path, settings(), ["mmd"]) is not None


def test_a_damaged_record_is_measured_again(tmp_path: Path) -> None:
    path, settings = tmp_path / "heun-10.json", {"samples": 8}
    write_measured(path, {"metrics": {"mmd": 1.5}}, settings)
    path.write_text(path.read_text().replace("1.5", "1.25"))
    assert read_measured(path, settings, ["mmd"]) is None
    write_measured(path, {"metrics": {"mmd": 1.5}}, settings)
    assert read_measured(path, settings, ["mmd"]) is not None
