"""The singular values of one layer as a picture."""

from srr_core.report import LayerSpectrum
from srr_core.telling.spectrum_picture import spectrum_picture
from tests.srr_core.telling.reports import layer

SPECTRUM = LayerSpectrum(weight=(0.6, 0.2, 0.05), error=(0.03, 0.02))


def test_each_value_is_a_mark_with_its_number() -> None:
    picture = spectrum_picture(layer("a", preserved_rank=2, spectrum=SPECTRUM))

    assert picture is not None
    assert picture.drawing.count("<circle") == 5
    assert picture.rows == (("1", "0.6", "0.03"), ("2", "0.2", "0.02"), ("3", "0.05", ""))
    assert "k = 2" in picture.drawing
    assert "fall from 0.6 to 0.05" in picture.alt


def test_larger_values_lie_further_up() -> None:
    picture = spectrum_picture(layer("a", spectrum=SPECTRUM))

    assert picture is not None
    heights = [float(part.split('cy="')[1].split('"')[0]) for part in picture.drawing.split("<circle")[1:4]]
    assert heights == sorted(heights)


def test_a_layer_without_values_has_no_picture() -> None:
    assert spectrum_picture(layer("a")) is None
    assert spectrum_picture(layer("a", spectrum=LayerSpectrum(weight=(0.0,), error=()))) is None


def test_a_name_of_a_stranger_is_escaped() -> None:
    picture = spectrum_picture(layer("<script>", spectrum=SPECTRUM))

    assert picture is not None
    assert "<script>" not in picture.svg()
