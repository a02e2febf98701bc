#include "train/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/tokenizer.h"
#include "train/compare.h"
#include "train/hf_folder.h"
#include "train/hf_names.h"
#include "train/vocabulary.h"

#define TOWER "vision_tower"

typedef struct {
    const char *source;
    char *temporary;
    char *tokenizer; /* NULL: none */
    bif_beside beside;
    bif_safetensors *set;
    bif_model_config config;
    bif_params rows;
    const bif_param **row_of;
    const bif_st_entry **entry_of;
    bif_dtype dtype;
    int64_t shard_bytes;
} job;

/* The tokenizer beside the weights, and what it says of <image> where the config says nothing. A folder for transformers gets the token, and
 * rows for it, where the tokenizer has none. */
static bif_status find_tokenizer(job *j, bif_folder_layout layout, const bif_convert_options *o)
{
    bif_status st = BIF_OK;
    bif_tokenizer *tokenizer = NULL;
    j->tokenizer = o->tokenizer != NULL ? bif_strdup(o->tokenizer) : bif_hf_tokenizer(j->source, &j->beside);
    if (j->config.kind != BIF_MODEL_LLAVA) {
        goto done;
    }
    if (o->image_token >= 0) {
        j->config.image_token = (int32_t)o->image_token;
    } else if (j->config.image_token < 0 && j->tokenizer != NULL) {
        BIF_TRY(bif_tokenizer_load(j->tokenizer, &tokenizer));
        if (layout == BIF_FOLDER_LLAVA) {
            j->config.image_token = bif_tokenizer_special(tokenizer, "<image>");
        } else {
            BIF_TRY(bif_vocabulary_fit(&j->config, tokenizer, j->tokenizer));
        }
    }
    if (j->config.image_token >= j->config.decoder.vocab) {
        st = bif_fail(BIF_ERR_CONFIG, "the image token %d is not in the decoder's vocabulary of %lld", (int)j->config.image_token,
                      (long long)j->config.decoder.vocab);
        goto done;
    }
    if (j->config.image_token < 0 && layout != BIF_FOLDER_LLAVA) {
        bif_warn("%s names no token for pictures; give a tokenizer, which gets <image>, or the token's id, before the model is to see any",
                 j->source);
    }
done:
    bif_tokenizer_free(tokenizer);
    return st;
}

static bif_status open_source(job *j, bif_folder_layout layout, const bif_convert_options *o)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_hf_config_read_with(j->source, &j->beside, &j->config));
    if (j->config.kind == BIF_MODEL_CLIP && j->config.text.hidden == 0) {
        st = bif_fail(BIF_ERR_CONFIG, "%s is a vision tower alone; a recipe takes it as model.encoder as it is", j->source);
        goto done;
    }
    if (j->config.kind != BIF_MODEL_LLAVA && (o->tower != NULL || o->projector != NULL)) {
        st = bif_fail(BIF_ERR_CONFIG, "%s is no LLaVA, which alone takes a tower or a projector from elsewhere", j->source);
        goto done;
    }
    BIF_TRY(bif_hf_open_with(j->source, &j->beside, &j->set));
    if (o->projector != NULL) {
        BIF_TRY(bif_hf_replace_projector(j->set, o->projector));
    }
    BIF_TRY(find_tokenizer(j, layout, o));
    bif_model_rows(&j->config, &j->rows);
    j->row_of = bif_match_rows(j->set, &j->rows, NULL);
    BIF_TRY(bif_row_entries(j->source, j->set, &j->rows, &j->entry_of));
done:
    return st;
}

/* The tensors in the order of the table, each under the name it gets; `tower`: only the vision tower, or only the rest, or (NULL) all. */
static int64_t collect(const job *j, const bif_layout *names, const bool *tower, bif_st_copy *out)
{
    int64_t count = 0;
    for (int64_t i = 0; i < j->rows.count; i++) {
        const bif_param *row = &j->rows.items[i];
        const bif_st_entry *entry = j->entry_of[i];
        if (tower == NULL || *tower == (row->group == BIF_GROUP_ENCODER)) {
            bif_tensor t = row->value;
            t.dtype = entry->dtype;
            bif_st_copy *copy = &out[count++];
            copy->name = names == NULL ? bif_strdup(row->name) : bif_layout_name(names, row->name);
            copy->entry = entry;
            copy->shape = t;
            if (bif_vocabulary_continues(entry, row)) {
                copy->rows = bif_vocabulary_draw_as(entry, 0, row->name, row->spare, &copy->row_bytes);
            }
        }
    }
    return count;
}

static bif_status write_weights(const job *j, const char *folder, const bif_layout *names, const bool *tower)
{
    static const char *const metadata[] = {"format", "pt", NULL}; /* transformers refuses a file without it */
    bif_st_copy *out = bif_calloc((size_t)j->rows.count + 1, sizeof(*out));
    const int64_t count = collect(j, names, tower, out);
    const bif_status st = bif_safetensors_copy(folder, j->set, out, count, metadata, j->shard_bytes);
    for (int64_t i = 0; i < count; i++) {
        free((char *)(uintptr_t)out[i].name);
        free((void *)(uintptr_t)out[i].rows);
    }
    free(out);
    return st;
}

static bif_status write_native(const job *j)
{
    static const bool only_tower = true, only_rest = false;
    bif_status st = BIF_OK;
    char *folder = bif_path_join(j->temporary, TOWER);
    const bool linear = j->config.projector.kind == BIF_PROJECTOR_LINEAR;
    const bif_layout names = bif_layout_native(linear ? 0 : j->config.projector.depth);
    const bif_layout tower = {.prefix = {[BIF_PART_VISION] = "vision_model."}};
    const bif_model_config encoder = {.kind = BIF_MODEL_CLIP, .vit = j->config.vit};
    BIF_TRY(bif_hf_config_write_native(j->temporary, &j->config, j->dtype, TOWER));
    BIF_TRY(bif_make_dirs(folder));
    BIF_TRY(bif_hf_config_write_tower(folder, &j->config.vit, j->dtype));
    BIF_TRY(bif_hf_side_files(folder, &encoder, NULL));
    BIF_TRY(write_weights(j, folder, &tower, &only_tower));
    BIF_TRY(write_weights(j, j->temporary, &names, &only_rest));
done:
    free(folder);
    return st;
}

/* The dtype that config.json names: the one most elements have. */
static bif_dtype main_dtype(const bif_safetensors *set)
{
    static const bif_dtype all[] = {BIF_DTYPE_F32, BIF_DTYPE_BF16, BIF_DTYPE_F16};
    size_t count[3] = {0}, best = 0;
    for (int64_t i = 0; i < bif_safetensors_count(set); i++) {
        const bif_st_entry *entry = bif_safetensors_at(set, i);
        for (size_t k = 0; k < 3; k++) {
            count[k] += entry->dtype == all[k] ? entry->bytes / bif_dtype_size(entry->dtype) : 0;
        }
    }
    for (size_t k = 1; k < 3; k++) {
        best = count[k] > count[best] ? k : best;
    }
    return all[best];
}

/* Tensors of the source that have no place in the model. */
static void report_unused(const job *j)
{
    int64_t unused = 0;
    const char *first = "";
    for (int64_t i = 0; i < bif_safetensors_count(j->set); i++) {
        const char *name = bif_safetensors_at(j->set, i)->name;
        if (j->row_of[i] == NULL && strstr(name, "position_ids") == NULL && strstr(name, "rotary_emb.inv_freq") == NULL) {
            first = unused++ == 0 ? name : first;
        }
    }
    if (unused > 0) {
        bif_warn("%s: %lld tensors are no part of the model and were left out, the first is %s", j->source, (long long)unused, first);
    }
}

bif_status bif_convert_folder(const char *source, const char *out, bif_folder_layout layout, const bif_convert_options *options)
{
    bif_status st = BIF_OK;
    job j = {.source = source, .beside = {options->base, options->tower}, .temporary = bif_format("%s.tmp-%ld", out, (long)getpid()),
             .shard_bytes = options->shard_bytes > 0 ? options->shard_bytes : BIF_SHARD_BYTES};
    if (bif_exists(out)) {
        st = bif_fail(BIF_ERR_USAGE, "'%s' is there already; name a new folder", out);
        goto done;
    }
    BIF_TRY(open_source(&j, layout, options));
    j.dtype = main_dtype(j.set);
    BIF_TRY(bif_make_dirs(j.temporary));
    if (layout == BIF_FOLDER_LLAVA) {
        BIF_TRY(write_native(&j));
    } else {
        const bif_layout names = bif_layout_hf();
        const bool renamed = layout == BIF_FOLDER_HF && j.config.kind == BIF_MODEL_LLAVA;
        BIF_TRY(bif_hf_config_write(j.temporary, &j.config, j.dtype));
        BIF_TRY(write_weights(&j, j.temporary, renamed ? &names : NULL, NULL));
    }
    BIF_TRY(bif_hf_side_files(j.temporary, &j.config, j.tokenizer));
    BIF_TRY(bif_rename(j.temporary, out));
    report_unused(&j);
done:
    if (st != BIF_OK) {
        char *reason = bif_strdup(bif_error_message());
        if (bif_remove_tree(j.temporary) != BIF_OK) {
            bif_warn("%s could not be removed: %s", j.temporary, bif_error_message());
        }
        bif_fail(st, "%s", reason);
        free(reason);
    }
    bif_safetensors_close(j.set);
    bif_params_free(&j.rows);
    free(j.row_of);
    free(j.entry_of);
    free(j.tokenizer);
    free(j.temporary);
    return st;
}
