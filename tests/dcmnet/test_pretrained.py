"""Models in the box: what is released loads and predicts; what was changed is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from dcmnet import load_model
from dcmnet.analysis import analyze
from dcmnet.analysis.comparison import compare
from dcmnet.analysis.figures.comparison import comparison_figure
from dcmnet.cli import app
from dcmnet.model.domain import Domain
from dcmnet.model.molecule import problems_of
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction import InMemory, Predictor, predict_arrays
from dcmnet.pretrained import DEFAULT, load_pretrained, pretrained_names, read_card
from dcmnet.pretrained.box import BOX, packed
from recipes.cards import PAGE, written
from store_schema.problems import CheckpointError, ConfigError, SourceError
from tests.dcmnet.prediction.prediction_case import structure
from tests.experiments import copy

NAMES = pretrained_names()
MOST_BYTES = 3 * 2**20


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return load_model(request.param)


def test_the_box_holds_one_two_and_four_charges_per_atom_in_three_megabytes():
    assert NAMES == ("dcm1", "dcm2", "dcm4")
    assert DEFAULT in NAMES
    assert [read_card(name).model.n_dcm for name in NAMES] == [1, 2, 4]
    assert sum(path.stat().st_size for path in BOX.iterdir()) <= MOST_BYTES


def test_a_model_has_an_ensemble_and_says_what_it_saw(model):
    card = read_card(model.name)
    assert len(model.ensemble) + 1 == card.n_members >= 3
    assert {1, 6, 7, 8, 9, 16, 17} == model.elements
    assert model.domain.total_charges == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(("name", "charge"), [("CH3OH", 0), ("OH", -1), ("CH3SH", 0), ("HCO", 1)])
def test_charges_sum_to_the_net_charge_and_stay_near_their_atoms(model, name, charge):
    (molecule,) = Predictor(model).predict([structure(name, float(charge))])
    assert molecule.charges.sum() == pytest.approx(charge, abs=1e-12)
    assert np.linalg.norm(molecule.displacements, axis=1).max() < 0.9  # inside of any atom
    assert 0 < molecule.uncertainty < 10


def test_water_has_the_dipole_that_is_measured(model):
    """1.85 D, to 15 %: a model of one geometry at one level of theory."""
    (water,) = Predictor(model).predict([structure("H2O")])
    assert np.linalg.norm(water.dipole) / 0.20819434 == pytest.approx(1.85, rel=0.15)


# Of a bond's length; nearer than 0.5 of the covalent radii, atoms are refused.
SCALES = (0.6, 0.7, 0.8, 1.0, 1.3, 1.6, 2.0)
BONDS = {"H2O": (0, 1), "CH4": (0, 1), "HCN": (0, 1), "N2": (0, 1), "CH3Cl": (0, 1), "SH2": (0, 1)}


def test_no_network_gives_large_charges_to_a_bond_that_is_pressed_or_torn(model):
    """Each network of an ensemble; without such geometries in training, charges were 1e5 e."""
    stretched = []
    for name, (first, second) in BONDS.items():
        usual = structure(name)
        bond = usual.positions[second] - usual.positions[first]
        for scale in SCALES:
            positions = usual.positions.copy()
            positions[second] = positions[first] + scale * bond
            stretched.append(dataclasses.replace(usual, positions=positions))
    stretched = [s for s in stretched if not problems_of(s, model.config.max_atomic_number)]
    assert len(stretched) > 0.9 * len(BONDS) * len(SCALES)
    for params in (model.params, *model.ensemble):
        alone = TrainedModel(model.config, params, domain=model.domain)
        for molecule in Predictor(alone).predict(stretched):
            assert np.abs(molecule.monopoles).max() < 2.0


def test_displaced_geometries_have_charges_of_usual_size(model, rng):
    usual = [structure(name) for name in ("H2O", "CH3OH", "C4H4S", "CH3NO2") * 8]
    moved = [
        dataclasses.replace(s, positions=s.positions + rng.normal(scale=0.15, size=(s.n_atoms, 3)))
        for s in usual
    ]
    moved = [s for s in moved if not problems_of(s, model.config.max_atomic_number)]
    assert len(moved) > len(usual) / 2
    for molecule in Predictor(model).predict(moved):
        assert np.abs(molecule.monopoles).max() < 1.5
        assert molecule.uncertainty < 10


def test_turning_a_molecule_turns_its_charges(model, rng):
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    still = structure("CH3CONH2")
    turned = dataclasses.replace(still, positions=still.positions @ turn)
    before, after = Predictor(model).predict([still, turned])
    np.testing.assert_allclose(after.charges, before.charges, atol=2e-5)
    np.testing.assert_allclose(after.displacements, before.displacements @ turn, atol=2e-5)


def test_what_it_has_not_seen_is_said_and_refused_when_strict(model):
    strange = [structure("SiH4"), structure("CH3OH", 3.0)]
    for molecule, what in zip(strange, ("Si", r"\+3"), strict=True):
        survey = Predictor(model).survey(InMemory((molecule,)))
        assert any(what.strip("\\") in warning for warning in survey.warnings)
        with pytest.raises(SourceError, match=what):
            Predictor(model, strict=True).predict([molecule])


def test_the_molecules_that_it_has_not_seen_are_named(model):
    molecules = [structure(name) for name in ("CH3OH", "SiH4", "H2O", "Si2H6")]
    (said,) = Predictor(model).survey(InMemory(tuple(molecules))).warnings
    assert "only H, C, N, O, F, S, Cl (molecules beyond that: SiH4, Si2H6)" in said


def test_an_error_to_expect_beyond_the_tests_is_refused_when_strict(model):
    methanol = structure("CH3OH")
    pressed = dataclasses.replace(methanol, positions=0.5 * methanol.positions)
    (found,) = Predictor(model).predict([pressed])
    assert found.uncertainty > model.calibration.limit
    with pytest.raises(SourceError, match="the error of its ESP to expect is"):
        Predictor(model, strict=True).predict([pressed])
    Predictor(model, strict=True).predict([methanol])


def test_a_name_means_the_box_and_a_path_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).mkdir()
    assert load_model(DEFAULT).ensemble
    with pytest.raises(ConfigError, match="config"):
        load_model(f"./{DEFAULT}")


def test_arrays_beyond_the_training_are_warned_of(model):
    with pytest.warns(UserWarning, match="has not seen U in training"):
        predict_arrays(model, [92, 1], [[0.0, 0, 0], [0, 0, 2.0]])
    with pytest.warns(UserWarning, match=r"has not seen net charges \+3"):
        predict_arrays(model, [8], [[0.0, 0, 0]], total_charge=3)


def test_domains_add_up_and_say_what_is_beyond():
    methanol, silane = Domain.of(structure("CH3OH")), Domain.of(structure("SiH4", 1.0))
    both = methanol | silane
    assert both == Domain(frozenset({1, 6, 8, 14}), frozenset({0.0, 1.0}), 6, radicals=True)
    assert not list(methanol.beyond(both))
    assert [beyond.new for beyond in both.beyond(methanol)] == [
        "Si",
        "net charges +1",
        "odd numbers of electrons",
    ]
    assert not list(both.beyond(Domain()))


@pytest.mark.parametrize("damage", ["weights", "card", "gone"])
def test_changed_files_are_refused(tmp_path, damage):
    for path in BOX.glob(f"{DEFAULT}.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights, card = (tmp_path / f"{DEFAULT}.{kind}" for kind in ("safetensors", "json"))
    if damage == "weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "card":
        card.write_text(json.dumps({**json.loads(card.read_text()), "elements": ["Xx"]}))
    else:
        weights.unlink()
    with pytest.raises(CheckpointError, match=DEFAULT):
        load_pretrained(DEFAULT, tmp_path)


def test_weights_come_back_as_they_were(model):
    from safetensors.numpy import load

    flat = load(packed([model.params, *model.ensemble]))
    assert len(flat) == (1 + len(model.ensemble)) * len(jax.tree.leaves(model.params))


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(CheckpointError, match="dcm1, dcm2, dcm4"):
        read_card("dcm3")


def test_commands_list_the_box_and_predict_without_an_experiment(tmp_path):
    run = CliRunner().invoke
    listed = run(app, ["models"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in NAMES)
    shown = run(app, ["models", "dcm4"])
    assert "Not for" in shown.output
    assert "Trained on" in shown.output
    water = tmp_path / "water.xyz"
    water.write_text("3\ncharge=0\nO 0 0 0.1\nH 0.76 0 -0.48\nH -0.76 0 -0.48\n")
    out = tmp_path / "charges.xyz"
    predicted = run(app, ["predict", str(water), "--out", str(out)])
    assert predicted.exit_code == 0, predicted.output
    assert "ESP error to expect" in predicted.output
    assert "esp_uncertainty=" in out.read_text()
    twice = run(app, ["predict", "dcm2", str(water), "--model", "dcm4", "--out", str(out)])
    assert twice.exit_code == 2
    for inputs, said in (
        ([str(water), str(water)], "one INPUT"),
        (["CCO", "CO"], "CCO is a SMILES"),
        (["dcm2"], "dcm2 is a model"),
    ):
        mistaken = run(app, ["predict", *inputs, "--out", str(out)], env={"COLUMNS": "200"})
        assert (mistaken.exit_code, said in mistaken.output) == (2, True)
    again = tmp_path / "again.xyz"  # from what was written, whose charges are sites
    repeated = run(app, ["predict", str(out), "--out", str(again)])
    assert repeated.exit_code == 0, repeated.output
    assert again.read_text() == out.read_text()


@pytest.mark.parametrize("words", [["models"], *(["models", name] for name in NAMES)])
def test_no_number_of_a_card_is_cut_off_in_a_terminal(words):
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "80"}).output
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_a_card_says_what_the_training_was_like(model):
    for part in read_card(model.name).training:
        assert set(part.by_element) <= set(read_card(model.name).elements)
        assert sum(part.by_charge.values()) == sum(part.by_size.values()) == part.n_molecules
        assert part.n_molecules - part.by_charge["0"] == part.n_ions
        assert max(part.by_element.values()) <= part.n_molecules


def test_the_cards_are_one_json_document():
    listed = CliRunner().invoke(app, ["models", "--json"])
    assert [card["name"] for card in json.loads(listed.output)] == list(NAMES)
    shown = CliRunner().invoke(app, ["models", "dcm2", "--json"])
    assert json.loads(shown.output)["name"] == "dcm2"


def test_a_model_in_the_box_has_no_checkpoints():
    with pytest.raises(CheckpointError, match="'latest'"):
        load_model("dcm2", "latest")


def test_a_model_in_the_box_is_analysed_and_compared_on_any_store(small_store, tmp_path):
    store = copy(small_store, tmp_path / "own.zarr")
    with pytest.raises(ConfigError, match="--store"):
        analyze(DEFAULT)
    found = analyze(DEFAULT, store=store, split="all")
    assert found.results == f"results/{DEFAULT}"
    assert not found.files
    errors = found.statistics.molecules["all"]["all"]
    assert errors["esp_rmse"].mean < errors["esp_rmse_monopoles"].mean
    comparison = compare(["dcm1", "dcm4"], store=store, split="all")
    assert list(comparison.summary.index) == ["dcm1", "dcm4"]
    assert comparison.summary["n_dcm"].tolist() == [1, 4]
    *_, by_number = comparison_figure(comparison).axes
    assert by_number.get_xlabel() == "charges per atom"
    with pytest.raises(ConfigError, match="--store"):
        compare(["dcm1", "dcm4"])


def test_the_page_has_the_numbers_of_the_cards():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page


def test_what_is_no_experiment_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"dcm9: there is no experiment here.*dcm1, dcm2, dcm4"):
        load_model("dcm9")
    refused = CliRunner().invoke(app, ["report", "dcm2"])
    assert "dcm2: this is a model in the box" in str(refused.exception)
    assert not list(tmp_path.iterdir())
