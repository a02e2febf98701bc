#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/adapter.h"
#include "train/hf_names.h"
#include "train/lora.h"
#include "train/torch_write.h"

#define WRAPPER "base_model.model."
#define WEIGHTS "adapter_model.safetensors"
#define WHOLE "non_lora_trainables.bin"

/* What the folder's names look like. */
static bif_layout layout_of(const bif_model_config *config, bool native)
{
    const bool names = native || config->kind == BIF_MODEL_DECODER;
    return names ? bif_layout_native(config->projector.kind == BIF_PROJECTOR_LINEAR ? 0 : config->projector.depth) : bif_layout_hf();
}

static bif_status write_settings(const char *folder, const bif_lora_config *lora, const char *base)
{
    json_t *targets = json_array();
    for (int i = 0; i < BIF_LORA_TARGETS; i++) {
        if (lora->targets >> i & 1u) {
            json_array_append_new(targets, json_string(bif_lora_name((bif_lora_target)i)));
        }
    }
    const double alpha = (double)lora->alpha;
    json_t *o = json_pack("{s:n, s:s, s:s, s:b, s:b, s:b, s:n, s:n, s:o, s:f, s:n, s:s, s:I, s:n, s:o, s:s}", "auto_mapping",
                          "base_model_name_or_path", base, "bias", "none", "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1,
                          "layers_pattern", "layers_to_transform", "lora_alpha",
                          alpha == floor(alpha) ? json_integer((json_int_t)alpha) : json_real(alpha), "lora_dropout", (double)lora->dropout,
                          "modules_to_save", "peft_type", "LORA", "r", (json_int_t)lora->rank, "revision", "target_modules", targets,
                          "task_type", "CAUSAL_LM");
    BIF_BUG_IF(o == NULL, "adapter_config.json does not encode");
    char *path = bif_path_join(folder, "adapter_config.json");
    const bif_status st = bif_json_save_file(path, o);
    free(path);
    json_decref(o);
    return st;
}

/* Rows of adapters, or the others that the folder holds; as files name them (names malloc'ed). */
static int64_t collect(const bif_params *params, const bif_layout *layout, bool adapters, bool tower, bif_st_out *out)
{
    int64_t count = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        const bool whole = p->trainable || p->group == BIF_GROUP_PROJECTOR || (tower && p->group == BIF_GROUP_ENCODER);
        if (adapters ? p->group == BIF_GROUP_LORA : p->group != BIF_GROUP_LORA && whole) {
            char *name = bif_layout_name(layout, p->name);
            out[count++] = (bif_st_out){bif_format(WRAPPER "%s", name), p->value, params->device->kind == BIF_DEVICE_CPU ? NULL : params->device};
            free(name);
        }
    }
    return count;
}

bif_status bif_adapter_write(const char *folder, const bif_model_config *config, const bif_params *params, const bif_beside *from)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    bif_status st = BIF_OK;
    bif_model_config base = *config;
    const bool native = from->tower != NULL && bif_hf_native_fits(config);
    const bif_layout layout = layout_of(config, native);
    bif_st_out *out = bif_calloc((size_t)params->count + 1, sizeof(*out));
    char *weights = bif_path_join(folder, WEIGHTS), *whole = bif_path_join(folder, WHOLE);
    int64_t count = 0;
    BIF_TRY(bif_hf_config_read(from->base, &base));
    BIF_TRY(bif_hf_config_write_adapter(folder, config, params->dtype, from->tower, native, base.decoder.vocab));
    BIF_TRY(write_settings(folder, &config->decoder.lora, from->base));
    count = collect(params, &layout, true, false, out);
    BIF_TRY(bif_safetensors_write(weights, out, count, metadata, NULL, NULL));
    for (int64_t i = 0; i < count; i++) {
        free((char *)(uintptr_t)out[i].name);
    }
    count = collect(params, &layout, false, from->tower == NULL, out);
    if (count > 0) {
        BIF_TRY(bif_torch_write(whole, out, count));
    }
done:
    for (int64_t i = 0; i < count; i++) {
        free((char *)(uintptr_t)out[i].name);
    }
    free(out);
    free(weights);
    free(whole);
    return st;
}

/* The tensor of a row, under whichever of the names above; NULL when there is none. */
static const bif_st_entry *find(const bif_safetensors *set, const char *row)
{
    const bif_layout layouts[] = {bif_layout_native(2), bif_layout_native(0), bif_layout_hf()};
    const bif_st_entry *entry = NULL;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts && entry == NULL; i++) {
        char *name = bif_layout_name(&layouts[i], row), *full = bif_format(WRAPPER "%s", name);
        entry = bif_safetensors_find(set, full);
        free(name);
        free(full);
    }
    return entry;
}

bif_status bif_adapter_load(const char *folder, bif_params *params)
{
    bif_status st = BIF_OK;
    bif_safetensors *set = NULL, *more = NULL;
    char *weights = bif_path_join(folder, WEIGHTS), *whole = bif_path_join(folder, WHOLE);
    BIF_TRY(bif_safetensors_open(weights, &set));
    if (bif_exists(whole)) {
        BIF_TRY(bif_safetensors_open(whole, &more));
        st = bif_safetensors_merge(set, more, "", "");
        more = NULL;
        BIF_TRY(st);
    }
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        const bif_st_entry *entry = find(set, p->name);
        if (entry == NULL && !p->trainable && p->group != BIF_GROUP_LORA) {
            continue;
        }
        bool same = entry != NULL && entry->dtype == p->value.dtype && entry->rank == p->value.rank;
        for (int k = 0; same && k < entry->rank; k++) {
            same = entry->dim[k] == p->value.dim[k];
        }
        if (!same) {
            char want[96];
            st = bif_fail(BIF_ERR_DATA, "%s: %s, which is %s in this run, %s", folder, p->name, bif_shape_text(&p->value, want, sizeof want),
                          entry == NULL ? "is not there; was another part of the model trained?" : "has another shape or dtype there");
            goto done;
        }
        params->device->copy_in(params->device, p->value.data, entry->data, entry->bytes);
    }
done:
    bif_safetensors_close(set);
    free(weights);
    free(whole);
    return st;
}
