import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from inference.architectures import build
from inference.bundle import Bundle, check_golden, describe_bundles, find_bundle, load_bundle
from inference.manifest import BundleNotFoundError, GoldenError, ManifestError, VocabularyError, WeightsError
from inference.saving import save_bundle
from inference.served_module import reference_answers, served_module
from tests.inference.bundles import (
    LABELS,
    RULES,
    WORDS,
    decided_network,
    familiar_bundle,
    har_bundle,
    har_description,
    people,
    text_bundle,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle; tests that spoil one copy it."""
    folder = tmp_path_factory.mktemp("bundles") / "good"
    har_bundle(folder, metrics={"accuracy": 0.5})
    return folder


@pytest.fixture
def spoilt(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(saved, tmp_path / "spoilt")


def infer_with(bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    module = served_module(bundle)
    return lambda frames: reference_answers(module, frames)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    change(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "weights.safetensors"
    weights = safetensors.torch.load(path.read_bytes())
    change(weights)
    path.write_bytes(safetensors.torch.save(weights))


# -- good bundles


def test_a_saved_bundle_loads_and_gives_its_golden_answers(saved: Path) -> None:
    bundle = load_bundle(saved)

    assert bundle.title == "tiny-har@1.0"
    assert bundle.manifest.labels == LABELS
    check_golden(bundle, infer_with(bundle), "float32")


def test_the_golden_answers_of_the_tests_bundle_are_worth_checking(saved: Path) -> None:
    probabilities = np.array(load_bundle(saved).manifest.golden.probabilities)

    assert np.ptp(probabilities, axis=0).max() > 0.05


def test_saving_the_same_model_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    assert har_bundle(tmp_path / "one").digest == har_bundle(tmp_path / "two").digest


def test_the_digest_is_the_sha256_of_the_manifest_and_the_weights(saved: Path) -> None:
    content = (saved / "bundle.json").read_bytes() + (saved / "weights.safetensors").read_bytes()

    assert load_bundle(saved).digest == hashlib.sha256(content).hexdigest()


def test_the_served_module_takes_metres_per_second_squared_and_gives_calibrated_probabilities(saved: Path) -> None:
    """Normalisation, network, temperature, softmax: computed here once more by hand."""
    bundle = load_bundle(saved)
    network = build("har-cnn").eval()
    network.load_state_dict({name: torch.from_numpy(values) for name, values in bundle.weights.items()})
    frames = people(8, seed=3)

    normalised = torch.from_numpy((frames - (0.5, 9.0, -0.5)) / (3.0, 4.0, 5.0)).float()
    with torch.no_grad():
        expected = torch.softmax(network(normalised) / 0.8, dim=1).numpy()

    np.testing.assert_allclose(infer_with(bundle)(frames), expected, rtol=0, atol=1e-5)


def test_a_model_that_is_still_in_training_mode_is_saved_as_it_will_be_served(tmp_path: Path) -> None:
    network = decided_network().train()

    bundle = save_bundle(tmp_path / "training", network, har_description(), people(2))

    assert bundle.manifest.golden.probabilities == har_bundle(tmp_path / "again").manifest.golden.probabilities[:2]
    assert network.training


def test_saving_over_a_bundle_replaces_it_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    har_bundle(tmp_path / "here", version="1.0")
    har_bundle(tmp_path / "here", version="2.0")

    assert load_bundle(tmp_path / "here").title == "tiny-har@2.0"
    assert os.listdir(tmp_path) == ["here"]
    assert sorted(os.listdir(tmp_path / "here")) == ["bundle.json", "weights.safetensors"]


def test_a_save_that_fails_leaves_the_old_bundle_as_it_was(tmp_path: Path) -> None:
    before = har_bundle(tmp_path / "here")
    broken = decided_network()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))

    with pytest.raises(WeightsError, match=r"here: tensor 'conv1\.weight' holds values that are not finite"):
        save_bundle(tmp_path / "here", broken, har_description(version="2.0"), people(2))

    assert load_bundle(tmp_path / "here").digest == before.digest
    assert os.listdir(tmp_path) == ["here"]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_precision_are_served_in_full(spoilt: Path, half: torch.dtype) -> None:
    full = load_bundle(spoilt).weights
    change_weights(spoilt, lambda weights: weights.update({k: v.to(half) for k, v in weights.items()}))

    for name, values in load_bundle(spoilt).weights.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, torch.from_numpy(full[name]).to(half).float().numpy())


def test_a_description_tells_what_a_bundle_promises(saved: Path) -> None:
    (summary,) = describe_bundles([saved])

    assert summary.name == "tiny-har"
    assert summary.version == "1.0"
    assert summary.labels == LABELS
    assert summary.input == "80 x 3 float32"
    assert summary.parameters == 520_486
    assert summary.metrics == {"accuracy": 0.5}
    assert summary.digest == load_bundle(saved).digest
    assert summary.folder == saved


def test_every_shipped_bundle_gives_its_golden_answers() -> None:
    for summary in describe_bundles():
        bundle = load_bundle(find_bundle(summary.folder.name))
        check_golden(bundle, infer_with(bundle), "float32")


# -- golden answers


def test_golden_answers_refuse_weights_of_another_model(saved: Path, tmp_path: Path) -> None:
    other = har_bundle(tmp_path / "other", seed=5)

    with pytest.raises(GoldenError, match=r"good: at float32 the model misses its golden probabilities by 0\.\d+"):
        check_golden(load_bundle(saved), infer_with(other), "float32")


def test_golden_answers_refuse_one_layer_that_was_tampered_with(spoilt: Path) -> None:
    change_weights(spoilt, lambda weights: weights["conv3.bias"].add_(0.1))
    bundle = load_bundle(spoilt)

    with pytest.raises(GoldenError):
        check_golden(bundle, infer_with(bundle), "float32")


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(temperature=0.7),
        lambda manifest: manifest["normalisation"].update(mean=[0.0, 0.0, 0.0]),
        lambda manifest: manifest["normalisation"].update(std=[1.0, 1.0, 1.0]),
        lambda manifest: manifest["golden"]["probabilities"].reverse(),
    ],
)
def test_golden_answers_refuse_a_manifest_whose_arithmetic_was_changed(
    spoilt: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    change_manifest(spoilt, change)
    bundle = load_bundle(spoilt)

    with pytest.raises(GoldenError):
        check_golden(bundle, infer_with(bundle), "float32")


def test_golden_answers_allow_what_each_precision_allows_and_no_more(saved: Path) -> None:
    bundle = load_bundle(saved)
    exact = np.array(bundle.manifest.golden.probabilities, np.float32)

    check_golden(bundle, lambda _: exact + 0.00009, "float32")
    check_golden(bundle, lambda _: exact + 0.039, "bfloat16")
    check_golden(bundle, lambda _: exact + 0.049, "int8")
    with pytest.raises(GoldenError, match=r"more than the 0\.0001 it allows"):
        check_golden(bundle, lambda _: exact + 0.00011, "float32")
    with pytest.raises(GoldenError, match=r"more than the 0\.04 it allows"):
        check_golden(bundle, lambda _: exact + 0.041, "bfloat16")
    with pytest.raises(GoldenError, match=r"more than the 0\.05 it allows"):
        check_golden(bundle, lambda _: exact + 0.051, "int8")


def test_golden_answers_refuse_nan(saved: Path) -> None:
    bundle = load_bundle(saved)

    with pytest.raises(GoldenError):
        check_golden(bundle, lambda frames: np.full((len(frames), 6), np.nan, np.float32), "float32")


# -- golden familiarity


@pytest.fixture
def familiar(tmp_path: Path) -> Path:
    """A bundle with a familiarity output, to spoil."""
    return familiar_bundle(tmp_path / "familiar").folder


def test_a_bundle_that_tells_strangers_promises_the_familiarity_of_its_golden_frames(familiar: Path) -> None:
    bundle = load_bundle(familiar)

    assert len(bundle.manifest.golden.familiarity) == 4
    assert 0.1 < np.median(bundle.manifest.golden.familiarity) < 0.9
    assert bundle.manifest.columns == 7
    check_golden(bundle, infer_with(bundle), "float32")


def test_a_bundle_that_does_not_say_whether_it_tells_strangers_does_not(spoilt: Path) -> None:
    """As those do that were made before there was familiarity."""
    change_manifest(spoilt, lambda manifest: (manifest.pop("tells_strangers"), manifest["golden"].pop("familiarity")))
    bundle = load_bundle(spoilt)

    assert not bundle.manifest.tells_strangers
    assert bundle.manifest.columns == 6
    check_golden(bundle, infer_with(bundle), "float32")


@pytest.mark.parametrize("row", [0, 3])
def test_golden_answers_refuse_a_familiarity_that_was_changed(familiar: Path, row: int) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["golden"]["familiarity"][row] -= 0.0005

    change_manifest(familiar, change)
    bundle = load_bundle(familiar)

    with pytest.raises(GoldenError, match=r"misses its golden familiarity by 0\.0005, more than the 0\.0001"):
        check_golden(bundle, infer_with(bundle), "float32")


def test_golden_answers_refuse_logits_that_are_all_higher_though_the_probabilities_are_the_same(familiar: Path) -> None:
    change_weights(familiar, lambda weights: weights["output.bias"].add_(0.5))
    bundle = load_bundle(familiar)

    with pytest.raises(GoldenError, match="golden familiarity"):
        check_golden(bundle, infer_with(bundle), "bfloat16")


def test_golden_answers_refuse_a_familiarity_that_is_taken_after_the_temperature(tmp_path: Path) -> None:
    bundle = familiar_bundle(tmp_path / "hot", temperature=1.5)
    plain = infer_with(bundle)

    def after(frames: np.ndarray) -> np.ndarray:
        answers = plain(frames)
        energy = np.log(answers[:, -1] / (1 - answers[:, -1]))
        answers[:, -1] = 1 / (1 + np.exp(-energy / 1.5))
        return answers

    check_golden(bundle, plain, "float32")
    with pytest.raises(GoldenError, match="golden familiarity"):
        check_golden(bundle, after, "bfloat16")


def test_golden_answers_refuse_answers_of_another_shape(familiar: Path) -> None:
    bundle = load_bundle(familiar)

    with pytest.raises(GoldenError, match=r"answers \[4, 6\] to its golden frames instead of \[4, 7\]"):
        check_golden(bundle, lambda frames: infer_with(bundle)(frames)[:, :6], "float32")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(tells_strangers=False), "golden.familiarity must be one value for each golden frame if"),
        (lambda m: m.update(tells_strangers=1), "tells_strangers"),
        (lambda m: m["golden"].pop("familiarity"), "golden.familiarity must be one value for each golden frame if"),
        (lambda m: m["golden"]["familiarity"].pop(), "golden.familiarity must be one value for each golden frame if"),
        (lambda m: m["golden"]["familiarity"].__setitem__(0, 1.01), r"golden\.familiarity\.0"),
        (lambda m: m["golden"]["familiarity"].__setitem__(0, float("nan")), r"golden\.familiarity\.0"),
    ],
)
def test_a_golden_familiarity_that_does_not_fit_the_bundle_is_refused(
    familiar: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    change_manifest(familiar, change)

    with pytest.raises(ManifestError, match=field):
        load_bundle(familiar)


# -- bundles that are not there


def test_a_bundle_is_found_by_its_path(saved: Path) -> None:
    assert find_bundle(str(saved)) == saved


@pytest.mark.parametrize("name", ["nowhere", "../nowhere", "/nowhere/at/all", "", "."])
def test_a_bundle_that_is_nowhere_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleNotFoundError):
        load_bundle(find_bundle(name))


@pytest.mark.parametrize("file", ["bundle.json", "weights.safetensors"])
def test_a_missing_file_is_named(spoilt: Path, file: str) -> None:
    (spoilt / file).unlink()

    with pytest.raises(BundleNotFoundError, match=f"spoilt/{file} is missing"):
        load_bundle(spoilt)


def test_a_pipe_in_a_bundle_is_refused_instead_of_waited_for(spoilt: Path) -> None:
    (spoilt / "weights.safetensors").unlink()
    os.mkfifo(spoilt / "weights.safetensors")

    with pytest.raises(BundleNotFoundError, match="not a regular file"):
        load_bundle(spoilt)


# -- hostile manifests


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.pop("labels"), "labels"),
        (lambda m: m.pop("golden"), "golden"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.update(format=2), "format"),
        (lambda m: m.update(name="../../etc"), "name"),
        (lambda m: m.update(name="x" * 65), "name"),
        (lambda m: m.update(version=1), "version"),
        (lambda m: m.update(version="1\n"), "version"),
        (lambda m: m.update(temperature=0), "temperature"),
        (lambda m: m.update(temperature="1"), "temperature"),
        (lambda m: m.update(temperature=float("inf")), "temperature"),
        (lambda m: m.update(labels=["one"]), "labels"),
        (lambda m: m.update(labels=["a", "b", "c", "d", "e", "e"]), "labels must be 6 different names"),
        (lambda m: m.update(labels=["a", "b", "c", "d", "e"]), "labels must be 6 different names"),
        (lambda m: m["labels"].__setitem__(0, ""), r"labels\.0"),
        (
            lambda m: m["architecture"].update(name="os.system"),
            "'os.system' is not one of har-cnn, text-cnn, glove-cnn, recurrent, constant",
        ),
        (lambda m: m["architecture"].update(arguments={"slots": 10**12}), "slots"),
        (lambda m: m["architecture"].update(arguments={"classes": 7}), "labels must be 7"),
        (lambda m: m["architecture"].update(arguments={"__class__": 7}), "__class__"),
        (lambda m: m["architecture"].update(arguments=[]), "architecture.arguments"),
        (lambda m: m["input"].update(shape=[3, 80]), r"input is float32 \[3, 80\], but the architecture takes"),
        (lambda m: m["input"].update(shape=[]), "input.shape"),
        (lambda m: m["input"].update(dtype="object"), "input.dtype"),
        (lambda m: m["input"].update(dtype="int32"), "input is int32"),
        (lambda m: m["normalisation"].update(std=[1.0, 0.0, 1.0]), "normalisation.std.1"),
        (lambda m: m["transitions"].pop(), "transitions must have 6 rows of 6 probabilities"),
        (lambda m: m["transitions"][1].pop(), "transitions must have 6 rows of 6 probabilities"),
        (lambda m: m["transitions"][1].__setitem__(1, 0.5), "each row of transitions must add up to 1"),
        (lambda m: m["transitions"][1].__setitem__(1, float("nan")), "transitions.1.1"),
        (lambda m: m["transitions"][1].__setitem__(1, -0.1), "transitions.1.1"),
        (lambda m: m["population"]["shares"].pop(), "population.shares must be 6 shares"),
        (lambda m: m["population"]["tenths"]["movement"].pop(), "population.tenths.movement"),
        (lambda m: m["population"]["tenths"]["movement"].reverse(), "tenths of movement must ascend"),
        (lambda m: m["activation_ranges"].pop("conv3"), "activation_ranges must be one for each of the layers conv2,"),
        (lambda m: m["activation_ranges"].update(conv1=1.0), "activation_ranges must be one for each of the layers"),
        (lambda m: m["activation_ranges"].update(conv3=0.0), "activation_ranges.conv3"),
        (lambda m: m["activation_ranges"].update(conv3=-1.0), "activation_ranges.conv3"),
        (lambda m: m["activation_ranges"].update(conv3=1e7), "activation_ranges.conv3"),
        (lambda m: m["activation_ranges"].update(conv3=float("inf")), "activation_ranges.conv3"),
        (lambda m: m["activation_ranges"].update(conv3=float("nan")), "activation_ranges.conv3"),
        (lambda m: m["activation_ranges"].update(conv3="1"), "activation_ranges.conv3"),
        (lambda m: m["normalisation"].update(mean=[0.0]), "normalisation needs a mean and a std for each of the 3"),
        (lambda m: m["normalisation"].update(mean=[0.0, float("nan"), 0.0]), "normalisation.mean.1"),
        (lambda m: m["training"].update(date="yesterday"), "training.date"),
        (lambda m: m["training"].update(data=[{"name": "x", "sha256": "123"}]), "training.data.0.sha256"),
        (lambda m: m["golden"].update(input=[]), "golden.input"),
        (lambda m: m["golden"].update(input=[[0.0] * 240] * 17), "golden.input"),
        (lambda m: m["golden"].update(input=[[0.0] * 239] * 4), "golden.input must be frames of 240 values"),
        (lambda m: m["golden"]["probabilities"].pop(), "golden.probabilities must be one row for each"),
        (lambda m: m["golden"]["probabilities"][0].pop(), "golden.probabilities must be one row for each"),
        (lambda m: m["golden"].update(tolerance={"float32": 1.0}), "golden.tolerance.float32"),
        (lambda m: m["metrics"].update(accuracy="good"), "metrics.accuracy"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_sentence_that_names_file_and_field(
    spoilt: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    change_manifest(spoilt, change)

    with pytest.raises(ManifestError, match=field) as refusal:
        load_bundle(spoilt)

    assert str(spoilt / "bundle.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format":' * 10_000, b"NaN"],
    ids=lambda content: repr(content[:12]),
)
def test_a_manifest_that_is_not_the_json_of_an_object_is_refused(spoilt: Path, content: bytes) -> None:
    (spoilt / "bundle.json").write_bytes(content)

    with pytest.raises(ManifestError):
        load_bundle(spoilt)


def test_a_manifest_over_its_size_limit_is_refused_unread(spoilt: Path) -> None:
    with (spoilt / "bundle.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room

    with pytest.raises(ManifestError, match="larger than the 1,048,576 bytes"):
        load_bundle(spoilt)


# -- hostile weights


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop("conv2.bias"), "tensor 'conv2.bias' is missing"),
        (lambda w: w.update({"conv2.other": torch.zeros(1)}), "tensor 'conv2.other' is not one"),
        (lambda w: w.update({"conv2.bias": torch.zeros(99)}), r"'conv2.bias' has shape \[99\].*needs \[100\]"),
        (lambda w: w.update({"conv2.bias": torch.zeros(100, 1)}), r"has shape \[100, 1\]"),
        (lambda w: w.update({"conv2.bias": torch.zeros(100, dtype=torch.int32)}), "holds int32"),
        (lambda w: w.update({"conv2.bias": torch.full((100,), float("nan"))}), "'conv2.bias' holds .* not finite"),
        (lambda w: w.update({"conv2.bias": torch.full((100,), float("inf"))}), "'conv2.bias' holds .* not finite"),
        (lambda w: w.update({"conv2.bias": torch.zeros(1_000_000)}), "larger than"),
    ],
)
def test_weights_that_do_not_fit_the_architecture_are_refused_by_tensor(
    spoilt: Path, change: Callable[[dict[str, torch.Tensor]], object], complaint: str
) -> None:
    change_weights(spoilt, change)

    with pytest.raises(WeightsError, match=complaint) as refusal:
        load_bundle(spoilt)

    assert str(spoilt / "weights.safetensors") in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        b"\x02" + b"\x00" * 7 + b"{}",
        b"\x80\x04\x95",  # the beginning of a pickle
        (64).to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'.ljust(64),
        (80).to_bytes(8, "little") + b'{"x":{"dtype":"F99","shape":[0],"data_offsets":[0,0]}}'.ljust(80),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_that_is_not_safetensors_is_refused(spoilt: Path, content: bytes) -> None:
    (spoilt / "weights.safetensors").write_bytes(content)

    with pytest.raises(WeightsError):
        load_bundle(spoilt)


def test_weights_that_were_cut_off_are_refused(spoilt: Path) -> None:
    with (spoilt / "weights.safetensors").open("r+b") as file:
        file.truncate(1_000_000)

    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_bundle(spoilt)


def test_weights_over_what_the_architecture_needs_are_refused_unread(spoilt: Path) -> None:
    with (spoilt / "weights.safetensors").open("r+b") as file:
        file.truncate(1 << 40)

    with pytest.raises(WeightsError, match="larger than"):
        load_bundle(spoilt)


class _Hostile:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_in_the_place_of_the_weights_is_refused_and_not_run(spoilt: Path, tmp_path: Path) -> None:
    torch.save({"conv1.weight": _Hostile(tmp_path / "made")}, spoilt / "weights.safetensors")

    with pytest.raises(WeightsError):
        load_bundle(spoilt)

    assert not (tmp_path / "made").exists()


# -- texts


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A good bundle of a text network, to spoil."""
    return text_bundle(tmp_path / "text").folder


def change_vocabulary(folder: Path, content: bytes) -> None:
    (folder / "vocabulary.txt").write_bytes(content)


def test_a_text_bundle_loads_with_its_words_and_the_rules_of_its_framing(text: Path) -> None:
    bundle = load_bundle(text)

    assert bundle.vocabulary == WORDS
    assert bundle.manifest.framing == RULES
    assert (text / "vocabulary.txt").read_text() == "".join(f"{word}\n" for word in WORDS)
    check_golden(bundle, infer_with(bundle), "float32")
    assert describe_bundles([text])[0].input == "20 int32, 14 words"


def test_ranges_are_for_networks_with_layers_for_int8(text: Path) -> None:
    change_manifest(text, lambda manifest: manifest.update(activation_ranges={"conv2": 1.0}))

    with pytest.raises(ManifestError, match="text-cnn has no layers for int8: leave activation_ranges out"):
        load_bundle(text)


@pytest.mark.parametrize(
    ("architecture", "length"), [("text-cnn", 20), ("glove-cnn", 160), ("recurrent", 20), ("recurrent", 160)]
)
def test_every_text_architecture_makes_a_bundle(tmp_path: Path, architecture: str, length: int) -> None:
    bundle = text_bundle(tmp_path / "text", architecture=architecture, rules={**RULES, "length": length})

    assert np.ptp(np.array(bundle.manifest.golden.probabilities), axis=0).max() > 0.02


def test_any_word_of_any_language_survives_the_file(tmp_path: Path) -> None:
    words = ("été", "日本語", "don't", "🙂", "\ufeffbom", "a\u200db", '"', "<unk>", "\u0301", "A", "a", "\x08")

    assert text_bundle(tmp_path / "text", words=words).vocabulary == words
    assert load_bundle(tmp_path / "text").vocabulary == words


def test_the_digest_covers_the_vocabulary(text: Path) -> None:
    names = ("bundle.json", "weights.safetensors", "vocabulary.txt")
    content = b"".join((text / name).read_bytes() for name in names)

    assert load_bundle(text).digest == hashlib.sha256(content).hexdigest()


def test_a_network_of_readings_has_no_vocabulary(saved: Path, tmp_path: Path) -> None:
    assert load_bundle(saved).vocabulary == ()
    assert not (saved / "vocabulary.txt").exists()
    with pytest.raises(VocabularyError, match="har-cnn takes no ids: leave out the vocabulary"):
        save_bundle(tmp_path / "here", decided_network(), har_description(), people(2), vocabulary=["word"])


def test_a_text_network_without_its_vocabulary_is_refused(text: Path) -> None:
    (text / "vocabulary.txt").unlink()

    with pytest.raises(BundleNotFoundError, match=r"vocabulary\.txt is missing"):
        load_bundle(text)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds 0 words, but the architecture has 16 ids"),
        (b"one\n" * 1, "holds 1 words"),
        (b"".join(b"%d\n" % n for n in range(15)), "holds 15 words"),
        (b"one\n\ntwo\n", "line 2 is empty: give one word a line"),
        (b"one\ntwo\none\n", "line 3 repeats 'one' of line 1"),
        (b"one\r\ntwo\r\n", "line 1 'one\\\\r' holds"),
        (b"one\ntwo words\n", "line 2 'two words' holds a space"),
        (b"one\nt\0wo\n", r"line 2 't\\x00wo' holds a space, a line break or a NUL"),
        ("one\ntw\u2028o\n".encode(), "line 2 .* holds a space, a line break"),
        ("one\ntw\x85o\n".encode(), "line 2"),
        (b"one\ntwo\n\xff\n", "line 3 is not UTF-8: save the file as UTF-8"),
        (b"one\n\xed\xa0\x80\n", "line 2 is not UTF-8"),
        (b"\xff\xfeo\0n\0e\0", "line 1 is not UTF-8"),
        (b"one\ntwo", "the last line has no end"),
        (b"one\n" + b"x" * 257 + b"\n", "line 2 has 257 characters: leave out words of more than 256"),
        (b"x" * 1000 + b" \n", "line 1 .* holds a space"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_a_malformed_vocabulary_is_refused_in_one_sentence_that_names_file_line_and_remedy(
    text: Path, content: bytes, complaint: str
) -> None:
    change_vocabulary(text, content)

    with pytest.raises(VocabularyError, match=complaint) as refusal:
        load_bundle(text)

    assert str(refusal.value).startswith(str(text / "vocabulary.txt"))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_the_words_of_another_model_are_refused(text: Path) -> None:
    """A folder whose vocabulary's lines were reversed loaded, passed its golden check, which is of ids, and served."""
    change_vocabulary(text, "".join(f"{word}\n" for word in reversed(WORDS)).encode())
    with pytest.raises(VocabularyError, match=r"vocabulary\.txt is not the file whose SHA-256 .* copy the bundle anew"):
        load_bundle(text)


def test_a_vocabulary_over_its_size_limit_is_refused_unread(text: Path) -> None:
    with (text / "vocabulary.txt").open("r+b") as file:
        file.truncate(1 << 40)

    with pytest.raises(VocabularyError, match="larger than the 33,554,432 bytes"):
        load_bundle(text)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("one", "one"), "line 2 repeats 'one' of line 1"),
        (("one", ""), "line 2 is empty"),
        (("one\ntwo", "three"), "holds a space, a line break"),
        (("one", "\ud800"), "line 2 holds half of a surrogate pair"),
    ],
)
def test_a_vocabulary_that_could_not_be_read_again_is_not_written(
    tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(VocabularyError, match=complaint):
        text_bundle(tmp_path / "text", words=words)

    assert os.listdir(tmp_path) == []


def test_the_words_of_a_bundle_that_is_saved_must_be_as_many_as_its_network_has(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="holds 14 words, but the architecture has 9 ids"):
        text_bundle(tmp_path / "text", arguments={"tokens": 9})


def test_golden_frames_with_an_id_that_the_network_does_not_have_are_refused(tmp_path: Path) -> None:
    good = text_bundle(tmp_path / "good")
    network = good.manifest.architecture.build()

    for value in (16, -1):
        with pytest.raises(ManifestError, match="golden_frames must be ids from 0 to 15"):
            save_bundle(tmp_path / "bad", network, good.manifest, np.full((1, 20), value), vocabulary=WORDS)


@pytest.mark.parametrize("value", [16, -1, 0.5, 1e300])
def test_a_golden_text_with_an_id_that_the_network_does_not_have_is_refused(text: Path, value: float) -> None:
    """Looking it up would end the process on a GPU."""
    change_manifest(text, lambda manifest: manifest["golden"]["input"][0].__setitem__(0, value))

    with pytest.raises(ManifestError, match=r"golden\.input must be whole numbers from 0 to 15"):
        load_bundle(text)


def test_a_vector_of_padding_that_is_not_zero_is_refused(text: Path) -> None:
    """The devices leave padding out, in one way or another: it must add nothing."""
    change_weights(text, lambda weights: weights["embedding.weight"][0].fill_(0.25))

    with pytest.raises(WeightsError, match=r"weights\.safetensors: .* padding, row 0, that is not zero"):
        load_bundle(text)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(framing=[]), "framing"),
        (lambda m: m.update(normalisation={"mean": [0.0] * 20, "std": [1.0] * 20}), "normalisation is for float32"),
        (lambda m: m["architecture"]["arguments"].update(tokens=10**9), "tokens"),
        (lambda m: m["input"].update(dtype="float32"), "input is float32"),
    ],
)
def test_a_wrong_manifest_of_a_text_network_is_refused_by_field(
    text: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    change_manifest(text, change)

    with pytest.raises(ManifestError, match=field):
        load_bundle(text)


def test_tensors_named_half_are_stored_as_float16_and_the_golden_answers_are_those_of_what_is_stored(
    tmp_path: Path,
) -> None:
    bundle = text_bundle(tmp_path / "text", half=["embedding.weight"])

    stored = safetensors.torch.load((tmp_path / "text" / "weights.safetensors").read_bytes())
    halves = {name for name, tensor in stored.items() if tensor.dtype == torch.float16}
    assert halves == {"embedding.weight"}
    check_golden(bundle, infer_with(bundle), "float32")
    exact = np.array(bundle.manifest.golden.probabilities)
    np.testing.assert_allclose(infer_with(bundle)(bundle.manifest.golden_frames()), exact, rtol=0, atol=1e-6)


def test_only_tensors_that_exist_can_be_stored_in_half(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tensor 'embeddings', to be stored in half, is not one of the network's"):
        text_bundle(tmp_path / "text", half=["embeddings"])


def test_what_overflows_in_half_is_refused(tmp_path: Path) -> None:
    network = decided_network()
    with torch.no_grad():
        network.get_parameter("conv1.bias")[0] = 1e6

    with pytest.raises(WeightsError, match=r"'conv1\.bias' holds values that are not finite"):
        save_bundle(tmp_path / "here", network, har_description(), people(2), half=["conv1.bias"])


def test_the_home_of_a_user_whom_nobody_knows_is_no_bundle() -> None:
    """It ended in a traceback."""
    with pytest.raises(BundleNotFoundError, match="neither a folder nor one of the shipped bundles"):
        find_bundle("~nobody-of-this-name/bundle")
