#include "train/hf_config_parts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

/* Defaults of the configuration classes of transformers (checked against 5.x): what a partial config.json means. */
static const struct {
    const char *model_type, *architecture;
    int64_t vocab, inner, kv_heads, positions; /* kv_heads 0 = as many as heads */
    int64_t head_dim;                          /* 0 = hidden / heads */
    int32_t bos, eos;
} families[BIF_FAMILIES] = {
    [BIF_FAMILY_LLAMA] = {"llama", "LlamaForCausalLM", 32000, 11008, 0, 2048, 0, 1, 2},
    [BIF_FAMILY_MISTRAL] = {"mistral", "MistralForCausalLM", 32000, 14336, 8, 131072, 0, 1, 2},
    [BIF_FAMILY_QWEN2] = {"qwen2", "Qwen2ForCausalLM", 151936, 22016, 32, 32768, 0, -1, -1},
    [BIF_FAMILY_QWEN3] = {"qwen3", "Qwen3ForCausalLM", 151936, 22016, 32, 32768, 128, -1, -1},
};

const bif_native_class bif_native_classes[BIF_NATIVE_CLASSES] = {{"LlavaLlamaForCausalLM", "llava_llama", BIF_FAMILY_LLAMA},
                                                                 {"LlavaMistralForCausalLM", "llava_mistral", BIF_FAMILY_MISTRAL},
                                                                 {"LlavaQwenForCausalLM", "llava_qwen", BIF_FAMILY_QWEN2}};

bif_status bif_hf_number(const char *where, const json_t *o, const char *key, int64_t fallback, int64_t *out)
{
    *out = fallback;
    return bif_json_i64(where, o, key, false, out);
}

bif_status bif_hf_real(const char *where, const json_t *o, const char *key, double fallback, float *out)
{
    double value = fallback;
    bif_status st = bif_json_f64(where, o, key, false, &value);
    *out = (float)value;
    return st;
}

bool bif_hf_is_null(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    return value == NULL || json_is_null(value);
}

bool bif_hf_says_null(const json_t *o, const char *key)
{
    return json_is_null(json_object_get(o, key));
}

bif_status bif_hf_refuse(const char *where, const char *key, const char *value, const char *have)
{
    return bif_fail(BIF_ERR_CONFIG, "%s: '%s' is %.60s, which is not implemented; %s", where, key, value, have);
}

bif_status bif_hf_token(const char *where, const json_t *o, const char *key, int32_t fallback, int32_t *out)
{
    const json_t *value = json_object_get(o, key);
    *out = fallback;
    if (value == NULL) {
        return BIF_OK;
    }
    if (json_is_array(value) && json_array_size(value) > 0) {
        value = json_array_get(value, 0);
    }
    if (json_is_null(value)) {
        *out = -1;
        return BIF_OK;
    }
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -2;
    if (id < -1 || id > INT32_MAX) {
        return bif_fail(BIF_ERR_CONFIG, "%s: '%s' must be a token id", where, key);
    }
    *out = (int32_t)id;
    return BIF_OK;
}

/* Of the object `rope`, which config.json calls `key`: its kind and that kind's numbers. */
static bif_status read_scaling(const char *where, const json_t *rope, const char *key, const json_t *o, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    const char *type = "default", *name = NULL;
    json_t *value = NULL;
    double factor = 1.0, low = 0.0, high = 0.0;
    char *inside = bif_format("%s: %s", where, key);
    json_object_foreach((json_t *)rope, name, value)
    {
        if (json_is_object(value)) {
            st = bif_hf_refuse(where, key, "given per layer type", "one rope for all layers is");
            goto done;
        }
    }
    BIF_TRY(bif_json_string(inside, rope, "type", false, &type)); /* the older name */
    BIF_TRY(bif_json_string(inside, rope, "rope_type", false, &type));
    if (strcmp(type, "default") == 0) {
        goto done;
    }
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0) {
        st = bif_hf_refuse(where, key, type, "default, linear and llama3 are");
        goto done;
    }
    BIF_TRY(bif_json_f64(inside, rope, "factor", true, &factor));
    c->rope.factor = (float)factor;
    if (strcmp(type, "linear") == 0) {
        int64_t longest = c->positions; /* of Vicuna with 16K: max_position_embeddings is what Llama began with */
        c->rope.kind = BIF_ROPE_LINEAR;
        BIF_TRY(bif_json_i64(where, o, "max_sequence_length", false, &longest));
        c->positions = longest > c->positions ? longest : c->positions;
        goto done;
    }
    c->rope.kind = BIF_ROPE_LLAMA3;
    BIF_TRY(bif_json_f64(inside, rope, "low_freq_factor", true, &low));
    BIF_TRY(bif_json_f64(inside, rope, "high_freq_factor", true, &high));
    c->rope.low = (float)low;
    c->rope.high = (float)high;
    c->rope.original = c->positions;
    BIF_TRY(bif_json_i64(inside, rope, "original_max_position_embeddings", false, &c->rope.original));
    BIF_TRY(bif_json_i64(where, o, "original_max_position_embeddings", false, &c->rope.original)); /* this one goes before */
done:
    free(inside);
    return st;
}

/* As transformers 5 reads it: what rope_scaling says goes before rope_parameters as a whole, theta is looked for inside, then beside it. */
static bif_status read_rope(const char *where, const json_t *o, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    const json_t *rope = NULL;
    const char *key = NULL;
    for (int i = 1; i >= 0; i--) {
        const json_t *value = json_object_get(o, keys[i]);
        if (value != NULL && !json_is_null(value) && !json_is_object(value)) {
            st = bif_fail(BIF_ERR_CONFIG, "%s: '%s' must be an object", where, keys[i]);
            goto done;
        }
        if (json_object_size(value) > 0) {
            rope = value;
            key = keys[i];
        }
    }
    float rotary = 1.0f;
    c->rope = (bif_rope_scaling){.kind = BIF_ROPE_PLAIN};
    BIF_TRY(bif_hf_real(where, o, "rope_theta", 10000.0, &c->rope_theta));
    BIF_TRY(bif_hf_real(where, o, "partial_rotary_factor", 1.0, &rotary));
    if (rope != NULL) {
        BIF_TRY(bif_hf_real(where, rope, "rope_theta", (double)c->rope_theta, &c->rope_theta));
        BIF_TRY(bif_hf_real(where, rope, "partial_rotary_factor", (double)rotary, &rotary));
        BIF_TRY(read_scaling(where, rope, key, o, c));
    }
    if (rotary != 1.0f) {
        st = bif_hf_refuse(where, "partial_rotary_factor", "not 1", "rotation of whole heads is");
    }
done:
    return st;
}

static bif_status read_window(const char *where, const json_t *o, bif_family f, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    bool used = f == BIF_FAMILY_MISTRAL;
    int64_t window = 0, first = 0;
    const json_t *types = json_object_get(o, "layer_types");
    if (f == BIF_FAMILY_QWEN2 || f == BIF_FAMILY_QWEN3) {
        BIF_TRY(bif_json_bool(where, o, "use_sliding_window", false, &used));
        BIF_TRY(bif_hf_number(where, o, "max_window_layers", 28, &first));
        bool sliding = first < c->layers;
        if (json_is_array(types)) {
            sliding = false;
            for (size_t i = 0; i < json_array_size(types); i++) {
                const char *type = json_string_value(json_array_get(types, i));
                if (type == NULL || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0)) {
                    st = bif_hf_refuse(where, "layer_types", type == NULL ? "not a list of names" : type, "full_attention is");
                    goto done;
                }
                sliding = sliding || strcmp(type, "sliding_attention") == 0;
            }
        }
        used = used && sliding;
    }
    if (!used || bif_hf_says_null(o, "sliding_window")) {
        goto done;
    }
    BIF_TRY(bif_hf_number(where, o, "sliding_window", 4096, &window));
    if (window >= 1 && window < c->positions) {
        bif_info("%s: attends over a sliding window of %lld tokens; sequences are limited to that length, where the window has no effect",
                 where, (long long)window);
        c->positions = window;
    }
done:
    return st;
}

bif_status bif_hf_read_decoder(const char *where, const json_t *o, bif_family f, bif_decoder_config *c)
{
    bif_status st = BIF_OK;
    const char *act = "silu";
    bool bias = false, mlp_bias = false;
    BIF_TRY(bif_json_string(where, o, "hidden_act", false, &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) {
        st = bif_hf_refuse(where, "hidden_act", act, "silu is");
        goto done;
    }
    if (!bif_hf_is_null(o, "quantization_config")) {
        st = bif_hf_refuse(where, "quantization_config", "given", "unquantised weights are");
        goto done;
    }
    BIF_TRY(bif_hf_number(where, o, "hidden_size", 4096, &c->hidden));
    BIF_TRY(bif_hf_number(where, o, "num_hidden_layers", 32, &c->layers));
    BIF_TRY(bif_hf_number(where, o, "num_attention_heads", 32, &c->heads));
    const int64_t kv = families[f].kv_heads == 0 || bif_hf_says_null(o, "num_key_value_heads") ? c->heads : families[f].kv_heads;
    BIF_TRY(bif_hf_number(where, o, "num_key_value_heads", kv, &c->kv_heads));
    const bool derived = families[f].head_dim == 0 || bif_hf_says_null(o, "head_dim");
    BIF_TRY(bif_hf_number(where, o, "head_dim", derived ? (c->heads > 0 ? c->hidden / c->heads : 0) : families[f].head_dim, &c->head_dim));
    BIF_TRY(bif_hf_number(where, o, "intermediate_size", families[f].inner, &c->inner));
    BIF_TRY(bif_hf_number(where, o, "vocab_size", families[f].vocab, &c->vocab));
    BIF_TRY(bif_hf_number(where, o, "max_position_embeddings", families[f].positions, &c->positions));
    BIF_TRY(bif_hf_real(where, o, "rms_norm_eps", 1e-6, &c->eps));
    BIF_TRY(read_rope(where, o, c));
    BIF_TRY(read_window(where, o, f, c));
    if (f == BIF_FAMILY_LLAMA || f == BIF_FAMILY_QWEN3) {
        BIF_TRY(bif_json_bool(where, o, "attention_bias", false, &bias));
    }
    if (f == BIF_FAMILY_LLAMA) {
        BIF_TRY(bif_json_bool(where, o, "mlp_bias", false, &mlp_bias));
    }
    c->qkv_bias = bias || f == BIF_FAMILY_QWEN2;
    c->o_bias = bias;
    c->mlp_bias = mlp_bias;
    c->qk_norm = f == BIF_FAMILY_QWEN3;
    c->mistral = f == BIF_FAMILY_MISTRAL;
    BIF_TRY(bif_json_bool(where, o, "tie_word_embeddings", false, &c->tied));
    BIF_TRY(bif_hf_token(where, o, "bos_token_id", families[f].bos, &c->bos));
    BIF_TRY(bif_hf_token(where, o, "eos_token_id", families[f].eos, &c->eos));
done:
    return st;
}

const char *bif_hf_family_type(bif_family family)
{
    return families[family].model_type;
}

const char *bif_hf_family_architecture(bif_family family)
{
    return families[family].architecture;
}

bif_status bif_hf_family_of(const char *where, const char *model_type, const char *architecture, bif_family *out)
{
    for (int f = 0; f < BIF_FAMILIES; f++) {
        const char *have = architecture != NULL ? families[f].architecture : families[f].model_type;
        if (strcmp(have, architecture != NULL ? architecture : model_type) == 0) {
            *out = (bif_family)f;
            return BIF_OK;
        }
    }
    return bif_hf_refuse(where, architecture != NULL ? "architectures" : "model_type", architecture != NULL ? architecture : model_type,
                  "llama, mistral, qwen2 and qwen3 decoders are, and CLIPModel, CLIPVisionModel and LlavaForConditionalGeneration");
}
