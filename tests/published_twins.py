"""Tiny random twins of published audio encoders: their file names, config values and tensor names, without their meaning."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

# What transformers of early 2023 wrote into every part of a config.json: laion/clap-htsat-* spells all of it out.
OLD_DEFAULTS = {
    **{"_name_or_path": "", "add_cross_attention": False, "architectures": None, "bad_words_ids": None},
    **{"begin_suppress_tokens": None, "chunk_size_feed_forward": 0, "cross_attention_hidden_size": None},
    **{"decoder_start_token_id": None, "diversity_penalty": 0.0, "do_sample": False, "early_stopping": False},
    **{"encoder_no_repeat_ngram_size": 0, "exponential_decay_length_penalty": None, "finetuning_task": None},
    **{"forced_bos_token_id": None, "forced_eos_token_id": None, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
    **{
        "is_decoder": False,
        "is_encoder_decoder": False,
        "label2id": {"LABEL_0": 0, "LABEL_1": 1},
        "length_penalty": 1.0,
    },
    **{"max_length": 20, "min_length": 0, "no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1},
    **{"num_return_sequences": 1, "output_attentions": False, "output_hidden_states": False, "output_scores": False},
    **{"prefix": None, "problem_type": None, "pruned_heads": {}, "remove_invalid_values": False},
    **{"repetition_penalty": 1.0, "return_dict": True, "return_dict_in_generate": False, "sep_token_id": None},
    **{"suppress_tokens": None, "task_specific_params": None, "temperature": 1.0, "tf_legacy_loss": False},
    **{"tie_encoder_decoder": False, "tie_word_embeddings": True, "tokenizer_class": None, "top_k": 50, "top_p": 1.0},
    **{"torch_dtype": None, "torchscript": False, "transformers_version": "4.27.0.dev0", "typical_p": 1.0},
    "use_bfloat16": False,
}
CLAP_TEXT = {
    **{"attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    **{"classifier_dropout": None, "fusion_hidden_size": 768, "fusion_num_hidden_layers": 2, "hidden_act": "gelu"},
    **{"hidden_dropout_prob": 0.1, "initializer_factor": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12},
    **{"max_position_embeddings": 514, "model_type": "clap_text_model", "position_embedding_type": "absolute"},
    **{"projection_hidden_act": "relu", "type_vocab_size": 1, "use_cache": True},
}
CLAP_AUDIO = {
    **{"aff_block_r": 4, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0, "enable_patch_fusion": False},
    **{"enable_patch_layer_norm": True, "flatten_patch_embeds": True, "hidden_act": "gelu", "hidden_dropout_prob": 0.1},
    **{"initializer_factor": 1.0, "layer_norm_eps": 1e-05, "mlp_ratio": 4.0, "model_type": "clap_audio_model"},
    **{"num_classes": 527, "num_mel_bins": 64, "patch_embed_input_channels": 1, "patch_size": 4},
    **{"patch_stride": [4, 4], "projection_hidden_act": "relu", "qkv_bias": True, "spec_size": 256, "window_size": 8},
    "pad_token_id": None,
}
PREPROCESSOR = {
    **{"chunk_length_s": 10, "feature_extractor_type": "ClapFeatureExtractor", "feature_size": 64},
    **{"fft_window_size": 1024, "frequency_max": 14000, "frequency_min": 50, "hop_length": 480, "max_length_s": 10},
    **{"n_fft": 1024, "nb_frequency_bins": 513, "nb_max_frames": 1000, "nb_max_samples": 480000},
    **{"padding": "repeatpad", "padding_side": "right", "padding_value": 0.0, "processor_class": "ClapProcessor"},
    **{"return_attention_mask": False, "sampling_rate": 48000, "top_db": None},
}
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
TINY_AUDIO = {
    **{"depths": [1, 1], "hidden_size": 32, "num_attention_heads": [2, 2], "num_hidden_layers": 2},
    "patch_embeds_hidden_size": 16,
}
DIM = 24  # 512 in earnest
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def clap(folder: Path, layout: str = "unfused", seed: int = 0) -> Path:
    """A CLAP as `unfused` and `fused` (laion/clap-htsat-*), `larger` (laion/larger_clap_*), `foley` (HunyuanVideo-Foley's
    packs), `ldm` (a text_encoder of AudioLDM 2, in float64)."""
    from transformers import ClapConfig, ClapModel

    folder.mkdir(parents=True, exist_ok=True)
    fused = {"enable_fusion": layout == "fused", "fusion_type": None}
    vocabulary = write_tokenizer(folder, ("vocab.json", "merges.txt") if layout == "foley" else TOKENIZER)
    text, audio = {**TINY_TEXT, "vocab_size": vocabulary}, {**TINY_AUDIO, **fused}
    whole = {"architectures": ["ClapModel"], "model_type": "clap", "projection_dim": DIM}
    if layout in ("unfused", "fused"):
        values = {
            **{"_commit_hash": None, "hidden_size": 32, "initializer_factor": 1.0, "projection_hidden_act": "relu"},
            **{"logit_scale_init_value": 14.285714285714285, "num_hidden_layers": 3, "torch_dtype": "float32"},
            **{**whole, "transformers_version": None},
            "audio_config": {**OLD_DEFAULTS, **CLAP_AUDIO, **audio, "projection_dim": DIM},
            "text_config": {**OLD_DEFAULTS, **CLAP_TEXT, **text, "projection_dim": DIM},
        }
    else:  # trimmed: what differs from the defaults alone
        kind = {"torch_dtype": "float64" if layout == "ldm" else "float32", "transformers_version": "4.36.0.dev0"}
        values = {
            **{**whole, **kind, "projection_hidden_act": "relu", "logit_scale_init_value": 14.285714285714285},
            "audio_config": {"model_type": "clap_audio_model", **TINY_AUDIO},
            "text_config": {"model_type": "clap_text_model", **text},
        }
    write_json(folder / "config.json", values)
    if layout != "foley":
        write_json(
            folder / "preprocessor_config.json",
            {**PREPROCESSOR, "truncation": "fusion" if layout == "fused" else "rand_trunc"},
        )
    torch.manual_seed(seed)
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=DIM))
    tensors = _wide_apart(model)
    # As trained, near enough: an untrained one begins elsewhere with older versions of transformers.
    tensors |= {name: torch.tensor(math.log(1 / 0.07)) for name in ("logit_scale_a", "logit_scale_t")}
    # As of 2023: buffers that later versions no longer keep were in the file.
    tensors |= {
        "text_model.embeddings.position_ids": torch.arange(514)[None],
        "text_model.embeddings.token_type_ids": torch.zeros(1, 514, dtype=torch.long),
    }
    if layout == "ldm":
        tensors = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
    if layout in ("foley", "ldm"):
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def pe(folder: Path, layout: str = "pe_audio_video", seed: int = 0) -> Path:
    """A PE as `pe_audio_video` (facebook/pe-av-*), `pe_audio_frame` (facebook/pe-a-frame-*), or plain `pe_audio`."""
    from transformers import PeAudioConfig, PeAudioFrameLevelModel, PeAudioModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder, ("tokenizer.json", "tokenizer_config.json"), "PreTrainedTokenizerFast")
    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {"model_type": "modernbert", **small, "vocab_size": vocabulary, "global_attn_every_n_layers": 1}
    text |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    codec = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 8, 10, 12], "hidden_size": 64, "codebook_dim": 16}
    audio = {"model_type": "pe_audio_encoder", **small, "num_key_value_heads": 2, "head_dim": 16}
    audio["dac_config"] = {"model_type": "dac", **codec}
    kind = {"dtype": "float32", "transformers_version": "5.0.0.dev0"}
    if layout == "pe_audio_video":
        video = {"model_type": "pe_video_encoder", **small, "head_dim": 16}
        video["vision_config"] = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336"}
        both = {"model_type": "pe_audio_video_encoder", **small, "head_dim": 16}
        both |= {"audio_config": audio, "video_config": video}
        values = {"architectures": ["PeAudioVideoModel"], "audio_video_config": both, "model_type": "pe_audio_video"}
    else:
        name = "PeAudioFrameLevelModel" if layout == "pe_audio_frame" else "PeAudioModel"
        values = {"architectures": [name], "audio_config": audio, "model_type": "pe_audio"}
    write_json(folder / "config.json", {**values, **kind, "text_config": text})
    extractor = {"feature_extractor_type": "PeAudioFeatureExtractor", "feature_size": 1, "hop_length": 1920}
    extractor |= {"padding_side": "right", "padding_value": 0.0, "return_attention_mask": True, "sampling_rate": 48000}
    processor = "PeAudioVideoProcessor" if layout == "pe_audio_video" else "PeAudioProcessor"
    write_json(folder / "processor_config.json", {"feature_extractor": extractor, "processor_class": processor})
    torch.manual_seed(seed)
    config = PeAudioConfig(text_config=text, audio_config=audio)
    model = (PeAudioFrameLevelModel if layout == "pe_audio_frame" else PeAudioModel)(config)
    tensors = _wide_apart(model)
    if layout == "pe_audio_video":
        tensors = {n if n.startswith("text_model.") else f"audio_model.{n}": t for n, t in tensors.items()}
        tensors |= {
            **{f"video_model.video_encoder.layers.{n}.mlp.up_proj.weight": torch.zeros(4, 4) for n in range(3)},
            **{"audio_video_encoder.norm.weight": torch.ones(32), "video_model.video_head.weight": torch.zeros(4)},
            **{"audio_plus_text_logit_scale": torch.zeros(1), "text_audio_video_head.proj.weight": torch.zeros(4, 4)},
        }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _wide_apart(model) -> dict[str, torch.Tensor]:
    """A model's tensors with weights so large that different inputs give quite different features."""
    generator, tensors = torch.Generator().manual_seed(1), {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim >= 2 and tensor.is_floating_point():
            fan_in = tensor[0].numel()
            tensor = torch.randn(tensor.shape, generator=generator) * (1.5 / fan_in**0.5)
        tensors[name] = tensor.contiguous().clone()
    return tensors


def write_tokenizer(folder: Path, names: tuple[str, ...], kind: str = "RobertaTokenizer") -> int:
    """The tokenizer files of those names, of a byte-level vocabulary with some merges -> its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("d", "o"), ("do", "g"), ("r", "a"), ("i", "n"), ("ra", "in"), ("Ġ", "dog"), ("Ġ", "rain")]
    words = [*special, *letters, *("".join(pair) for pair in merges), "<mask>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.add_special_tokens([*special, "<mask>"])
    roles = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"}
    roles |= {"pad_token": "<pad>", "mask_token": "<mask>"}
    config = {
        **roles,
        "tokenizer_class": kind,
        "model_max_length": 512,
        "add_prefix_space": False,
        "trim_offsets": True,
    }
    contents = {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n",
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(config),
        "special_tokens_map.json": json.dumps(roles),
    }
    for name in names:
        (folder / name).write_text(contents[name], encoding="utf-8")
    return len(words)


def weights(folder: Path) -> Path:
    """The file of weights of a twin."""
    return next(path for path in (folder / "model.safetensors", folder / "pytorch_model.bin") if path.is_file())


def change_tensors(folder: Path, change) -> None:
    """Replace a twin's tensors by `change(tensors)`."""
    from safetensors.torch import load_file

    path = weights(folder)
    if path.suffix == ".bin":
        torch.save(change(torch.load(path, weights_only=True)), path)
    else:
        save_file(change(load_file(path)), path, metadata={"format": "pt"})
