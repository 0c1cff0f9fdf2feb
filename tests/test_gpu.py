"""The script for a real card, tried with a tiny model: every part leaves its lines."""

from tools import gpu


def test_it_writes_a_page_with_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "BATCH", 2)
    monkeypatch.setattr(gpu, "LENGTH", 16)
    monkeypatch.setattr(gpu, "PROMPTS", 2)
    monkeypatch.setattr(gpu, "BUDGET", 4)
    monkeypatch.setattr(gpu, "ATTENTION", ("eager", "no_such"))
    assert gpu.main(["--tiny", "--folder", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("gpu-*.md")
    text = path.read_text()
    for title in ("Speed and memory", "Attention", "Number formats"):
        assert f"## {title}" in text
    assert "| no_such | does not work:" in text
    assert "| float32 | 20 of 20 |" in text
    assert "Smoke recipe" not in text


def test_without_a_card_it_says_so(capsys):
    assert gpu.main([]) == 2
    assert "no GPU here" in capsys.readouterr().err
