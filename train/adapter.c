#include "train/adapter.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "kernels/tensor.h"
#include "train/hf_names.h"
#include "train/safetensors_parts.h"

#define CONFIG_CAP ((size_t)4 << 20)
#define WRAPPER "base_model.model." /* PEFT's two objects around the model */

/* ---- tensors that were trained whole ---- */

/* The name without the wrapper, and where the base has such a tensor, as it is called there. malloc'ed. */
static char *own_name(const bif_safetensors *set, const bif_layout *layout, const char *name, bool *known)
{
    const char *bare = strncmp(name, WRAPPER, strlen(WRAPPER)) == 0 ? name + strlen(WRAPPER) : name;
    const bif_st_entry *entry = bif_layout_same(layout, set, bare);
    *known = entry != NULL;
    return bif_strdup(entry != NULL ? entry->name : bare);
}

static bif_status overlay(const char *folder, bif_safetensors *set)
{
    bif_status st = BIF_OK;
    bif_safetensors *more = NULL;
    const bif_layout layout = bif_layout_find(set);
    char *path = bif_path_join(folder, "non_lora_trainables.bin"), *config = bif_path_join(folder, "config.json");
    json_t *root = NULL;
    if (!bif_exists(path)) {
        const char *type = "";
        BIF_TRY(bif_exists(config) ? bif_json_load_reals(config, CONFIG_CAP, &root) : BIF_OK);
        BIF_TRY(root != NULL ? bif_json_string(config, root, "model_type", false, &type) : BIF_OK);
        if (strncmp(type, "llava", 5) == 0) { /* the base's projector, or none, would be a silent mistake */
            st = bif_fail(BIF_ERR_DATA, "%s is missing: a LLaVA's adapter (%s) goes with the projector that was trained beside it; copy the file", path,
                          config);
        }
        goto done;
    }
    BIF_TRY(bif_safetensors_open(path, &more));
    for (size_t i = 0; i < more->count; i++) {
        bool known = false;
        char *name = own_name(set, &layout, more->entries[i].name, &known);
        if (known) {
            bif_safetensors_drop(set, name);
        }
        free(more->entries[i].name);
        more->entries[i].name = name;
    }
    BIF_TRY(bif_st_lookup(more));
    const bif_layout theirs = bif_layout_find(more), left = bif_layout_find(set);
    if (theirs.prefix[BIF_PART_PROJECTOR] != NULL && left.prefix[BIF_PART_PROJECTOR] != NULL) { /* the base's, under other names */
        bif_safetensors_drop(set, left.prefix[BIF_PART_PROJECTOR]);
    }
    st = bif_safetensors_merge(set, more, "", "");
    more = NULL;
done:
    bif_safetensors_close(more);
    json_decref(root);
    free(config);
    free(path);
    return st;
}

/* ---- factors ---- */

/* base_model.model.MODULE.lora_A.weight: MODULE.weight (malloc'ed), which factor it is, and the name of the other (malloc'ed). False for any
 * other name. */
static bool parse_name(const char *name, bool *is_a, char **weight, char **partner)
{
    static const char *const ends[] = {".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_B.default.weight"};
    const size_t length = strlen(name), skip = strlen(WRAPPER);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t n = strlen(ends[i]);
        if (length > skip + n && strncmp(name, WRAPPER, skip) == 0 && strcmp(name + length - n, ends[i]) == 0) {
            *is_a = i % 2 == 0;
            *weight = bif_format("%.*s.weight", (int)(length - n - skip), name + skip);
            *partner = bif_format("%.*s%s", (int)(length - n), name, ends[i ^ 1]);
            return true;
        }
    }
    return false;
}

static const char *shape_of(const bif_st_entry *entry, char text[96])
{
    bif_tensor t = {.dtype = entry->dtype, .rank = entry->rank};
    memcpy(t.dim, entry->dim, sizeof t.dim);
    return bif_shape_text(&t, text, 96);
}

static bool is_matrix(const bif_st_entry *entry)
{
    return entry->rank == 2 && (entry->dtype == BIF_DTYPE_F32 || entry->dtype == BIF_DTYPE_BF16 || entry->dtype == BIF_DTYPE_F16);
}

/* The delta of one pair upon `target`. */
static bif_status attach(bif_safetensors *set, const char *path, const bif_adapter *adapter, const bif_st_entry *a, const bif_st_entry *b,
                         bif_st_entry *target)
{
    char one[96], two[96], three[96];
    if (!is_matrix(target)) {
        return bif_fail(BIF_ERR_DATA, "%s: %s adapts %s, which is %s in %s; matrices of linear layers can be adapted", path, a->name,
                        target->name, shape_of(target, one), bif_safetensors_path(set, target));
    }
    if (!is_matrix(a) || !is_matrix(b) || a->dim[0] != adapter->rank || b->dim[1] != adapter->rank || a->dim[1] != target->dim[1] ||
        b->dim[0] != target->dim[0]) {
        return bif_fail(BIF_ERR_DATA, "%s: %s is %s and its lora_B %s; of rank %lld on %s, %s in %s, [%lld, %lld] and [%lld, %lld] are wanted",
                        path, a->name, shape_of(a, one), shape_of(b, two), (long long)adapter->rank, target->name, shape_of(target, three),
                        bif_safetensors_path(set, target), (long long)adapter->rank, (long long)target->dim[1], (long long)target->dim[0],
                        (long long)adapter->rank);
    }
    bif_st_delta *delta = bif_calloc(1, sizeof(*delta));
    *delta = (bif_st_delta){*a, *b, adapter->scale, target->delta};
    delta->a.name = delta->b.name = NULL; /* freed with the adapter's own set */
    target->delta = delta;
    set->owned = bif_realloc(set->owned, set->owned_count + 1, sizeof(*set->owned));
    set->owned[set->owned_count++] = delta;
    return BIF_OK;
}

/* One tensor of the adapter; lora_B only to see that it has its lora_A. seen: which tensors of the base this adapter has met. */
static bif_status take(bif_safetensors *set, const bif_layout *layout, const bif_safetensors *lora, const bif_st_entry *entry,
                       const bif_adapter *adapter, bool *seen)
{
    bif_status st = BIF_OK;
    const char *path = bif_safetensors_path(lora, entry);
    char *weight = NULL, *partner = NULL;
    bool is_a = false;
    if (!parse_name(entry->name, &is_a, &weight, &partner)) {
        st = bif_fail(BIF_ERR_DATA, "%s: tensor %s is no factor of a linear layer's adapter (" WRAPPER "*.lora_A.weight, *.lora_B.weight)",
                      path, entry->name);
        goto done;
    }
    const bif_st_entry *other = bif_safetensors_find(lora, partner);
    if (other == NULL) {
        st = bif_fail(BIF_ERR_DATA, "%s: %s is there without %s", path, entry->name, partner);
        goto done;
    }
    if (!is_a) {
        goto done;
    }
    const bif_st_entry *found = bif_layout_same(layout, set, weight);
    if (found == NULL) {
        st = bif_fail(BIF_ERR_DATA, "%s: %s adapts %s, which the base does not have; is it the right base (--base, in a recipe model.base)%s?",
                      path, entry->name, weight, strstr(weight, "vision_tower") != NULL ? ", with its vision tower (--tower)" : "");
        goto done;
    }
    if (seen[found - set->entries]) {
        st = bif_fail(BIF_ERR_DATA, "%s: %s adapts %s a second time", path, entry->name, found->name);
        goto done;
    }
    seen[found - set->entries] = true;
    BIF_TRY(attach(set, path, adapter, entry, other, &set->entries[found - set->entries]));
done:
    free(weight);
    free(partner);
    return st;
}

bif_status bif_adapter_apply(const char *folder, bif_safetensors *base)
{
    bif_status st = BIF_OK;
    bif_adapter adapter = {0};
    bif_safetensors *lora = NULL;
    bool *seen = NULL;
    char *path = bif_path_join(folder, "adapter_model.safetensors"), *other = bif_path_join(folder, "adapter_model.bin");
    BIF_TRY(bif_adapter_read(folder, &adapter));
    if (!bif_exists(path) && !bif_exists(other)) {
        st = bif_fail(BIF_ERR_DATA, "%s: neither adapter_model.safetensors nor adapter_model.bin lies beside adapter_config.json", folder);
        goto done;
    }
    BIF_TRY(bif_safetensors_open(bif_exists(path) ? path : other, &lora));
    BIF_TRY(overlay(folder, base));
    if (lora->count == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s holds no tensors", bif_exists(path) ? path : other);
        goto done;
    }
    const bif_layout layout = bif_layout_find(base);
    seen = bif_calloc(base->count + 1, sizeof *seen);
    for (size_t i = 0; i < lora->count; i++) {
        BIF_TRY(take(base, &layout, lora, &lora->entries[i], &adapter, seen));
    }
    /* The factors stay where they are mapped; as tensors of their own they are gone. */
    bif_safetensors_drop(lora, "");
    st = bif_safetensors_merge(base, lora, "", "");
    lora = NULL;
done:
    bif_safetensors_close(lora);
    bif_adapter_free(&adapter);
    free(seen);
    free(path);
    free(other);
    return st;
}
