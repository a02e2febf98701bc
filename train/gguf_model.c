#include "train/gguf_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/image.h"
#include "data/tokenizer.h"
#include "train/compare.h"
#include "train/hf_folder.h"
#include "train/hf_names.h"
#include "train/vocabulary.h"

typedef struct {
    const char *source;
    const bif_gguf_options *options;
    const char *name;
    const char *arch;   /* of the decoder, as llama.cpp calls it */
    bool by_neighbours; /* so it rotates q and k */
    char *tokenizer, *temporary;
    bif_safetensors *set;
    bif_model_config config;
    bif_params rows;
    const bif_st_entry **entry_of;
} job;

typedef struct {
    const char *here, *there;
} name_pair;

/* ---- numbers of a tensor ---- */

typedef struct {
    const bif_safetensors *set;
    const bif_st_entry *entry;
    int64_t columns, head; /* q and k: columns of a row, rows of a head */
    int64_t in;            /* of a linear projector */
    bif_rope_scaling rope; /* of the divisors of the frequencies; with theta and head */
    float theta;
} origin;

/* With the last number the file's pages are given back: memory does not fill with a model on its way. */
static void floats(const origin *o, int64_t first, int64_t count, float *out)
{
    bif_entry_floats(o->entry, first, count, out);
    if ((size_t)(first + count) * bif_dtype_size(o->entry->dtype) == o->entry->bytes) {
        bif_safetensors_release(o->set, o->entry);
    }
}

static void read_plain(const void *context, int64_t first, int64_t count, float *out)
{
    floats(context, first, count, out);
}

/* q and k for llama.cpp's rope over neighbours (x0 x1)(x2 x3)...: in a head of width d its row 2i + s is our row i + s d/2. */
static void read_rotated(const void *context, int64_t first, int64_t count, float *out)
{
    const origin *o = context;
    while (count > 0) {
        const int64_t row = first / o->columns, at = first % o->columns, within = row % o->head;
        const int64_t ours = row - within + within / 2 + within % 2 * (o->head / 2);
        const int64_t some = o->columns - at < count ? o->columns - at : count;
        floats(o, ours * o->columns + at, some, out);
        first += some;
        count -= some;
        out += some;
    }
}

/* llama.cpp puts a GELU behind the first layer whether or not there is a second. gelu(x) - gelu(-x) = x for both of its forms, so a linear
 * projector W x + b is the MLP with the layers [I; -I] and [W, -W] + b. */
static void read_mirror(const void *context, int64_t first, int64_t count, float *out)
{
    const origin *o = context;
    for (int64_t i = first; i < first + count; i++) {
        const int64_t row = i / o->in, column = i % o->in;
        *out++ = row == column ? 1.0f : row - o->in == column ? -1.0f : 0.0f;
    }
}

static void read_zeros(const void *context, int64_t first, int64_t count, float *out)
{
    (void)context;
    (void)first;
    memset(out, 0, (size_t)count * sizeof *out);
}

static void read_difference(const void *context, int64_t first, int64_t count, float *out)
{
    const origin *o = context;
    while (count > 0) {
        const int64_t row = first / (2 * o->in), at = first % (2 * o->in), column = at % o->in;
        const int64_t some = o->in - column < count ? o->in - column : count;
        floats(o, row * o->in + column, some, out);
        for (int64_t i = 0; i < some && at >= o->in; i++) {
            out[i] = -out[i];
        }
        first += some;
        count -= some;
        out += some;
    }
}

static void read_divisors(const void *context, int64_t first, int64_t count, float *out)
{
    const origin *o = context;
    for (int64_t i = first; i < first + count; i++) {
        *out++ = (float)bif_rope_divisor(&o->rope, o->theta, i, o->head);
    }
}

static void put_tensor(bif_gguf *file, const char *name, int rank, const int64_t *dim, bif_gguf_type type, bif_gguf_read read, origin o)
{
    origin *context = bif_malloc(sizeof *context);
    *context = o;
    bif_gguf_tensor(file, name, rank, dim, type, read, context);
}

/* ---- names ---- */

/* Writes what llama.cpp calls a tensor: the pair whose `here` begins its tail, and what follows it. False when none does. */
static bool rename_tail(const name_pair *pairs, const char *tail, const char *before, char *out, size_t size)
{
    for (; pairs->here != NULL; pairs++) {
        const size_t n = strlen(pairs->here);
        if (strncmp(tail, pairs->here, n) == 0) {
            const int used = snprintf(out, size, "%s%s%s", before, pairs->there, tail + n);
            BIF_BUG_IF(used < 0 || (size_t)used >= size, "%s%s is too long a name", before, tail);
            return true;
        }
    }
    return false;
}

/* The block's number in "PREFIXn.TAIL", with *tail behind it; -1 when it is none. */
static int64_t block_of(const char *prefix, const char **tail)
{
    const size_t n = strlen(prefix);
    char *end = NULL;
    if (strncmp(*tail, prefix, n) != 0) {
        return -1;
    }
    const long long block = strtoll(*tail + n, &end, 10);
    *tail = end + 1;
    return block;
}

static const name_pair decoder_names[] = {{"embed_tokens.", "token_embd."}, {"norm.", "output_norm."}, {0}};
static const name_pair decoder_block[] = {{"input_layernorm.", "attn_norm."}, {"self_attn.q_proj.", "attn_q."},
                                          {"self_attn.k_proj.", "attn_k."},   {"self_attn.v_proj.", "attn_v."},
                                          {"self_attn.o_proj.", "attn_output."}, {"self_attn.q_norm.", "attn_q_norm."},
                                          {"self_attn.k_norm.", "attn_k_norm."}, {"post_attention_layernorm.", "ffn_norm."},
                                          {"mlp.gate_proj.", "ffn_gate."},    {"mlp.up_proj.", "ffn_up."},
                                          {"mlp.down_proj.", "ffn_down."},    {0}};
static const name_pair tower_names[] = {{"embeddings.class_embedding", "v.class_embd"}, {"embeddings.patch_embedding.", "v.patch_embd."},
                                        {"embeddings.position_embedding.", "v.position_embd."}, {"pre_layrnorm.", "v.pre_ln."}, {0}};
static const name_pair tower_block[] = {{"self_attn.q_proj.", "attn_q."}, {"self_attn.k_proj.", "attn_k."},
                                        {"self_attn.v_proj.", "attn_v."}, {"self_attn.out_proj.", "attn_out."},
                                        {"layer_norm1.", "ln1."},         {"layer_norm2.", "ln2."},
                                        {"mlp.fc1.", "ffn_up."},          {"mlp.fc2.", "ffn_down."}, {0}};
static const name_pair projector_names[] = {{"linear_1.", "mm.0."}, {"linear_2.", "mm.2."}, {0}};

/* ---- the decoder ---- */

/* Architectures differ in what they allow and in how q and k are rotated: llama by neighbours, Qwen's by halves as here. */
static bif_status architecture(job *j)
{
    const bif_decoder_config *c = &j->config.decoder;
    if (c->qk_norm && c->qkv_bias) {
        return bif_fail(BIF_ERR_CONFIG, "%s: llama.cpp has no decoder with norms and biases of q and k", j->source);
    }
    const bool qwen2 = c->qkv_bias && !c->o_bias && c->heads * c->head_dim == c->hidden;
    j->arch = c->qk_norm ? "qwen3" : qwen2 ? "qwen2" : "llama";
    j->by_neighbours = !c->qk_norm && !qwen2;
    if (c->rope.kind == BIF_ROPE_LLAMA3 && strcmp(j->arch, "llama") != 0) {
        return bif_fail(BIF_ERR_CONFIG, "%s: its rotation is scaled as Llama 3's (llama3), which llama.cpp has for llama and not for %s",
                        j->source, j->arch);
    }
    return BIF_OK;
}

static void put_general(const job *j, bif_gguf *file, const char *arch, const char *kind)
{
    bif_gguf_put_text(file, "general.architecture", arch);
    bif_gguf_put_text(file, "general.type", kind);
    bif_gguf_put_text(file, "general.name", j->name);
    bif_gguf_put_u32(file, "general.file_type", j->options->type == BIF_GGUF_F32 ? 0 : j->options->type == BIF_GGUF_F16 ? 1 : 32);
    bif_gguf_put_u32(file, "general.quantization_version", 2);
}

static void put_number(bif_gguf *file, const char *arch, const char *key, int64_t value)
{
    char *full = bif_format("%s.%s", arch, key);
    bif_gguf_put_u32(file, full, value);
    free(full);
}

static void put_real(bif_gguf *file, const char *arch, const char *key, float value)
{
    char *full = bif_format("%s.%s", arch, key);
    bif_gguf_put_f32(file, full, value);
    free(full);
}

static void put_decoder_keys(const job *j, bif_gguf *file)
{
    const char *arch = j->arch;
    const bif_decoder_config *c = &j->config.decoder;
    put_general(j, file, arch, "model");
    put_number(file, arch, "block_count", c->layers);
    put_number(file, arch, "context_length", c->positions);
    put_number(file, arch, "embedding_length", c->hidden);
    put_number(file, arch, "feed_forward_length", c->inner);
    put_number(file, arch, "attention.head_count", c->heads);
    put_number(file, arch, "attention.head_count_kv", c->kv_heads);
    put_number(file, arch, "attention.key_length", c->head_dim);
    put_number(file, arch, "attention.value_length", c->head_dim);
    put_real(file, arch, "attention.layer_norm_rms_epsilon", c->eps);
    put_number(file, arch, "rope.dimension_count", c->head_dim);
    put_real(file, arch, "rope.freq_base", c->rope_theta);
    if (c->rope.kind == BIF_ROPE_LINEAR) {
        char *type = bif_format("%s.rope.scaling.type", arch);
        bif_gguf_put_text(file, type, "linear");
        free(type);
        put_real(file, arch, "rope.scaling.factor", c->rope.factor);
    }
    put_number(file, arch, "vocab_size", c->vocab);
}

static void put_decoder_row(const job *j, bif_gguf *file, int64_t i, const char *tail)
{
    const bif_param *row = &j->rows.items[i];
    const bif_gguf_type type = row->value.rank > 1 ? j->options->type : BIF_GGUF_F32;
    char before[32] = "", name[64];
    const int64_t block = block_of("layers.", &tail);
    if (block >= 0) {
        snprintf(before, sizeof before, "blk.%lld.", (long long)block);
    }
    const bool known = rename_tail(block >= 0 ? decoder_block : decoder_names, tail, before, name, sizeof name);
    BIF_BUG_IF(!known, "no name for %s", row->name);
    const bool turned = j->by_neighbours && (strncmp(tail, "self_attn.q_proj.", 17) == 0 || strncmp(tail, "self_attn.k_proj.", 17) == 0);
    const origin o = {.set = j->set, .entry = j->entry_of[i], .columns = row->value.rank > 1 ? row->value.dim[1] : 1,
                      .head = j->config.decoder.head_dim};
    put_tensor(file, name, row->value.rank, row->value.dim, type, turned ? read_rotated : read_plain, o);
}

static bif_status write_decoder(const job *j, const char *path)
{
    bif_status st = BIF_OK;
    const char *tail = NULL;
    const bif_decoder_config *c = &j->config.decoder;
    bif_gguf *file = bif_gguf_new();
    put_decoder_keys(j, file);
    BIF_TRY(bif_gguf_put_tokenizer(file, j->tokenizer, &j->config, j->options->pre));
    if (c->rope.kind == BIF_ROPE_LLAMA3) {
        put_tensor(file, "rope_freqs.weight", 1, (const int64_t[]){c->head_dim / 2}, BIF_GGUF_F32, read_divisors,
                   (origin){.head = c->head_dim, .rope = c->rope, .theta = c->rope_theta});
    }
    for (int64_t i = 0; i < j->rows.count; i++) {
        const bif_part part = bif_part_of(j->rows.items[i].name, &tail);
        if (part == BIF_PART_DECODER) {
            put_decoder_row(j, file, i, tail);
        } else if (part == BIF_PART_HEAD) {
            put_tensor(file, "output.weight", 2, j->rows.items[i].value.dim, j->options->type, read_plain,
                       (origin){.set = j->set, .entry = j->entry_of[i]});
        }
    }
    BIF_TRY(bif_gguf_write(file, path, NULL, NULL));
done:
    bif_gguf_free(file);
    return st;
}

/* ---- vision tower and projector ---- */

static bif_status check_vision(const job *j)
{
    const bif_model_config *c = &j->config;
    if (c->cls_patch && c->vit.family == BIF_TOWER_CLIP) {
        return bif_fail(BIF_ERR_CONFIG, "%s: its pictures are the class token and the patches (vision_feature_select_strategy 'full'); "
                        "llama.cpp takes the patches alone", j->source);
    }
    if (c->projector.kind == BIF_PROJECTOR_MLP && c->projector.depth != 2) {
        return bif_fail(BIF_ERR_CONFIG, "%s: its projector is mlp%lldx_gelu; llama.cpp has linear and mlp2x_gelu", j->source,
                        (long long)c->projector.depth);
    }
    if (c->vit.family == BIF_TOWER_CLIP) {
        bif_info("llama.cpp must be older than May 2025, or have its pull request 25844: builds between put CLIP's class token behind the "
                 "patches, and see pictures wrong");
    }
    if (*c->image_fit != '\0' && strcmp(c->image_fit, "pad") != 0) {
        bif_warn("%s was trained with image_fit %s; llama.cpp pads pictures to squares, so give it square ones", j->source, c->image_fit);
    }
    return BIF_OK;
}

static void put_vision_keys(const job *j, bif_gguf *file)
{
    const bif_vit_config *v = &j->config.vit;
    const bif_preprocess levels = v->family == BIF_TOWER_SIGLIP ? bif_preprocess_siglip(v->image) : bif_preprocess_clip(v->image);
    const int32_t layer = (int32_t)bif_feature_blocks(&j->config); /* without it llama.cpp would leave out a block more */
    put_general(j, file, "clip", "mmproj");
    bif_gguf_put_bool(file, "clip.has_vision_encoder", true);
    bif_gguf_put_text(file, "clip.projector_type", "mlp");
    bif_gguf_put_bool(file, "clip.use_gelu", v->act != BIF_ACT_QUICK_GELU); /* false: quick-GELU */
    put_number(file, "clip.vision", "image_size", v->image);
    put_number(file, "clip.vision", "patch_size", v->patch);
    put_number(file, "clip.vision", "embedding_length", v->hidden);
    put_number(file, "clip.vision", "feed_forward_length", v->inner);
    put_number(file, "clip.vision", "block_count", layer);
    put_number(file, "clip.vision", "projection_dim", j->config.projector.out);
    put_number(file, "clip.vision", "attention.head_count", v->heads);
    put_real(file, "clip.vision", "attention.layer_norm_epsilon", v->eps);
    bif_gguf_put_f32s(file, "clip.vision.image_mean", levels.mean, 3);
    bif_gguf_put_f32s(file, "clip.vision.image_std", levels.std, 3);
    bif_gguf_put_i32s(file, "clip.vision.feature_layer", &layer, 1);
}

static void put_tower_row(const job *j, bif_gguf *file, int64_t i, const char *tail)
{
    const bif_param *row = &j->rows.items[i];
    char before[32] = "", name[64];
    const int64_t block = block_of("encoder.layers.", &tail);
    if (block >= 0) {
        snprintf(before, sizeof before, "v.blk.%lld.", (long long)block);
    }
    if (strncmp(tail, "post_layernorm.", 15) == 0 || strncmp(tail, "head.", 5) == 0 || block >= bif_feature_blocks(&j->config)) {
        return; /* no part of the feature layer */
    }
    const bool known = rename_tail(block >= 0 ? tower_block : tower_names, tail, before, name, sizeof name);
    BIF_BUG_IF(!known, "no name for %s", row->name);
    const bool positions = strcmp(name, "v.position_embd.weight") == 0, kernel = row->value.rank == 4;
    const bif_gguf_type wide = j->options->type;
    const bif_gguf_type type = row->value.rank == 1 || positions ? BIF_GGUF_F32 : kernel && wide == BIF_GGUF_BF16 ? BIF_GGUF_F16 : wide;
    put_tensor(file, name, row->value.rank, row->value.dim, type, read_plain, (origin){.set = j->set, .entry = j->entry_of[i]});
}

static void put_projector_row(const job *j, bif_gguf *file, int64_t i, const char *tail)
{
    const bif_param *row = &j->rows.items[i];
    const bif_projector_config *p = &j->config.projector;
    const bif_gguf_type type = row->value.rank > 1 ? j->options->type : BIF_GGUF_F32;
    const origin o = {.set = j->set, .entry = j->entry_of[i], .in = p->in};
    char name[64];
    if (p->kind == BIF_PROJECTOR_MLP) {
        const bool known = rename_tail(projector_names, tail, "", name, sizeof name);
        BIF_BUG_IF(!known, "no name for %s", row->name);
        put_tensor(file, name, row->value.rank, row->value.dim, type, read_plain, o);
    } else if (row->value.rank > 1) {
        put_tensor(file, "mm.0.weight", 2, (const int64_t[]){2 * p->in, p->in}, type, read_mirror, o);
        put_tensor(file, "mm.0.bias", 1, (const int64_t[]){2 * p->in}, BIF_GGUF_F32, read_zeros, o);
        put_tensor(file, "mm.2.weight", 2, (const int64_t[]){p->out, 2 * p->in}, type, read_difference, o);
    } else {
        put_tensor(file, "mm.2.bias", 1, row->value.dim, BIF_GGUF_F32, read_plain, o);
    }
}

static bif_status write_vision(const job *j, const char *path)
{
    const char *tail = NULL;
    bif_gguf *file = bif_gguf_new();
    put_vision_keys(j, file);
    for (int64_t i = 0; i < j->rows.count; i++) {
        const bif_part part = bif_part_of(j->rows.items[i].name, &tail);
        if (part == BIF_PART_VISION) {
            put_tower_row(j, file, i, tail);
        } else if (part == BIF_PART_PROJECTOR) {
            put_projector_row(j, file, i, tail);
        }
    }
    const bif_status st = bif_gguf_write(file, path, NULL, NULL);
    bif_gguf_free(file);
    return st;
}

/* ---- the folder ---- */

static bif_status open_job(job *j)
{
    bif_status st = BIF_OK;
    BIF_TRY(bif_hf_config_read_with(j->source, &j->options->beside, &j->config));
    if (j->config.kind == BIF_MODEL_CLIP) {
        st = bif_fail(BIF_ERR_CONFIG, "%s holds %s; llama.cpp runs language models, alone or with a vision tower (LLaVA)", j->source,
                      j->config.text.hidden == 0 ? "a vision tower alone" : "a CLIP pair");
        goto done;
    }
    BIF_TRY(architecture(j));
    const char *given = j->options->tokenizer;
    j->tokenizer = given == NULL ? bif_hf_tokenizer(j->source, &j->options->beside) : bif_tokenizer_in(given);
    if (j->tokenizer == NULL && given != NULL) {
        j->tokenizer = bif_strdup(given); /* a file */
    } else if (j->tokenizer == NULL) {
        st = bif_fail(BIF_ERR_DATA, "%s has no tokenizer, which belongs into a GGUF file; --tokenizer PATH names one", j->source);
        goto done;
    }
    if (j->config.kind == BIF_MODEL_LLAVA) {
        BIF_TRY(check_vision(j));
    } else if (j->options->beside.tower != NULL) {
        st = bif_fail(BIF_ERR_CONFIG, "%s is no LLaVA, which alone takes a tower from elsewhere", j->source);
        goto done;
    }
    BIF_TRY(bif_hf_open_with(j->source, &j->options->beside, &j->set));
    bif_model_rows(&j->config, &j->rows);
    BIF_TRY(bif_row_entries(j->source, j->set, &j->rows, &j->entry_of));
    for (int64_t i = 0; i < j->rows.count; i++) {
        const bif_st_entry *entry = j->entry_of[i];
        if (entry->dtype != BIF_DTYPE_F32 && entry->dtype != BIF_DTYPE_BF16 && entry->dtype != BIF_DTYPE_F16) {
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %s is %s, floating point is wanted", bif_safetensors_path(j->set, entry), entry->name,
                          bif_dtype_name(entry->dtype));
            goto done;
        }
        if (bif_vocabulary_continues(entry, &j->rows.items[i])) {
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %s lacks the last %lld rows; bifocal import makes a folder that has them",
                          bif_safetensors_path(j->set, entry), entry->name, (long long)j->rows.items[i].spare);
            goto done;
        }
    }
done:
    return st;
}

static char *file_path(const job *j, const char *before)
{
    const char *type = j->options->type == BIF_GGUF_F32 ? "F32" : j->options->type == BIF_GGUF_F16 ? "F16" : "BF16";
    return bif_format("%s/%s%s-%s.gguf", j->temporary, before, j->name, type);
}

bif_status bif_gguf_export(const char *source, const char *out, const bif_gguf_options *options)
{
    bif_status st = BIF_OK;
    job j = {.source = source, .options = options, .temporary = bif_format("%s.tmp-%ld", out, (long)getpid()), .name = bif_path_base(out)};
    char *decoder = file_path(&j, ""), *vision = file_path(&j, "mmproj-");
    if (bif_exists(out)) {
        st = bif_fail(BIF_ERR_USAGE, "'%s' is there already; name a new folder", out);
        goto done;
    }
    BIF_TRY(open_job(&j));
    BIF_TRY(bif_make_dirs(j.temporary));
    BIF_TRY(write_decoder(&j, decoder));
    if (j.config.kind == BIF_MODEL_LLAVA) {
        BIF_TRY(write_vision(&j, vision));
    }
    BIF_TRY(bif_rename(j.temporary, out));
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
    free(j.entry_of);
    free(j.tokenizer);
    free(j.temporary);
    free(decoder);
    free(vision);
    return st;
}
