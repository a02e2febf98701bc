#include "train/hf_folder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/tokenizer.h"
#include "kernels/convert.h"
#include "train/adapter.h"
#include "train/hf_names.h"
#include "train/safetensors.h"
#include "train/vocabulary.h"

#define CHUNK_ELEMENTS ((int64_t)1 << 18) /* 1 MiB of host memory between the file's dtype and the table's */

static bif_tensor entry_shape(const bif_st_entry *entry)
{
    bif_tensor t = {.dtype = entry->dtype, .rank = entry->rank};
    memcpy(t.dim, entry->dim, sizeof t.dim);
    return t;
}

static bool same_shape(const bif_tensor *a, const bif_tensor *b)
{
    if (bif_numel(a) == 1 && bif_numel(b) == 1) {
        return true; /* logit_scale is [] in transformers and [1] in folders that FSDP wrote */
    }
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) {
        same = a->dim[i] == b->dim[i];
    }
    return same;
}

/* The file's numbers into `to`, which may be the first rows of a table row. */
static bif_status copy_entry(const bif_safetensors *set, const bif_st_entry *entry, const bif_tensor *to, bif_device *device)
{
    bif_status st = BIF_OK;
    if (entry->dtype == to->dtype && entry->delta == NULL) {
        device->copy_in(device, to->data, entry->data, entry->bytes);
        return BIF_OK;
    }
    const int64_t numel = bif_numel(to);
    float *host = bif_malloc((size_t)CHUNK_ELEMENTS * sizeof *host);
    for (int64_t first = 0; first < numel && st == BIF_OK; first += CHUNK_ELEMENTS) {
        const bif_tensor part = bif_part2(to, first, numel - first < CHUNK_ELEMENTS ? numel - first : CHUNK_ELEMENTS, 1);
        st = bif_safetensors_read_part_f32(set, entry, first, part.dim[0], host);
        if (st == BIF_OK) {
            bif_copy_in_f32(device, &part, host);
        }
    }
    free(host);
    return st;
}

/* A folder's table lacks the rows of tokens that were added since: they are drawn. */
static bif_status load_grown(const bif_safetensors *set, const bif_st_entry *entry, const bif_params *params, bif_param *p)
{
    bif_status st = BIF_OK;
    float *rows = NULL;
    const bif_tensor old = bif_rows(&p->value, 0, entry->dim[0]), new = bif_rows(&p->value, entry->dim[0], p->spare);
    BIF_TRY(copy_entry(set, entry, &old, params->device));
    rows = bif_malloc((size_t)bif_numel(&new) * sizeof *rows);
    bif_vocabulary_draw(entry, params->seed, p->name, p->spare, rows);
    bif_copy_in_f32(params->device, &new, rows);
done:
    free(rows);
    return st;
}

static bif_status load_row(const bif_safetensors *set, const bif_st_entry *entry, const bif_params *params, bif_param *p)
{
    char have[96], want[96];
    const bif_tensor shape = entry_shape(entry);
    if (same_shape(&shape, &p->value)) {
        return copy_entry(set, entry, &p->value, params->device);
    }
    if (bif_vocabulary_continues(entry, p)) {
        return load_grown(set, entry, params, p);
    }
    return bif_fail(BIF_ERR_DATA, "%s: tensor %s is %s, the model needs %s; check that config.json and the weights belong together",
                    bif_safetensors_path(set, entry), entry->name, bif_shape_text(&shape, have, sizeof have),
                    bif_shape_text(&p->value, want, sizeof want));
}

/* Buffers that old files carry and no model needs. */
static bool is_buffer(const char *name)
{
    return strstr(name, "position_ids") != NULL || strstr(name, "rotary_emb.inv_freq") != NULL;
}

/* Tensors of the parts that were asked for and that no row wanted: a sign of a config that does not fit. */
static void report_unknown(const char *folder, const bif_safetensors *set, const bif_layout *layout, const bool *used, unsigned parts,
                           bool whole)
{
    int64_t count = 0;
    char *first = bif_strdup("");
    for (int64_t i = 0; i < bif_safetensors_count(set); i++) {
        const char *name = bif_safetensors_at(set, i)->name;
        bool asked = whole;
        for (int p = 0; p < BIF_PARTS && !asked; p++) {
            asked = (parts & 1u << p) != 0 && layout->prefix[p] != NULL && layout->prefix[p][0] != '\0' &&
                    bif_layout_holds(layout, (bif_part)p, name);
        }
        if (used[i] || !asked || is_buffer(name)) {
            continue;
        }
        if (++count <= 3) {
            char *longer = bif_format("%s%s%s", first, count > 1 ? ", " : "", name);
            free(first);
            first = longer;
        }
    }
    if (count > 0) {
        bif_warn("%s: %" PRId64 " tensors are not used by this model: %s%s", folder, count, first, count > 3 ? ", ..." : "");
    }
    free(first);
}

#define DEPTH_CAP 8 /* adapters upon adapters, and towers of towers */

static bif_status open_at(const char *folder, const bif_beside *beside, int depth, bif_safetensors **out);

/* The part's tensors of `path` into the set under the names the part has in the layout of LLaVA's authors. */
static bif_status replace(bif_safetensors *set, const char *path, bif_part part, int depth)
{
    bif_status st = BIF_OK;
    bif_safetensors *other = NULL;
    BIF_TRY(open_at(path, &(bif_beside){0}, depth, &other));
    const bif_layout old = bif_layout_find(set), theirs = bif_layout_find(other);
    const char *prefix = theirs.prefix[part];
    if (prefix == NULL) {
        st = bif_fail(BIF_ERR_DATA, "%s holds no %s", path, part == BIF_PART_VISION ? "vision tower" : "projector");
        goto done;
    }
    if (old.prefix[part] != NULL) {
        bif_safetensors_drop(set, old.prefix[part]);
    }
    const bool native = part == BIF_PART_VISION || theirs.projector_step > 0;
    const char *name = native ? bif_layout_native(0).prefix[part] : "multi_modal_projector.";
    st = bif_safetensors_merge(set, other, prefix, name);
    other = NULL;
done:
    bif_safetensors_close(other);
    return st;
}

bif_status bif_hf_replace_projector(bif_safetensors *set, const char *path)
{
    return replace(set, path, BIF_PART_PROJECTOR, 0);
}

static bif_status open_at(const char *folder, const bif_beside *beside, int depth, bif_safetensors **out)
{
    bif_status st = BIF_OK;
    bif_safetensors *set = NULL;
    const bool adapter = bif_adapter_is(folder);
    char *tower = NULL, *base = NULL;
    if (depth > DEPTH_CAP) {
        st = bif_fail(BIF_ERR_DATA, "%s: more than %d folders that name each other as base or tower", folder, DEPTH_CAP);
        goto done;
    }
    if (adapter) {
        BIF_TRY(bif_adapter_base(folder, beside->base, &base));
        BIF_TRY(open_at(base, &(bif_beside){0}, depth + 1, &set));
    } else if (beside->base != NULL) {
        BIF_TRY(bif_fail(BIF_ERR_CONFIG, "%s is no adapter (it has no adapter_config.json) and takes no base", folder));
    } else {
        BIF_TRY(bif_safetensors_open(folder, &set));
    }
    if (beside->tower != NULL) {
        tower = bif_strdup(beside->tower);
    } else if (adapter || bif_layout_find(set).prefix[BIF_PART_VISION] == NULL) {
        BIF_TRY(bif_hf_tower_of(folder, &tower));
    }
    if (tower != NULL) {
        BIF_TRY(replace(set, tower, BIF_PART_VISION, depth + 1));
    }
    if (adapter) {
        BIF_TRY(bif_adapter_apply(folder, set));
    }
    *out = set;
    set = NULL;
done:
    bif_safetensors_close(set);
    free(tower);
    free(base);
    return st;
}

bif_status bif_hf_open_with(const char *folder, const bif_beside *beside, bif_safetensors **out)
{
    return open_at(folder, beside == NULL ? &(bif_beside){0} : beside, 0, out);
}

bif_status bif_hf_open(const char *folder, bif_safetensors **out)
{
    return bif_hf_open_with(folder, NULL, out);
}

char *bif_hf_tokenizer(const char *folder, const bif_beside *beside)
{
    char *found = bif_tokenizer_in(folder), *base = NULL, *last = bif_strdup(folder);
    for (int depth = 0; found == NULL && depth <= DEPTH_CAP && bif_adapter_is(last); depth++) {
        if (bif_adapter_base(last, depth == 0 ? beside->base : NULL, &base) != BIF_OK) {
            bif_error_clear();
            break;
        }
        free(last);
        last = base;
        found = bif_tokenizer_in(last);
    }
    free(last);
    return found;
}

bif_status bif_hf_load(const char *folder, bif_params *params, unsigned only)
{
    return bif_hf_load_with(folder, NULL, params, only);
}

bif_status bif_hf_load_with(const char *folder, const bif_beside *beside, bif_params *params, unsigned only)
{
    bif_status st = BIF_OK;
    bif_safetensors *set = NULL;
    bool *used = NULL, whole = (only & (only - 1)) != 0; /* one group alone is a part, whatever else the table lacks */
    unsigned asked_parts = 0;
    char *name = NULL;
    BIF_TRY(bif_hf_open_with(folder, beside, &set));
    const bif_layout layout = bif_layout_find(set);
    used = bif_calloc((size_t)bif_safetensors_count(set) + 1, sizeof(*used));
    for (int64_t i = 0; i < params->count; i++) {
        bif_param *p = &params->items[i];
        const char *tail = NULL;
        const bool wanted = (only & 1u << p->group) != 0;
        whole = whole && wanted;
        name = bif_layout_name(&layout, p->name);
        const bif_st_entry *entry = name == NULL ? NULL : bif_safetensors_find(set, name);
        if (wanted && entry == NULL && strcmp(p->name, "logit_bias") == 0) {
            bif_info("%s: holds no logit_bias, as Hugging Face folders of CLIP do; it starts at its initial value", folder);
            free(name);
            name = NULL;
            continue;
        }
        if (wanted && entry == NULL) {
            st = bif_fail(BIF_ERR_DATA, "%s: no tensor for %s of the %s%s%s; give a folder that holds it, or leave the key out to start it "
                                        "at random",
                          folder, p->name, bif_group_name(p->group), name == NULL ? "" : ", looked for as ", name == NULL ? "" : name);
            goto done;
        }
        if (entry != NULL) {
            used[entry - bif_safetensors_at(set, 0)] = true;
        }
        if (wanted) {
            asked_parts |= 1u << bif_part_of(p->name, &tail);
            BIF_TRY(load_row(set, entry, params, p));
            bif_safetensors_release(set, entry);
        }
        free(name);
        name = NULL;
    }
    report_unknown(folder, set, &layout, used, asked_parts, whole);
done:
    free(name);
    free(used);
    bif_safetensors_close(set);
    return st;
}

bif_status bif_hf_save_weights(const char *folder, const bif_params *params, char digest[33], uint64_t *bytes)
{
    static const char *const metadata[] = {"format", "pt", NULL}; /* transformers refuses a file without it */
    bif_st_out *out = bif_calloc((size_t)params->count + 1, sizeof(*out));
    char *path = bif_path_join(folder, "model.safetensors");
    for (int64_t i = 0; i < params->count; i++) {
        out[i] = (bif_st_out){params->items[i].name, params->items[i].value,
                              params->device->kind == BIF_DEVICE_CPU ? NULL : params->device};
    }
    bif_status st = bif_safetensors_write(path, out, params->count, metadata, digest, bytes);
    free(path);
    free(out);
    return st;
}

bif_status bif_hf_save(const char *folder, const bif_model_config *config, const bif_params *params, const char *tokenizer_path)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_hf_config_write(folder, config, params->dtype));
    BIF_TRY(bif_hf_side_files(folder, config, tokenizer_path));
    BIF_TRY(bif_hf_save_weights(folder, params, NULL, NULL));
done:
    return st;
}
