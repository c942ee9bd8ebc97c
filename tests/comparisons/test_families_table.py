"""The tables of compare.py --by=family, of outcomes that are made up."""

from families import METRICS, outcomes

from vdm.comparisons.families.members import members
from vdm.comparisons.families.settings import FamiliesSettings
from vdm.comparisons.families.table import markdown


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_cell_is_the_mean_and_the_deviation_over_seeds() -> None:
    lines = markdown(outcomes(), METRICS, {"mmd": 1e-4}, 100).splitlines()
    titles, vae = cells(lines[0]), cells(lines[2])
    # Of 2 and 3: 2.5 and √½.
    assert vae[titles.index("bound, bits/dim")] == "2.500 ± 0.707"
    assert vae[titles.index("importance-weighted, 100 draws")] == "2.375 ± 0.707"
    assert vae[titles.index("1000 MMD² of z_T")] == "125.00 ± 0.00"
    assert vae[titles.index("parameters")] == "1,234 ± 0"
    assert any(title.endswith("z_T of the prior (noise floor 0.10)") for title in titles), titles


def test_what_a_model_does_not_have_is_left_empty() -> None:
    lines = markdown(outcomes(), METRICS, {"mmd": 1e-4}, 100).splitlines()
    titles, vdm = cells(lines[0]), cells(lines[4])
    assert vdm[0] == "VDM, T = ∞"
    assert vdm[titles.index("active units")] == vdm[titles.index("importance-weighted, 100 draws")] == ""


def test_layers_have_a_table_of_their_own() -> None:
    lines = markdown(outcomes(), METRICS, {"mmd": 1e-4}, 100).splitlines()
    start = lines.index("") + 1
    assert cells(lines[start])[1:] == ["layer 1", "layer 2"]
    by_name = {cells(line)[0]: cells(line)[1:] for line in lines[start + 2 :]}
    assert by_name["VAE, T = 1"] == ["0.250 ± 0.000 (2.0 ± 0.0)", ""]
    assert by_name["HVAE, bottom-up, T = 2"] == ["0.250 ± 0.000 (2.0 ± 0.0)"] * 2
    assert "VDM, T = ∞" not in by_name


def test_members_have_folders_of_their_own() -> None:
    folders = [member.folder for member in members(FamiliesSettings(depths=(2, 3)))]
    assert len(set(folders)) == len(folders) == 1 + 4 + 3
