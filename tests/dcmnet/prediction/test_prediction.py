"""Predictions of many molecules: those of one, in order, exact in sum, and refused in time."""

import numpy as np
import pytest

from dcmnet.model.domain import elements_of_bias
from dcmnet.model.molecule import Structure
from dcmnet.prediction import InMemory, Predictor, open_structures, predict_arrays
from dcmnet.prediction import inputs as inputs_module
from dcmnet.prediction.predict import _Plan
from pipeline import ingest
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, SourceError
from tests.dcmnet.prediction.prediction_case import model, structure, structures, write_frames


def test_a_batch_gives_what_one_molecule_gives_in_the_order_given():
    some = structures(150)
    found = Predictor(model()).predict(some)
    assert [m.structure.name for m in found] == [s.name for s in some]
    for molecule in found[::50]:
        s = molecule.structure
        alone, places = model().predict(s.atomic_numbers, s.positions, s.total_charge)
        np.testing.assert_allclose(molecule.charges, alone.ravel(), atol=2e-5)
        np.testing.assert_allclose(molecule.charge_positions, places.reshape(-1, 3), atol=2e-5)


def test_charges_sum_to_the_net_charge_in_double_precision():
    for molecule in Predictor(model(4)).predict(structures(60, seed=1)):
        assert molecule.charges.dtype == np.float64
        assert molecule.charges.sum() == pytest.approx(molecule.structure.total_charge, abs=1e-12)
        assert molecule.monopoles.sum() == pytest.approx(molecule.structure.total_charge, abs=1e-12)


def test_many_sizes_compile_few_programs():
    predictor = Predictor(model())
    before = predictor._compiled[0]._cache_size()
    predictor.predict(structures(400, seed=2, most_atoms=25))
    assert predictor._compiled[0]._cache_size() - before <= 8


def test_a_molecule_far_away_has_the_same_charges():
    """Trap: single precision is coarse far from the origin."""
    here = structure()
    near = predict_arrays(model(), here.atomic_numbers, here.positions)
    far = predict_arrays(model(), here.atomic_numbers, here.positions + 1e4)
    np.testing.assert_allclose(far.charges, near.charges, atol=1e-5)
    np.testing.assert_allclose(far.displacements, near.displacements, atol=1e-5)


def test_windows_do_not_show(monkeypatch, tmp_path):
    some = structures(25, seed=3)
    path = write_frames(tmp_path / "many.xyz", some)
    predictor = Predictor(model())
    whole = predictor.predict(some)
    monkeypatch.setattr(inputs_module, "WINDOW", 4)
    source = open_structures(path)
    assert [len(window) for window in source.windows()] == [4] * 6 + [1]
    cut = list(predictor.run(source, predictor.survey(source)))
    for a, b in zip(whole, cut, strict=True):
        assert b.structure.name == a.structure.name
        assert b.structure.total_charge == a.structure.total_charge
        np.testing.assert_allclose(b.charges, a.charges, atol=2e-5)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path):
    path = write_frames(tmp_path / "a.xyz", structures(5))
    predictor, source = Predictor(model()), open_structures(path)
    survey = predictor.survey(source)
    write_frames(path, structures(4))
    with pytest.raises(SourceError, match="first read"):
        list(predictor.run(source, survey))


@pytest.mark.parametrize("source", sample_sources()[:2], ids=lambda path: path.stem)
def test_npz_of_any_convention_reads_as_its_store_does(source, tmp_path):
    store = tmp_path / "s.zarr"
    ingest([source], store)
    (stored,) = open_structures(store, with_esp=True).windows()
    read = [s for w in open_structures(source, with_esp=True).windows() for s in w]
    assert [s.name for s in read] == [s.name for s in stored]
    for a, b in zip(read, stored, strict=True):
        np.testing.assert_array_equal(a.atomic_numbers, b.atomic_numbers)
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.esp, b.esp)
        np.testing.assert_array_equal(a.grid, b.grid)
        assert (a.total_charge, a.charge_given) == (b.total_charge, b.charge_given)


def test_npz_of_atoms_alone_will_do_in_any_unit(tmp_path):
    s = structure("C6H6")
    np.savez(tmp_path / "a.npz", xyz=s.positions[None] / 0.529177, z=s.atomic_numbers[None])
    ((read,),) = open_structures(tmp_path / "a.npz").windows()
    np.testing.assert_allclose(read.positions, s.positions, atol=1e-5)
    assert not read.charge_given


def test_what_is_declared_of_an_npz_file_holds(tmp_path):
    """A lone atom has no bond to tell a unit by."""
    np.savez(tmp_path / "a.npz", R=np.ones((1, 1, 3)), Z=np.array([[8]]))
    with pytest.raises(AmbiguityError):
        open_structures(tmp_path / "a.npz")
    told = open_structures(tmp_path / "a.npz", declare={"unit.R": "bohr"})
    ((read,),) = told.windows()
    np.testing.assert_allclose(read.positions, 0.529177, atol=1e-6)


def test_elements_that_were_not_trained_on_are_named():
    silane = InMemory((structure("SiH4"),), place="silane.xyz")
    (warning,) = Predictor(model()).survey(silane).warnings
    assert "silane.xyz" in warning
    assert "n2 has not seen Si in training, only H, C, N, O" in warning
    with pytest.raises(SourceError, match="only H, C, N, O"):
        Predictor(model(), strict=True).survey(silane)
    assert not Predictor(model(), strict=True).survey(InMemory((structure(),))).warnings


def test_a_model_without_a_record_says_so():
    unknown = model(elements=None)
    (warning,) = Predictor(unknown).survey(InMemory((structure(),))).warnings
    assert "not on record" in warning
    with pytest.raises(SourceError, match="not on record"):
        Predictor(unknown, strict=True).survey(InMemory((structure(),)))


def test_a_published_model_tells_its_elements_by_what_training_moved():
    bias = np.zeros(18, np.float32)
    assert elements_of_bias(bias) is None
    bias[[1, 8]] = 0.1, -0.2
    assert elements_of_bias(bias) == {1, 8}


def test_a_net_charge_that_nobody_gives_is_said_to_be_assumed(tmp_path):
    path = write_frames(tmp_path / "a.xyz", structures(3), with_charge=False)
    (warning,) = Predictor(model()).survey(open_structures(path)).warnings
    assert "3 of 3 molecules give no net charge; 0 was assumed" in warning
    told = open_structures(path, total_charge=-1)
    assert not Predictor(model()).survey(told).warnings
    assert {s.total_charge for window in told.windows() for s in window} == {-1.0}


def test_a_periodic_frame_is_warned_of(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T T" charge=0\nO 0 0 0\n')
    (warning,) = Predictor(model()).survey(open_structures(path)).warnings
    assert "1 of 1 molecules are periodic" in warning


def test_a_large_molecule_does_not_take_the_memory_of_a_full_batch(monkeypatch):
    monkeypatch.setattr("dcmnet.prediction.predict._BATCH_PAIRS", 1000)
    some = [*structures(30, seed=6, most_atoms=4), *structures(1, seed=7), structure("C6H6")]
    predictor = Predictor(model())
    given = InMemory(tuple(some))
    sizes = predictor.survey(given).sizes(model().network.cutoff)
    assert _Plan.of(sizes).shapes[0].molecules < 10
    for found, alone in zip(predictor.predict(some)[::8], some[::8], strict=True):
        expected = predictor.predict([alone])[0]
        np.testing.assert_allclose(found.charges, expected.charges, atol=2e-5)


WATER = "O 0 0 0\nH 0 0 1\nH 0 1 0\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no molecules in it"),
        ("0\n\n", "has no atom"),
        ("hello\nworld\n", "'hello' where the number of atoms"),
        ("3\n\nO 0 0 0\nH 0 0 1\n", "ends after 3 of 4 lines of frame 0"),
        (f"3\n\n{WATER}3\n\nO 0 0 0\nH 0 0", "frame 1|frame 0"),
        ("1\n\nQq 0 0 0\n", "frame 0.*Qq.*no symbol of an element"),
        ("1\n\nX 0 0 0\n", "has no atom"),
        ("2\n\nO 0 0 nan\nH 0 0 1\n", "not finite for atom 0;"),
        ("2\n\nO 0 0 0\nH 0 0 1e300\n", "positions are not finite"),
        ("1\n\nO 0 0 inf\n", "positions are not finite"),
        ("1\n\nO 0 x 0\n", "frame 0.*float"),
        ("2\n\nO 1 2 3\nO 1 2 3\n", "atom 0.*atom 1.*are 0.000 Å apart"),
        ("3\n\nO 0 0 0\nH 1 0 0\nH 1 0 0.1\n", "0.100 Å apart"),
        (f"3\ncharge=minus\n{WATER}", "net charge is not clear"),
        (f"3\ncharge -1\n{WATER}", "net charge is not clear"),
        (f"3\ncharge=nan\n{WATER}", "net charge is not clear"),
        (f"3\ncharge=11\n{WATER}", "\\+11 e, more than the \\+10 e of its bare nuclei"),
        (f"3\ncharge=0 total_charge=1\n{WATER}", "charge=0, total_charge=1"),
    ],
)
def test_a_hostile_file_is_refused_before_any_network_runs(tmp_path, text, named):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(SourceError, match=named):
        Predictor(model()).survey(open_structures(path))


@pytest.mark.parametrize("comment", ["charge=-1", "total_charge=-1.0", 'charge="-1" name=x'])
def test_a_plain_comment_line_can_give_the_charge(tmp_path, comment):
    path = tmp_path / "a.xyz"
    path.write_text(f"3\n{comment}\n{WATER}")
    ((read,),) = open_structures(path).windows()
    assert (read.total_charge, read.charge_given) == (-1.0, True)


def test_all_problems_of_a_file_are_told_at_once_and_not_too_many(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("1\n\nO 0 0 nan\n" * 3 + f"3\n\n{WATER}")
    with pytest.raises(SourceError) as refused:
        Predictor(model()).survey(open_structures(path))
    assert [p.place.rsplit(", ", 1)[1] for p in refused.value.problems] == [
        f"frame {i}" for i in range(3)
    ]
    path.write_text("1\n\nO 0 0 nan\n" * 500)
    with pytest.raises(SourceError) as refused:
        Predictor(model()).survey(open_structures(path))
    assert len(refused.value.problems) < 30


@pytest.mark.parametrize("name", ["none.xyz", "none", "a.pdb"])
def test_what_is_no_molecule_is_refused(tmp_path, name):
    (tmp_path / "a.pdb").write_text("ATOM\n")
    with pytest.raises(SourceError, match=r"a store, files \(\.npz"):
        open_structures(tmp_path / name)


@pytest.mark.parametrize(
    ("numbers", "positions"),
    [
        ([8, 1], [[0.0, 0, 0]]),
        ([[8]], [[0.0, 0, 0]]),
        ([8.5], [[0.0, 0, 0]]),
        ([8], [0.0, 0, 0]),
        ("O", [[0.0, 0, 0]]),
        ([8], [["here", 0, 0]]),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(numbers, positions):
    with pytest.raises(SourceError, match=r"positions \(a, 3\)"):
        Structure.of_arrays(numbers, positions)
