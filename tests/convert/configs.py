"""Configs of every family as it is published, scaled down: keys and kinds of value are those of the models named."""

from __future__ import annotations

from typing import Any

VOCAB, HIDDEN, FFN, HEAD, HEADS, KV, LAYERS = 300, 64, 96, 32, 2, 1, 4
WINDOW = 8
FULL, SLIDING = "full_attention", "sliding_attention"

COMMON: dict[str, object] = {
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 297,
}
GEMMA: dict[str, object] = {
    **COMMON,
    "head_dim": HEAD,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": HEAD,
    "sliding_window": WINDOW,
}
CONFIGS: dict[str, dict[str, Any]] = {
    # meta-llama/Llama-3.2-1B-Instruct
    "llama3": {
        **COMMON,
        "architectures": ["LlamaForCausalLM"],
        "head_dim": HEAD,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 64,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": True,
    },
    # mistralai/Mistral-Nemo-Instruct-2407, whose heads together are not as wide as the model
    "mistral": {
        **COMMON,
        "architectures": ["MistralForCausalLM"],
        "head_dim": 16,
        "num_attention_heads": 3,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    # a Llama with biases on its attention
    "llama-biased": {**COMMON, "architectures": ["LlamaForCausalLM"], "rope_theta": 1e4, "attention_bias": True},
    # Qwen/Qwen2.5-0.5B-Instruct
    "qwen2": {
        **COMMON,
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
    },
    # Qwen/Qwen3-8B, and its YaRN as the card describes it
    "qwen3": {
        **COMMON,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": HEAD,
        "rope_theta": 1000000,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        "tie_word_embeddings": False,
    },
    # google/gemma-2-2b-it
    "gemma2": {
        **GEMMA,
        "architectures": ["Gemma2ForCausalLM"],
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "rope_theta": 10000.0,
    },
    # google/gemma-3-4b-it: the text model's part of a config, with a scaling on the full layers
    "gemma3": {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "eos_token_id": [297],
        "text_config": {
            **GEMMA,
            "num_hidden_layers": 7,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": WINDOW,
        },
    },
    # google/gemma-3-1b-it in the newer dialect: layer types are named
    "gemma3-named": {
        **GEMMA,
        "architectures": ["Gemma3ForCausalLM"],
        "layer_types": [SLIDING, FULL, SLIDING, FULL],
        "rope_parameters": {
            FULL: {"rope_type": "default", "rope_theta": 1000000.0},
            SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
    # google/gemma-4-31b-it: full layers have wider heads and take their keys for values
    "gemma4": {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "text_config": {
            **GEMMA,
            "layer_types": [SLIDING, SLIDING, FULL, FULL],
            "attention_k_eq_v": True,
            "global_head_dim": 64,
            "num_global_key_value_heads": 1,
            "num_key_value_heads": 2,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "final_logit_softcapping": 30.0,
            "rope_parameters": {
                FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    },
    # google/gemma-4-E2B-it: embeddings for each layer, and late layers that share keys and values
    "gemma4-small": {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "text_config": {
            **GEMMA,
            "layer_types": [SLIDING, FULL, SLIDING, FULL],
            "attention_k_eq_v": False,
            "global_head_dim": 64,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "hidden_size_per_layer_input": 32,
            "vocab_size_per_layer_input": VOCAB,
            "rope_parameters": {
                FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    },
}
