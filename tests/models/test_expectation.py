"""What a checkpoint is needed for: the message says in what it differs, all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gimp_models.card import Card
from gimp_models.checkpoint import WEIGHTS, load, load_as, save
from gimp_models.errors import CheckpointError
from gimp_models.expectation import Expectation, differences, require
from gimp_models.gimp import Gimp
from hypothesis import given
from hypothesis import strategies as st

GENES = tuple(f"GENE{k}" for k in range(150))


@pytest.fixture
def card() -> Card:
    return Card(
        architecture="gimp",
        classes=("a", "b", "c"),
        genes=GENES,
        gene_mean=(0.0,) * 150,
        gene_sd=(1.0,) * 150,
        encoder={"name": "default", "fingerprint": "0123456789abcdef" * 2, "width": 12},
        sha256="f" * 64,
    )


def test_nothing_expected_is_always_met(card):
    assert differences(card, Expectation()) == ()


def test_a_card_meets_what_it_says_of_itself(card):
    names = ("architecture", "genes", "classes", "encoder", "patch_um", "mpp", "sha256")
    itself = Expectation(**{name: getattr(card, name) for name in names})
    assert differences(card, itself) == ()


def test_missing_and_extra_genes_are_counted_and_the_first_named(card):
    wanted = ("TP53", "ESR1", "MKI67", "CD8A", *GENES[:-1])
    missing, extra = differences(card, Expectation(genes=wanted))
    assert missing == "its genes lack 4 (TP53, ESR1, MKI67, ...) of 153"
    assert extra == "its genes have 1 (GENE149) more"


def test_the_same_genes_in_another_order_are_told_with_the_first_place(card):
    wanted = (GENES[0], GENES[2], GENES[1], *GENES[3:])
    (text,) = differences(card, Expectation(genes=wanted))
    assert "150 genes are in another order" in text
    assert "number 2 is GENE1, it must be GENE2" in text


def test_a_repeated_gene_is_no_equal_panel(card):
    (text,) = differences(card, Expectation(genes=(*GENES, GENES[-1])))
    assert "another order or repeated" in text


def test_another_encoder_is_told_by_name_fingerprint_and_width(card):
    encoder = {"name": "uni", "fingerprint": "fedcba9876543210" * 2, "width": 1024}
    texts = differences(card, Expectation(encoder=encoder))
    assert len(texts) == 3
    assert "its encoder name is default, it must be uni" in texts
    assert "0123456789ab..., it must be fedcba987654..." in texts[1]
    assert "its encoder width is 12, it must be 1024" in texts


def test_only_the_named_facts_of_an_encoder_count(card):
    assert differences(card, Expectation(encoder={"width": 12})) == ()


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (Expectation(architecture="mgi"), "its architecture is gimp, it must be mgi"),
        (Expectation(patch_um=256.0), "its patch_um is 128.0, it must be 256.0"),
        (Expectation(mpp=0.5), "its mpp is 1.0, it must be 0.5"),
        (Expectation(sha256="0" * 64), "its sha256 is ffffffffffff..., it must be 0"),
        (Expectation(classes=("a", "c", "b")), "classes are in another order"),
    ],
)
def test_each_point_is_told_with_both_values(card, expected, said):
    (text,) = differences(card, expected)
    assert said in text


def test_the_error_names_the_folder_and_everything_that_differs(card):
    expected = Expectation(mpp=0.5, genes=("X",), architecture="mgi")
    with pytest.raises(CheckpointError) as caught:
        require(card, expected, "models/mine")
    text = str(caught.value)
    for said in ("models/mine", "architecture", "mpp", "lack 1 (X)", "150 (GENE0"):
        assert said in text


@pytest.fixture
def folder(tmp_path, make_model, card):
    save(tmp_path / "model", make_model(), card)
    return tmp_path / "model"


def test_loading_refuses_before_it_reads_the_weights(folder):
    (folder / WEIGHTS).write_text("no weights at all")
    with pytest.raises(CheckpointError, match="its genes lack 1"):
        load(folder, expected=Expectation(genes=("X",)))


def test_loading_a_model_that_is_as_expected_goes_through(folder, card):
    expected = Expectation(architecture="gimp", genes=GENES, encoder=card.encoder)
    assert type(load_as(folder, Gimp, expected=expected).model) is Gimp


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.randoms())
def test_any_change_of_a_panel_is_noticed(genes, random):
    statistics = {"gene_mean": (0.0,) * len(genes), "gene_sd": (1.0,) * len(genes)}
    card = replace(Card(), genes=tuple(genes), **statistics)
    other = [*genes]
    random.shuffle(other)
    found = differences(card, Expectation(genes=other))
    assert bool(found) == (other != genes)
    assert differences(card, Expectation(genes=other[1:]))
