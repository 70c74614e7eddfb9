"""The registry: proxies listed without their weights, and moved between machines."""

import json
import os
import shutil
import stat
import zipfile

import pytest
from laptops import PLAN, annotations, reviews, write_lines

from langchain_falconer.annotate import read_annotations
from langchain_falconer.errors import ProxyError
from langchain_falconer.evaluate import evaluate_plan
from langchain_falconer.model import Proxy, check_destination
from langchain_falconer.plan import Plan
from langchain_falconer.registry import Registry
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import train_proxy

TEXTS = reviews(12, start=60)


@pytest.fixture
def registry(proxy_folder, tmp_path):
    """A registry with one proxy, ``laptops``."""
    shutil.copytree(proxy_folder, tmp_path / "proxies" / "laptops")
    return Registry(tmp_path / "proxies")


@pytest.fixture(scope="module")
def other_folder(tiny_bert, tmp_path_factory):
    """A proxy whose price is the same question under another name, and whose label is another question."""
    steps = [
        {"id": "positive", "op": "get_label", "instruction": "Does the writer love it?"},
        {"id": "cost", "op": "get_span", "instruction": "Extract the price"},
    ]
    plan = Plan.parse({"instruction": "Prices", "steps": steps})
    rows = [{"text": t, "labels": {"positive": "love" in t}, "spans": {"cost": [[0, 3]]}} for t in reviews(10)]
    file = write_lines(tmp_path_factory.mktemp("other") / "labels.jsonl", rows)
    proxy = train_proxy(plan, read_annotations(file, plan), base=tiny_bert, settings=TrainSettings(epochs=1))
    return proxy.save(file.parent / "other")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- listing


def test_an_entry_says_what_the_manifest_says_and_loads_no_weights(registry, monkeypatch):
    monkeypatch.setattr(Proxy, "load", lambda path: pytest.fail("a proxy was loaded"))
    (entry,) = registry.entries()
    assert entry == registry.entry("laptops")
    assert (entry.name, entry.plan, entry.broken, entry.quality) == ("laptops", PLAN, None, None)
    assert entry.size == sum(path.stat().st_size for path in entry.path.iterdir())
    described = json.loads(json.dumps(entry.to_dict()))
    assert described["data"]["annotations"] == 48
    assert described["step_fingerprints"] == {step.id: step.fingerprint for step in PLAN.steps}


def test_the_newest_come_first_whatever_is_noted_later(registry, proxy_folder):
    for name, age in (("older", 200), ("oldest", 300)):
        shutil.copytree(proxy_folder, registry.path(name))
        for file in registry.path(name).iterdir():
            when = file.stat().st_mtime - age
            os.utime(file, (when, when))
    registry.load("oldest").update_manifest(remark="later")
    assert [entry.name for entry in registry.entries()] == ["laptops", "older", "oldest"]


def test_the_measured_quality_is_in_the_entry(registry):
    proxy = registry.load("laptops")
    known = annotations(TEXTS)
    quality = evaluate_plan(PLAN, [a.answers for a in known], proxy.answers(TEXTS, apply_conditions=False))
    proxy.update_manifest(quality=quality.model_dump(mode="json"))
    assert registry.entry("laptops").quality == quality


def garbage(name, content):
    return lambda folder: (folder / name).write_bytes(content)


BREAKS = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json"),
    "no JSON": (garbage("manifest.json", b"{"), "not JSON"),
    "too deep": (garbage("manifest.json", b"[" * 100_000), "not JSON"),
    "a list": (garbage("manifest.json", b"[]"), "not a JSON object"),
    "another format": (garbage("manifest.json", b'{"format": 99}'), "format 99"),
    "no plan": (garbage("manifest.json", b'{"format": 2}'), "lacks base, data"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors"),
}


@pytest.mark.parametrize(("damage", "reason"), BREAKS.values(), ids=BREAKS)
def test_a_broken_one_is_listed_with_the_reason_and_can_be_deleted(damage, reason, registry, proxy_folder):
    damage(shutil.copytree(proxy_folder, registry.path("broken")))
    entries = {entry.name: entry for entry in registry.entries()}
    assert reason in entries["broken"].broken
    assert entries["laptops"].broken is None
    with pytest.raises(ProxyError, match=r"'broken' is broken \(.*\); delete it") as caught:
        registry.load("broken")
    assert "\n" not in str(caught.value)
    registry.delete("broken")
    assert [entry.name for entry in registry.entries()] == ["laptops"]


def test_names_are_checked_and_existing_ones_are_listed(registry, tmp_path):
    assert Registry(tmp_path / "nowhere").entries() == []
    for name in ("../laptops", "", ".hidden", "a/b", "a\n"):
        with pytest.raises(ProxyError, match="not a proxy name"):
            registry.entry(name)
    with pytest.raises(ProxyError, match=r"no proxy 'other' in .*; there is laptops"):
        registry.entry("other")
    with pytest.raises(ProxyError, match="no proxy 'other'"):
        registry.delete("laptops", "other")
    assert registry.load("laptops").plan == PLAN
    registry.delete("laptops", "laptops")
    assert registry.entries() == []


# ---- moving


@pytest.mark.parametrize("name", ["moved", "moved.zip"])
def test_it_answers_the_same_on_another_machine(name, registry, tmp_path):
    registry.export_to("laptops", tmp_path / "away" / name)
    with pytest.raises(ProxyError, match="is there already"):
        registry.export_to("laptops", tmp_path / "away" / name)
    there = Registry(tmp_path / "there")
    entry = there.import_from(tmp_path / "away" / name)
    assert entry.name == "moved"
    assert contents(entry.path) == contents(registry.path("laptops"))
    assert there.load("moved").run(TEXTS) == registry.load("laptops").run(TEXTS)
    assert [path.name for path in there.folder.iterdir()] == ["moved"]
    assert there.import_from(tmp_path / "away" / name, "again").name == "again"
    with pytest.raises(ProxyError, match=r"'moved' already; .*--name"):
        there.import_from(tmp_path / "away" / name)


def test_an_export_never_replaces_anything(registry, tmp_path):
    (tmp_path / "thesis.zip").write_text("years of work")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as packed:
        packed.writestr("manifest.json", "{}")
        packed.writestr("photo.jpg", "me")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text("{}")
    (tmp_path / "site" / "index.html").write_text("hello")
    before = {name: (tmp_path / name).read_bytes() for name in ("thesis.zip", "photos.zip", "site/index.html")}
    for name in ("thesis.zip", "photos.zip", "site"):
        with pytest.raises(ProxyError, match="is there already"):
            registry.export_to("laptops", tmp_path / name)
    with pytest.raises(ProxyError, match="another path"):
        registry.export_to("laptops", tmp_path / "thesis.zip" / "p.zip")
    with pytest.raises(ProxyError, match="not a writable folder"):
        registry.export_to("laptops", tmp_path / "thesis.zip" / "p")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def added(name, content=b"x", mode=0o644):
    def write(packed):
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        packed.writestr(info, content)

    return write


def large(packed):
    packed.writestr("ready", b"x")
    packed.infolist()[-1].file_size = 3 << 30


BAD_ZIPS = {
    "out of the folder": (added("../../evil.txt"), "is not a file of a proxy"),
    "an absolute path": (added("/tmp/evil.txt"), "is not a file of a proxy"),
    "a folder": (added("deep/manifest.json"), "is not a file of a proxy"),
    "a link": (added("ready", b"/etc/passwd", stat.S_IFLNK | 0o777), "is not a file of a proxy"),
    "a pickle": (added("pytorch_model.bin"), "is not a file of a proxy"),
    "code": (added("modeling.py"), "is not a file of a proxy"),
    "more than 2 GiB": (large, "more than 2 GiB"),
    "a file twice": (added("config.json"), "twice"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("spoil", "reason"), BAD_ZIPS.values(), ids=BAD_ZIPS)
def test_a_bad_zip_is_refused_and_leaves_nothing(spoil, reason, registry, tmp_path):
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "bad.zip"
    registry.export_to("laptops", file)
    with zipfile.ZipFile(file, "a") as packed:
        spoil(packed)
    there = Registry(tmp_path / "in" / "home" / "proxies")
    with pytest.raises(ProxyError, match=reason) as caught:
        there.import_from(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "in").rglob("*") if path.is_file()] == [file]


def cut(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:2000])


BAD_FOLDERS = {
    "broken weights": (cut, "are broken"),
    "broken heads": (garbage("heads.safetensors", b"x"), "is broken"),
    "broken export": (garbage("model.onnx", b"x"), "from/p"),
    "something else in it": (garbage("thesis.txt", b"x"), "'thesis.txt'"),
    "a link": (lambda folder: (folder / "ready").symlink_to("/etc/passwd"), "'ready'"),
    "no proxy": (lambda folder: (folder / "manifest.json").unlink(), "no proxy at"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_a_proxy_that_does_not_load_is_not_imported(spoil, reason, registry, proxy_folder, tmp_path):
    source = shutil.copytree(proxy_folder, tmp_path / "from" / "p")
    spoil(source)
    with pytest.raises(ProxyError, match=reason) as caught:
        registry.import_from(source)
    assert str(source) in str(caught.value)
    assert [path.name for path in registry.folder.iterdir()] == ["laptops"]


def test_other_files_than_zips_are_refused(registry, tmp_path):
    (tmp_path / "p.zip").write_bytes(b"no zip")
    with pytest.raises(ProxyError, match="not a readable zip file"):
        registry.import_from(tmp_path / "p.zip")
    with pytest.raises(ProxyError, match=r"there is no .*nowhere\.zip"):
        registry.import_from(tmp_path / "nowhere.zip")
    with pytest.raises(ProxyError, match="'my proxy' is not a proxy name"):
        registry.import_from(tmp_path / "p.zip", "my proxy")


# ---- places


def test_a_saved_proxy_has_the_mode_that_the_umask_wants(proxy, tmp_path):
    (tmp_path / "plain").mkdir()
    folder = proxy.save(tmp_path / "p")
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_destination_is_checked_before_training(proxy_folder, tmp_path):
    copy = shutil.copytree(proxy_folder, tmp_path / "p")
    (copy / ".partial.onnx").write_bytes(b"left by a killed process")
    check_destination(copy)
    check_destination(tmp_path / "new" / "deep")
    (copy / "thesis.txt").write_text("years of work")
    for place in (copy, tmp_path, copy / "thesis.txt", copy / "thesis.txt" / "p"):
        with pytest.raises(ProxyError, match="choose another path"):
            check_destination(place)
