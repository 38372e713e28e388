from __future__ import annotations

from pathlib import Path

from napari_gimp.training.events import Event, Tail, read_events, write_event


def test_events_read_back_as_they_were_written(tmp_path: Path) -> None:
    event = Event(kind="epoch", stage="finetune", epoch=2, parts={"total": 0.5})
    write_event(tmp_path / "events.jsonl", event)
    assert read_events(tmp_path / "events.jsonl") == [event]


def test_a_tail_gives_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    write_event(path, Event(kind="started", stage="pretrain"))
    assert [e.kind for e in tail.read()] == ["started"]
    write_event(path, Event(kind="finished", stage="pretrain"))
    assert [e.kind for e in tail.read()] == ["finished"]
    assert tail.read() == []


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write_event(path, Event(kind="started", stage="pretrain"))
    line = path.read_bytes()
    path.write_bytes(line + line[:20])
    tail = Tail(path)
    assert len(tail.read()) == 1
    path.write_bytes(line + line)
    assert len(tail.read()) == 1
