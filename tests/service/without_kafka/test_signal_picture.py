import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from ingest.messages.decode import Readings
from service.without_kafka.classify import Label, LabelledReadings
from service.without_kafka.files import ClassifyError
from service.without_kafka.signal_picture import PALETTE, draw, refuse_unwritable, save_picture, spans
from tests.service.walks import START_MS, walk
from tests.windowing.streams import spell

NAMES = ("Jogging", "Sitting", "Walking")


def label(device: str, start_s: float, activity: str, confidence: float = 0.9) -> Label:
    start = START_MS + round(1000 * start_s)
    return Label(b"", {"device_id": device, "window_start": start, "activity": activity, "confidence": confidence})


def labelled(*labels: Label, devices: int = 1, hole: tuple[float, float] = (0, 0)) -> LabelledReadings:
    walks = [walk(20, seed=seed, hole=hole) for seed in range(devices)]
    ids = [f"phone-{number}".encode() for number in range(devices)]
    t_ms, xyz = (np.concatenate(column) for column in zip(*walks, strict=True))
    spelled = spell([device for device, (t_ms, _) in zip(ids, walks, strict=True) for _ in t_ms])
    return LabelledReadings(Readings(*spelled, t_ms, xyz, np.arange(len(t_ms), dtype=np.int32)), list(labels), NAMES)


def test_a_label_holds_for_the_stride_around_the_middle_of_its_window() -> None:
    assert spans([label("a", 3.25, "Walking")], START_MS) == {"Walking": [(4.25, 2.0)]}


def test_windows_that_adjoin_and_agree_are_one_span() -> None:
    labels = [label("a", 2 * number, name) for number, name in enumerate(["Walking"] * 3 + ["Sitting"] + ["Walking"])]
    assert spans(labels, START_MS) == {"Walking": [(1.0, 6.0), (9.0, 2.0)], "Sitting": [(7.0, 2.0)]}


def test_a_window_that_is_missing_leaves_its_stride_uncoloured() -> None:
    labels = [label("a", 0, "Walking"), label("a", 4, "Walking")]
    assert spans(labels, START_MS) == {"Walking": [(1.0, 2.0), (5.0, 2.0)]}


def test_the_signal_is_drawn_over_its_labels_colours() -> None:
    labels = [label("phone-0", 0, "Walking", 0.75), label("phone-0", 2, "Sitting", 0.5)]
    signal, confidence = draw(labelled(*labels), 250).axes
    assert [str(line.get_label()) for line in signal.lines] == ["x", "y", "z"]
    t_ms, xyz = walk(20)
    np.testing.assert_allclose(np.asarray(signal.lines[1].get_xdata()), (t_ms - t_ms[0]) / 1000)
    np.testing.assert_allclose(np.asarray(signal.lines[1].get_ydata()), xyz[:, 1])
    coloured = {str(spans.get_label()): spans for spans in signal.collections}
    assert list(coloured) == ["Sitting", "Walking"]
    first = (START_MS - t_ms[0]) / 1000 + 1
    box = coloured["Walking"].get_paths()[0].get_extents()
    assert (box.x0, box.x1) == pytest.approx((first, first + 2))
    (dots,) = [each for each in confidence.collections if isinstance(each, PathCollection)]
    np.testing.assert_allclose(np.asarray(dots.get_offsets()), np.array([(first + 1, 0.75), (first + 3, 0.5)]))
    assert [to_hex(colour) for colour in np.asarray(dots.get_facecolor())] == [PALETTE[2], PALETTE[1]]
    assert confidence.get_ylabel() == "confidence"


def test_no_line_is_drawn_across_a_hole() -> None:
    signal = draw(labelled(label("phone-0", 0, "Walking"), hole=(9, 11)), 250).axes[0]
    seconds = np.asarray(signal.lines[0].get_xdata(), float)
    assert np.isnan(seconds).sum() == 1
    assert np.nanmax(np.diff(seconds)) < 0.25


def test_each_device_has_its_panels() -> None:
    labels = [label("phone-0", 0, "Walking"), label("phone-1", 0, "Sitting")]
    panels = draw(labelled(*labels, devices=2), 250).axes
    assert [panel.get_title() for panel in panels] == ["phone-0", "", "phone-1", ""]
    assert [str(panels[2 * device].collections[0].get_label()) for device in range(2)] == ["Walking", "Sitting"]


def test_one_device_needs_no_name() -> None:
    assert [panel.get_title() for panel in draw(labelled(label("phone-0", 0, "Walking")), 250).axes] == ["", ""]


def test_more_devices_than_a_picture_has_room_for_are_refused() -> None:
    with pytest.raises(ClassifyError, match="a picture has room for 6 devices, and there are 7"):
        draw(labelled(label("phone-0", 0, "Walking"), devices=7), 250)


def test_a_path_is_tried_without_a_trace(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new.png")
    assert not (tmp_path / "new.png").exists()
    (tmp_path / "old.png").write_bytes(b"old")
    refuse_unwritable(tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"old"
    for path in (tmp_path, tmp_path / "no/p.png", tmp_path / ("p" * 300)):
        with pytest.raises(ClassifyError, match=r"^cannot write .*: [A-Z]"):
            refuse_unwritable(path)


def test_more_labels_than_colours_begin_again(tmp_path: Path) -> None:
    names = tuple(f"label {number}" for number in range(9))
    shown = labelled(*(label("phone-0", 2 * number, name) for number, name in enumerate(names)))
    signal = draw(dataclasses.replace(shown, names=names), 250).axes[0]
    colours = {str(bars.get_label()): to_hex(np.asarray(bars.get_facecolor())[0]) for bars in signal.collections}
    assert [colours[name] for name in names] == [*PALETTE, *PALETTE[:2]]


def test_a_device_with_a_hostile_name_and_without_a_window_is_drawn_too(tmp_path: Path) -> None:
    shown = labelled()
    name = spell([b"$\\frac{\x07"] * len(shown.readings.record))
    hostile = dataclasses.replace(shown.readings, **dict(zip(("ids", "id_at", "id_end"), name, strict=True)))
    shown = dataclasses.replace(shown, readings=hostile)
    save_picture(tmp_path / "p.png", shown, 250)
    assert (tmp_path / "p.png").stat().st_size > 1000
