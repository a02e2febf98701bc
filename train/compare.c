#include "train/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/hf_names.h"
#include "train/networks.h"
#include "train/vocabulary.h"

#define CHUNK ((int64_t)1 << 16) /* elements at a time: an adapter is added in pieces of many rows */

void bif_model_rows(const bif_model_config *config, bif_params *out)
{
    bif_vlm vlm = {0};
    bif_clip clip = {0};
    *out = (bif_params){0};
    if (config->kind == BIF_MODEL_CLIP && config->text.hidden == 0) {
        bif_vit_declare(out, &config->vit, "vision_model.");
    } else if (config->kind == BIF_MODEL_CLIP) {
        bif_clip_declare(&clip, config);
        *out = clip.params;
        clip.params = (bif_params){0};
        bif_clip_free(&clip);
    } else {
        bif_vlm_declare(&vlm, config);
        *out = vlm.params;
        vlm.params = (bif_params){0};
        bif_vlm_free(&vlm);
    }
}

const bif_param **bif_match_rows(const bif_safetensors *set, const bif_params *rows, int64_t *found)
{
    const bif_layout layout = bif_layout_find(set);
    const bif_param **matched = bif_calloc((size_t)bif_safetensors_count(set) + 1, sizeof(*matched));
    int64_t count = 0;
    for (int64_t i = 0; i < rows->count; i++) {
        char *name = bif_layout_name(&layout, rows->items[i].name);
        const bif_st_entry *entry = name == NULL ? NULL : bif_safetensors_find(set, name);
        if (entry != NULL) {
            matched[entry - bif_safetensors_at(set, 0)] = &rows->items[i];
            count++;
        }
        free(name);
    }
    if (found != NULL) {
        *found = count;
    }
    return matched;
}

static bool fits(const bif_st_entry *entry, const bif_param *row)
{
    bool same = entry->rank == row->value.rank;
    int64_t elements = 1;
    for (int i = 0; i < entry->rank; i++) {
        same = same && entry->dim[i] == row->value.dim[i];
        elements *= entry->dim[i];
    }
    return same || (elements == 1 && bif_numel(&row->value) == 1) || bif_vocabulary_continues(entry, row);
}

bif_status bif_row_entries(const char *folder, const bif_safetensors *set, const bif_params *rows, const bif_st_entry ***out)
{
    bif_status st = BIF_OK;
    int64_t found = 0, first = 0;
    const bif_param **row_of = bif_match_rows(set, rows, &found);
    const bif_st_entry **entry_of = bif_calloc((size_t)rows->count + 1, sizeof(*entry_of));
    for (int64_t i = 0; i < bif_safetensors_count(set); i++) {
        if (row_of[i] != NULL) {
            entry_of[row_of[i] - rows->items] = bif_safetensors_at(set, i);
        }
    }
    if (found < rows->count) {
        while (entry_of[first] != NULL) {
            first++;
        }
        const bif_param *row = &rows->items[first];
        const bool tower = row->group == BIF_GROUP_ENCODER && strncmp(row->name, "vision_tower.", 13) == 0;
        st = bif_fail(BIF_ERR_DATA, "%s: %lld of %lld tensors are missing, the first is %s of the %s%s", folder,
                      (long long)(rows->count - found), (long long)rows->count, row->name, bif_group_name(row->group),
                      tower ? "; bifocal import --tower takes it from another folder" : "");
    }
    for (int64_t i = 0; i < rows->count && st == BIF_OK; i++) {
        const bif_st_entry *entry = entry_of[i];
        if (!fits(entry, &rows->items[i])) {
            char want[96], have[96];
            bif_tensor t = {.dtype = entry->dtype, .rank = entry->rank};
            memcpy(t.dim, entry->dim, sizeof t.dim);
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %s is %s, the architecture needs %s", bif_safetensors_path(set, entry), entry->name,
                          bif_shape_text(&t, have, sizeof have), bif_shape_text(&rows->items[i].value, want, sizeof want));
        }
    }
    free(row_of);
    if (st != BIF_OK) {
        free(entry_of);
        return st;
    }
    *out = entry_of;
    return BIF_OK;
}

static bool is_float(bif_dtype dtype)
{
    return dtype == BIF_DTYPE_F32 || dtype == BIF_DTYPE_BF16 || dtype == BIF_DTYPE_F16;
}

static int64_t elements(const bif_st_entry *entry)
{
    return (int64_t)(entry->bytes / bif_dtype_size(entry->dtype));
}

/* Elements [first, first + count) as doubles. Data in a file may be unaligned. */
static void numbers(const bif_st_entry *entry, int64_t first, int64_t count, double *out)
{
    if (is_float(entry->dtype)) {
        float *floats = bif_malloc((size_t)count * sizeof *floats);
        bif_entry_floats(entry, first, count, floats);
        for (int64_t i = 0; i < count; i++) {
            out[i] = (double)floats[i];
        }
        free(floats);
        return;
    }
    const size_t size = bif_dtype_size(entry->dtype);
    const char *from = (const char *)entry->data + (size_t)first * size;
    for (int64_t i = 0; i < count; i++, from += size) {
        int64_t wide = 0;
        int32_t word = 0;
        uint16_t half = 0;
        switch (size) {
        case 8:
            memcpy(&wide, from, 8);
            break;
        case 4:
            memcpy(&word, from, 4);
            wide = word;
            break;
        case 2:
            memcpy(&half, from, 2);
            wide = half;
            break;
        default:
            wide = *(const unsigned char *)from;
        }
        out[i] = (double)wide;
    }
}

bif_difference bif_tensor_difference(const bif_st_entry *a, const bif_st_entry *b)
{
    double size = 0.0, apart = 0.0;
    bif_difference d = {.equal = true};
    const int64_t n = elements(a);
    BIF_BUG_IF(elements(b) != n, "%s has %lld elements, %s %lld", a->name, (long long)n, b->name, (long long)elements(b));
    if (a->dtype == b->dtype && a->delta == NULL && b->delta == NULL && memcmp(a->data, b->data, a->bytes) == 0) {
        return d;
    }
    double *x = bif_malloc((size_t)CHUNK * sizeof *x), *y = bif_malloc((size_t)CHUNK * sizeof *y);
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t count = n - first < CHUNK ? n - first : CHUNK;
        numbers(a, first, count, x);
        numbers(b, first, count, y);
        for (int64_t i = 0; i < count; i++) {
            const bool same = x[i] == y[i] || (isnan(x[i]) && isnan(y[i]));
            const double gap = same ? 0.0 : isfinite(y[i] - x[i]) ? fabs(y[i] - x[i]) : INFINITY;
            d.equal = d.equal && same;
            d.largest = gap > d.largest ? gap : d.largest;
            apart += gap * gap;
            size += isfinite(x[i]) ? x[i] * x[i] : 0.0;
        }
    }
    free(x);
    free(y);
    d.relative = d.equal ? 0.0 : size > 0.0 ? sqrt(apart / size) : INFINITY;
    return d;
}

void bif_tensor_scan(const bif_st_entry *entry, int64_t *nans, int64_t *infinite)
{
    double *x = bif_malloc((size_t)CHUNK * sizeof *x);
    *nans = *infinite = 0;
    const int64_t n = is_float(entry->dtype) ? elements(entry) : 0;
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t count = n - first < CHUNK ? n - first : CHUNK;
        numbers(entry, first, count, x);
        for (int64_t i = 0; i < count; i++) {
            *nans += isnan(x[i]) != 0;
            *infinite += isinf(x[i]) != 0;
        }
    }
    free(x);
}

bool bif_same_shape(const bif_st_entry *a, const bif_st_entry *b)
{
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) {
        same = a->dim[i] == b->dim[i];
    }
    return same;
}
