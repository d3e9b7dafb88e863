"""How quick the studio is over 52,000 clips: in a real browser, with the server in its own process.

``python perf/studio.py`` writes the tables of 52,000 clips in 240 episodes (clips, duplicates,
transcripts, captions, dataset) with 24 real videos behind them, builds the index, starts the server
and measures in Chromium: the first page from navigation to its captions, a filter from the click to
the new captions and counts, a search, and the next clip from the key to its first frame on screen.
Medians; the worst is in the JSON as well.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core import tables
from mimix_core.engine.artifacts import Counts, TableRef
from mimix_core.studio.index_file import write_index
from mimix_core.studio.studio_items import ItemReader
from mimix_core.tables import Reason, Row, Table, ok, rejected
from perf.record import record
from tests.deployments.browser import browsing
from tests.factories import clip, video
from tests.studio.page_hand import DESKTOP, Hand
from tests.studio.studio_project import StudioProject, address_of, start_server

CLIPS, EPISODES, VIDEOS = 52_000, 240, 24
NAMES = {
    "tom-and-jerry": ("Tom", "Jerry", "Spike"),
    "we-bare-bears": ("Grizzly", "Panda", "Ice Bear"),
    "mr-bean": ("Mr. Bean", "Irma"),
    "young-sheldon": ("Sheldon", "Missy", "Mary"),
}
CARTOONS = ("tom-and-jerry", "we-bare-bears")
VERBS = ("runs", "looks around", "opens a door", "laughs", "falls over", "sits down", "waves")
PLACES = ("a kitchen", "the street", "a classroom", "the forest", "a shop", "the roof")
WORDS = ("hello", "there", "what", "are", "you", "doing", "come", "back", "wait", "mine", "again")
ROUNDS = 15


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        project = StudioProject(Path(name))
        started = time.perf_counter()
        refs, meta = write_tables(project.workspace / "store")
        print(f"tables: {time.perf_counter() - started:.1f} s", flush=True)
        started = time.perf_counter()
        items = ItemReader((project.workspace / "store").resolve(), refs).items()
        write_index(project.index, items, meta)
        index_seconds = time.perf_counter() - started
        server = start_server(project)
        address = address_of(server)
        try:
            with browsing(Path(name), webgl=False) as tab:
                figures = measure(Hand(tab), address)
            figures["server_rss_mb"] = peak_mb(server.pid)
        finally:
            server.kill()
            server.wait()
    figures["index_seconds"] = index_seconds
    units = {
        "first_page_ms": "ms from navigation to the captions of the first page (bar 1000)",
        "filter_ms": "ms from the click to captions and counts of the filtered clips (bar 300)",
        "search_ms": "ms from the last letter to the captions found, without the pause of 120 ms",
        "next_ms": "ms from the key to the first frame of the next clip on the screen (bar 100)",
        "decide_ms": "ms of the request that saves a decision, fsync included (bar 50)",
        "first_page_worst_ms": "ms, the worst of all rounds",
        "filter_worst_ms": "ms, the worst of all rounds",
        "next_worst_ms": "ms, the worst of all rounds",
        "server_rss_mb": "MB resident, the peak of the server's process (bar 500)",
        "index_seconds": "s to write the index, once per new result",
    }
    figures = {key: round(figures[key], 1) for key in units}
    print(json.dumps(figures, indent=1))
    record("studio", figures, units, f"{CLIPS:,} clips in {EPISODES} episodes.")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1000


def write_tables(root: Path) -> tuple[dict[str, list[TableRef]], dict[str, Any]]:
    random = np.random.default_rng(0)
    digests = [write_video(root / "videos" / f"{number}.mp4", number) for number in range(VIDEOS)]
    refs: dict[str, list[TableRef]] = {}
    duplicates: list[Row] = []
    dataset: list[Row] = []
    shows = list(NAMES)
    for episode in range(EPISODES):
        show = shows[episode % len(shows)]
        unit = f"{show}-{episode:03d}"
        rows: dict[str, list[Row]] = {"clips": [], "transcripts": [], "captions": []}
        for number in range(CLIPS // EPISODES + (episode < CLIPS % EPISODES)):
            add_clip(rows, duplicates, dataset, random, digests, (show, unit, number))
        for stage, found in rows.items():
            table: Table[Any] = getattr(tables, stage.upper())
            refs.setdefault(stage, []).append(commit(root, stage, unit, table, found))
    refs["duplicates"] = [commit(root, "duplicates", "all", tables.DUPLICATES, duplicates)]
    refs["dataset"] = [commit(root, "dataset", "all", tables.DATASET, dataset)]
    meta = {
        "title": "perf",
        "shows": {name: {"title": name, "style": style_of(name)} for name in NAMES},
        "casts": {name: {"roster": cast, "aliases": {}} for name, cast in NAMES.items()},
        "episode_casts": {},
        "stages": {},
        "reasons": {},
    }
    return refs, meta


def style_of(show: str) -> str:
    return "cartoon" if show in CARTOONS else "realistic"


def add_clip(
    rows: dict[str, list[Row]],
    duplicates: list[Row],
    dataset: list[Row],
    random: np.random.Generator,
    digests: list[str],
    place: tuple[str, str, int],
) -> None:
    show, unit, number = place
    name = f"{unit}-c{number * 90_000:010d}"
    style = style_of(show)
    which = int(random.integers(VIDEOS))
    values = {
        "show": show,
        "style": style,
        "episode_id": unit,
        "motion": float(random.gamma(2, 0.02)),
        "sharpness": float(random.gamma(3, 60)),
        "width": 416,
        "height": 240,
        "file": f"../../videos/{which}.mp4",
        "sha256": digests[which],
    }
    row = clip(name, start=number * 6000, **values)
    if random.random() < 0.15:
        blurred = {"status": "rejected", "reason": Reason.CLIP_BLURRED.value, "detail": "blurred"}
        rows["clips"].append({**row, **blurred})
        return
    rows["clips"].append(row)
    pair = {"clip_id": name, "episode_id": unit, "similarity": float(random.random())}
    if random.random() < 0.05:
        duplicates.append(rejected(Reason.NEAR_DUPLICATE, "same", **pair, twin_clip_id="x"))
        return
    duplicates.append(ok(**pair, twin_clip_id=""))
    text = " ".join(random.choice(WORDS, 9))
    lines = [{"start_ms": 0, "end_ms": 2000, "text": text}]
    spoken = {"backend": "subtitles/sidecar", "language": "en", "words": []}
    rows["transcripts"].append(ok(clip_id=name, text=text, lines=lines, **spoken))
    rows["captions"].append(caption_row(name, NAMES[show], style, random))
    dataset.append(dataset_row(name, show, style, unit, rows["captions"][-1]))


def caption_row(name: str, cast: tuple[str, ...], style: str, random: np.random.Generator) -> Row:
    acting = random.choice(cast, 2, replace=False)
    actions = [{"name": str(one), "action": str(random.choice(VERBS))} for one in acting]
    said = " ".join(f"[Character: {one['name']}], {one['action']}." for one in actions)
    context = f"{random.choice(PLACES)} in the afternoon, with a table, two chairs and a window"
    return ok(
        clip_id=name,
        backend="script",
        model="",
        caption=f"{said} {context.capitalize()}. [scene-style:{style}]",
        actions=actions,
        context=context,
        style=style,
        attempts=0,
        input_tokens=0,
        cached_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
    )


def dataset_row(name: str, show: str, style: str, unit: str, caption: Row) -> Row:
    return ok(
        sample_id=name,
        kind="original",
        split="train" if hash(unit) % 10 else "val",
        show=show,
        style=style,
        characters=[],
        caption=caption["caption"],
        caption_backend="script",
        video="",
        sha256="",
        frames=81,
        rate_num=16,
        rate_den=1,
        width=416,
        height=240,
        episode_id=unit,
        source_episode_id="",
        pasted="",
        pasted_style="",
        rank=-1,
    )


def write_video(path: Path, number: int) -> str:
    y, x = np.mgrid[0:240, 0:416]
    frames = np.zeros((81, 240, 416, 3), np.uint8)
    for k in range(81):
        frames[k] = ((x + y + 9 * number) % 256)[..., None] // np.array([1, 2, 3])
        near = (x - 60 - 3 * k) ** 2 + (y - 120) ** 2 < 1600
        frames[k][near] = (230, 90, 20 + 8 * number)
    return video(path, frames)


def commit(root: Path, stage: str, unit: str, table: Table[Any], rows: list[Row]) -> TableRef:
    folder = root / stage / unit
    folder.mkdir(parents=True)
    path = folder / "table.parquet"
    tables.write(path, table, rows, stage_key="0" * 64)
    counts = Counts(rows_in=len(rows), ok=len(rows), rejected=0, failed=0)
    return TableRef(stage=stage, unit=unit, key=unit, sha256="0" * 64, path=path, counts=counts)


def measure(hand: Hand, address: str) -> dict[str, float]:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip")
    first: list[float] = []
    filters: list[float] = []
    searches: list[float] = []
    following: list[float] = []
    decisions: list[float] = []
    for _ in range(ROUNDS):
        hand.tab.open("about:blank")
        hand.tab.open(f"{address}?kind=clip")
        hand.until("window.performance && document.querySelectorAll('.cell .tag').length > 20")
        first.append(hand.tab.value(FIRST_PAGE))
    time.sleep(3)
    for index in range(ROUNDS):
        filters.append(evaluate(hand, FILTER % (index % 4)))
        hand.tab.value("document.querySelector('.rail-head button').click()")
        time.sleep(0.4)
    for word in ("kitchen", "wait again", "sheldon laughs", "forest", "hello mine") * 3:
        searches.append(evaluate(hand, SEARCH % json.dumps(word)) - 120)
    hand.open(f"{address}?kind=clip&status=ok")
    hand.until("document.querySelectorAll('.cell .tag').length > 20")
    hand.press("Enter")
    hand.until("document.querySelector('.stage video')?.readyState >= 2")
    for key, times in (("j", following), ("a", decisions)):
        for _ in range(2 * ROUNDS):
            time.sleep(0.5)
            times.append(evaluate(hand, NEXT % json.dumps(key)))
    saved = hand.tab.value("window.saved ?? []")
    return {
        "first_page_ms": statistics.median(first),
        "filter_ms": statistics.median(filters),
        "search_ms": statistics.median(searches),
        "next_ms": statistics.median(following),
        "decide_ms": statistics.median(saved),
        "first_page_worst_ms": max(first),
        "filter_worst_ms": max(filters),
        "next_worst_ms": max(following),
    }


def evaluate(hand: Hand, script: str) -> float:
    found = hand.tab.ask(
        "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
    )
    return float(found["result"]["value"])


FIRST_PAGE = "performance.getEntriesByName('first-items')[0].startTime"

FILTER = """new Promise(resolve => {
  const boxes = [...document.querySelectorAll('#filters input[data-filter^=show]')];
  const old = document.querySelector('#head .total').textContent;
  const oldCounts = document.querySelector('#filters').textContent;
  const start = performance.now();
  boxes[%d].click();
  const check = () => (document.querySelector('#head .total').textContent !== old
    && document.querySelector('#filters').textContent !== oldCounts
    && document.querySelectorAll('.cell .tag').length > 20)
    ? resolve(performance.now() - start) : requestAnimationFrame(check);
  check();
})"""

SEARCH = """new Promise(resolve => {
  const field = document.querySelector('#search');
  const old = document.querySelector('#head .total').textContent;
  field.focus();
  field.value = %s;
  const start = performance.now();
  field.dispatchEvent(new Event('input'));
  const check = () => (document.querySelector('#head .total').textContent !== old
    && document.querySelectorAll('.cell .tag').length > 10)
    ? resolve(performance.now() - start) : requestAnimationFrame(check);
  check();
})"""

NEXT = """new Promise(resolve => {
  const stage = document.querySelector('.stage');
  const old = stage.dataset.item;
  if (!window.saved) {
    window.saved = [];
    const before = window.fetch;
    window.fetch = async (url, options) => {
      const start = performance.now();
      const reply = await before(url, options);
      if (String(url).endsWith('/api/decisions')) window.saved.push(performance.now() - start);
      return reply;
    };
  }
  const start = performance.now();
  document.dispatchEvent(new KeyboardEvent('keydown', {key: %s, bubbles: true}));
  const check = () => {
    const video = stage.querySelector('video');
    if (stage.dataset.item !== old && video && video.readyState >= 2) {
      // It is drawn with the frame after this one.
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start)));
    } else requestAnimationFrame(check);
  };
  check();
})"""


if __name__ == "__main__":
    main()
