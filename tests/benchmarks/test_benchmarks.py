"""`python -m benchmarks` lists what there is and runs it."""

import pytest

from benchmarks.__main__ import MEASUREMENTS, STUDIES, main


def test_the_list_has_every_study_and_measurement_with_what_it_asks(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in STUDIES | MEASUREMENTS:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert len(line.split()) > 3


def test_a_name_that_is_almost_right_is_an_error_with_the_right_one(capsys):
    assert main(["numerics"]) == 2
    assert "did you mean numerical" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*STUDIES, *MEASUREMENTS])
def test_each_explains_its_options(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"python -m benchmarks {name}" in capsys.readouterr().out or name in MEASUREMENTS


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_takes_the_same_options(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--quick", "--seeds", "--out"))
