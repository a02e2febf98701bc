#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/adapter.h"
#include "train/hf_config_parts.h"

#define CONFIG_CAP ((size_t)4 << 20)
#define RANK_CAP 65536

/* Settings that change what A and B mean, or say that more was trained than A and B. All are off in what LLaVA and PEFT's defaults write. */
static const char *const must_be_off[] = {"use_dora", "lora_bias", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern",
                                          "layer_replication", "trainable_token_indices", "target_parameters", "alora_invocation_tokens",
                                          "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config"};
/* Ways of initialising that change the base too: what was saved does not fit the base as it is. */
static const char *const bad_inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

static bool is_off(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static bif_status check_options(const char *where, const json_t *root)
{
    for (size_t i = 0; i < sizeof must_be_off / sizeof *must_be_off; i++) {
        if (!is_off(json_object_get(root, must_be_off[i]))) {
            return bif_hf_refuse(where, must_be_off[i], "set", "adapters without it are; merge this one with PEFT");
        }
    }
    const char *init = json_string_value(json_object_get(root, "init_lora_weights"));
    for (size_t i = 0; init != NULL && i < sizeof bad_inits / sizeof *bad_inits; i++) {
        if (strncmp(init, bad_inits[i], strlen(bad_inits[i])) == 0) {
            return bif_hf_refuse(where, "init_lora_weights", init, "ways that leave the base as it is are");
        }
    }
    return BIF_OK;
}

bool bif_adapter_is(const char *folder)
{
    char *path = bif_path_join(folder, "adapter_config.json");
    const bool is = bif_exists(path);
    free(path);
    return is;
}

bif_status bif_adapter_read(const char *folder, bif_adapter *out)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    const char *type = "", *bias = "none", *base = "";
    bool rslora = false;
    bif_adapter a = {.alpha = 8.0}; /* PEFT's defaults */
    char *path = bif_path_join(folder, "adapter_config.json");
    BIF_TRY(bif_json_load_file(path, CONFIG_CAP, &root));
    BIF_TRY(bif_json_string(path, root, "peft_type", true, &type));
    if (strcmp(type, "LORA") != 0) {
        st = bif_hf_refuse(path, "peft_type", type, "LORA is");
        goto done;
    }
    BIF_TRY(bif_json_string(path, root, "bias", false, &bias));
    if (strcmp(bias, "none") != 0) {
        st = bif_hf_refuse(path, "bias", bias, "none is");
        goto done;
    }
    BIF_TRY(check_options(path, root));
    BIF_TRY(bif_json_i64(path, root, "r", true, &a.rank));
    BIF_TRY(bif_json_f64(path, root, "lora_alpha", false, &a.alpha));
    BIF_TRY(bif_json_bool(path, root, "use_rslora", false, &rslora));
    BIF_TRY(bif_json_string(path, root, "base_model_name_or_path", false, &base));
    if (a.rank < 1 || a.rank > RANK_CAP || !isfinite(a.alpha)) {
        st = bif_fail(BIF_ERR_CONFIG, "%s: r is %lld and lora_alpha %g, which cannot be", path, (long long)a.rank, a.alpha);
        goto done;
    }
    a.scale = (float)(a.alpha / (rslora ? sqrt((double)a.rank) : (double)a.rank));
    a.base = bif_strdup(base);
    *out = a;
done:
    json_decref(root);
    free(path);
    return st;
}

void bif_adapter_free(bif_adapter *adapter)
{
    free(adapter->base);
    *adapter = (bif_adapter){0};
}

bif_status bif_adapter_base(const char *folder, const char *given, char **out)
{
    bif_status st = BIF_OK;
    bif_adapter adapter = {0};
    BIF_TRY(bif_adapter_read(folder, &adapter));
    const char *base = given != NULL ? given : adapter.base;
    if (given == NULL && (base[0] == '\0' || !bif_exists(base))) {
        st = bif_fail(BIF_ERR_CONFIG, "%s is an adapter, and its base_model_name_or_path '%s' is no folder here; name the base's folder by --base, "
                      "or in a recipe by model.base", folder, base);
        goto done;
    }
    if (given != NULL && !bif_hf_is_folder(given)) {
        st = bif_fail(BIF_ERR_CONFIG, "%s, the base of the adapter %s, holds no config.json; name a Hugging Face folder (of a run one of its step_* "
                      "folders)", given, folder);
        goto done;
    }
    *out = bif_strdup(base);
done:
    bif_adapter_free(&adapter);
    return st;
}
