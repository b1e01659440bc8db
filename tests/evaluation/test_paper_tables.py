"""The transcribed tables, and measured figures beside them."""

import os
from pathlib import Path

import pytest
import yaml

from fdrn_adapter import zoo
from fdrn_adapter.evaluation.reports import paper

TABLES = {table.number: table for table in paper.tables()}


def row(number, title, training=None):
    (found,) = [r for r in TABLES[number].rows if r.title == title and r.training == training]
    return found.values


def test_rows_columns_and_cells():
    counts = {
        number: (len(t.rows), len(t.columns), sum(v is not None for r in t.rows for v in r.values))
        for number, t in TABLES.items()
    }
    assert counts == {1: (26, 9, 215), 2: (13, 8, 80), 3: (8, 4, 32), 4: (8, 4, 32)}
    for table in TABLES.values():
        assert {len(r.values) for r in table.rows} == {len(table.columns)}
        assert len({(r.title, r.training) for r in table.rows}) == len(table.rows)
    by_data = [r.training for r in TABLES[1].rows]
    assert (by_data.count(None), by_data.count("SBD"), by_data.count("COCO+LVIS")) == (5, 10, 11)


def test_cells_read_off_the_paper():
    assert row(1, "Graph Cut")[2:4] == (7.98, 10.00)
    assert row(1, "Random Walker") == (None, None, 11.36, 13.77, 14.02, 12.22, 15.04, 16.71, 18.31)
    assert row(1, "Latent", "SBD")[4] is None  # "-" in the paper
    assert row(1, "RITM-hrnet18", "SBD")[5:7] == (3.39, 5.43)
    assert row(1, "Ours-B0-segformerB3*", "COCO+LVIS")[-4:] == (3.74, 5.57, 3.55, 4.90)
    assert row(2, "RITM-hrnet32") == (None, 30.95, None, 40.42, None, 1062, None, 50)
    assert row(2, "Ours-H1-hrnet18") == (1.45, 10.78, 4.11, 10.18, 182, 234, 9, 33)
    assert row(3, "Ours-H2-hrnet18s*") == (5.64, 7.95, 4.40, 5.86)
    assert row(4, "Ours-H2-hrnet18") == (5.24, 6.92, 7.90, 9.76)


def test_the_zoo_says_the_same():
    """Two transcriptions, made at different times."""
    keys = {key: i for i, key in enumerate(
        ["grabcut_85", "grabcut_90", "berkeley_90", "sbd_85", "sbd_90", "davis_85", "davis_90"], 2)}
    compared = 0
    for name in zoo.paper_names():
        entry = zoo.info(name)
        f1, f2 = entry.paper_encoder, entry.paper_network
        figures = []
        for field in ("params_m", "macs_g", "cpu_ms", "gpu_ms"):
            figures += [getattr(f1, field) if f1 else None, getattr(f2, field)]
        assert row(2, entry.title) == tuple(figures)
        for training, noc in entry.paper_noc.items():
            for key, value in noc.items():
                assert row(1, entry.title, training)[keys[key]] == value
                compared += 1
    assert compared > 80


@pytest.mark.skipif("FDRN_PAPER_TEXT" not in os.environ, reason="FDRN_PAPER_TEXT is not set")
def test_every_line_of_the_paper():
    """Every row's numbers, in order, are those of one line of the paper's text."""
    text = Path(os.environ["FDRN_PAPER_TEXT"]).read_text().replace("<b>", "").replace("</b>", "")
    lines = [[cell for cell in line.split("\t")] for line in text.splitlines() if "\t" in line]
    for table in TABLES.values():
        for r in table.rows:
            numbers = [v for v in r.values if v is not None]
            assert any(
                line[0].split(" [")[0] == r.title
                and [float(c) for c in line[1:] if c.replace(".", "", 1).isdigit()] == numbers
                and (r.training is None or r.training in line[3].replace(" [14]", "")
                     .replace(" [23]", "").replace("[23]", "").replace(" [13]", ""))
                for line in lines
            ), r


def run(model, dataset, protocol="noc", noc85=3.21, noc90=4.56, **more):
    return {"model": model, "dataset": dataset, "protocol": protocol, "engine": "torch",
            "threads": 2, "n_samples": 50, "noc": {"85": noc85, "90": noc90}, **more}


def lines(text, number, start):
    block = text.split("Table ")[number]
    return [line for line in block.splitlines() if line.startswith(start)]


def test_without_measurements_the_second_half_is_blank():
    text = paper.text(None)
    assert text == paper.text({"runs": []})
    assert [text.count(f"\nTable {n}. ") for n in (2, 3, 4)] == [1, 1, 1]
    (line,) = lines(text, 1, "Graph Cut ")
    assert " 7.98 /  " in line and "10.00 /  " in line and line.count(" /") == 7
    assert line.replace(" ", "").endswith("17.41/")


def test_measured_figures_stand_beside_the_papers():
    results = {"runs": [
        run("graphcut", "GrabCut", noc85=6.44, noc90=7.82), run("H2-hrnet18s", "GrabCut"),
        run("H2-hrnet18s", "GlaS", noc85=5.01), run("H2-hrnet18s", "SBD", "misleading", 4.44),
        run("H2-hrnet18s-star", "DAVIS", "misleading", 9.87),
    ]}
    text = paper.text(results)
    (line,) = lines(text, 1, "Graph Cut ")
    assert " 7.98 / 6.44 " in line and " 10.00 / 7.82 " in line
    (line,) = lines(text, 1, "Ours-H2-hrnet18s ")
    assert "1.46 / 3.21" in line and "1.66 / 4.56" in line and "2.23 /  " in line
    assert "4.44" not in line
    assert "4.83 / 4.44" in lines(text, 3, "Ours-H2-hrnet18s ")[0]
    assert "4.40 / 9.87" in lines(text, 3, "Ours-H2-hrnet18s*")[0]
    assert "9.87" not in lines(text, 3, "Ours-H2-hrnet18s ")[0]
    assert " 5.59 / 5.01 " in lines(text, 4, "Ours-H2-hrnet18s ")[0]
    assert "GrabCut 50 samples" in text


def test_speed_fills_table_2():
    speed = {"dataset": "-", "protocol": "speed", "engine": "torch", "threads": 2}
    text = paper.text({"runs": [
        {"model": "H2-hrnet18", "encode_ms": 243.4, "click_ms": 315.2, **speed},
        {"model": "RITM-hrnet32", "encode_ms": 0.0, "click_ms": 649.0, **speed},
        {"model": "H2-hrnet18", "encode_ms": 111.0, "click_ms": 122.0, **speed, "engine": "onnx"},
    ]})
    assert "311 / 243" in lines(text, 2, "Ours-H2-hrnet18 ")[0]
    assert " 234 / 315 " in lines(text, 2, "Ours-H2-hrnet18 ")[0]
    assert "1062 / 649" in lines(text, 2, "RITM-hrnet32")[0]
    assert " - /     " in lines(text, 2, "RITM-hrnet32")[0]
    (other,) = lines(text, 2, "H2-hrnet18 (onnx, 2 threads)")
    assert "- / 111" in other and "- / 122" in other


def test_models_and_datasets_the_paper_does_not_have():
    text = paper.text({"runs": [
        run("my.pth", "GrabCut", untrained=True), run("my.pth", "COCO_MVal"),
        {"model": "bare", "dataset": "GrabCut", "protocol": "noc"},
    ]})
    (line,) = lines(text, 1, "my.pth")
    assert "- / 3.21" in line
    assert text.index("Ours-B0-segformerB3*") < text.index("my.pth") < text.index("Table 2.")
    assert lines(text, 1, "bare") == [] and lines(text, 4, "my.pth") == []
    assert "not in the paper: COCO_MVal" in text and "Random weights" in text


def test_titles():
    assert paper.paper_title("graphcut") == "Graph Cut"
    assert paper.paper_title("H2-hrnet18s-star") == "Ours-H2-hrnet18s*"
    assert paper.paper_title("weights/H2-hrnet18s.pth") is None
    known = {r.title for t in TABLES.values() for r in t.rows}
    assert {paper.paper_title(n) for n in (*zoo.paper_names(), *paper.METHODS)} <= known


def test_the_yaml_is_what_is_installed():
    file = Path(paper.__file__).with_name("paper_tables.yaml")
    assert list(yaml.safe_load(file.read_text())) == ["table1", "table2", "table3", "table4"]
