/* Generation: the prompts in one packed pass that fills the cache, then one token a sequence. */
#include <math.h>
#include <stdlib.h>

#include "train/lora.h"
#include "train/rows.h"

void bif_kv_cache_plan(const bif_decoder *decoder, bif_arena *arena, int64_t sequences, int64_t cap,
                       int64_t prefill_tokens, bif_kv_cache *cache)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t rows = config->layers * sequences * cap, heads = config->heads + 2 * config->kv_heads;
    BIF_BUG_IF(sequences * cap * config->kv_heads > INT32_MAX || prefill_tokens * heads > INT32_MAX,
               "a cache of %lld sequences of %lld rows", (long long)sequences, (long long)cap);
    const int64_t indices = prefill_tokens * heads > 3 * sequences ? prefill_tokens * heads : 3 * sequences;
    *cache = (bif_kv_cache){.sequences = sequences, .cap = cap};
    cache->k = bif_take2(arena, bif_decoder_dtype(decoder), rows, config->kv_heads * config->head_dim);
    cache->v = bif_take2(arena, bif_decoder_dtype(decoder), rows, config->kv_heads * config->head_dim);
    cache->index = bif_take1(arena, BIF_DTYPE_I32, indices);
    if (!arena->measuring) {
        cache->len = bif_calloc((size_t)sequences + 1, sizeof *cache->len);
        cache->host = bif_calloc((size_t)indices + 1, sizeof *cache->host);
    }
}

void bif_kv_cache_free(bif_kv_cache *cache)
{
    free(cache->len);
    free(cache->host);
    *cache = (bif_kv_cache){0};
}

/* Where row `row` of a slot begins in one layer of keys or values, and its bytes. */
static char *cache_row(const bif_decoder *decoder, const bif_kv_cache *cache, const bif_tensor *all, int64_t layer, int64_t slot,
                       int64_t row, size_t *bytes)
{
    *bytes = (size_t)all->dim[1] * bif_dtype_size(bif_decoder_dtype(decoder));
    return (char *)all->data + (size_t)((layer * cache->sequences + slot) * cache->cap + row) * *bytes;
}

void bif_kv_cache_copy(const bif_decoder *decoder, bif_device *device, bif_kv_cache *cache, int64_t from, int64_t to, int64_t rows)
{
    for (int64_t layer = 0; layer < decoder->config.layers; layer++) {
        for (int part = 0; part < 2; part++) {
            const bif_tensor *all = part == 0 ? &cache->k : &cache->v;
            size_t bytes;
            const char *source = cache_row(decoder, cache, all, layer, from, 0, &bytes);
            device->copy(device, cache_row(decoder, cache, all, layer, to, 0, &bytes), source, (size_t)rows * bytes);
        }
    }
    cache->len[to] = (int32_t)rows;
}

void bif_kv_cache_reorder(const bif_decoder *decoder, bif_device *device, bif_kv_cache *cache, const int32_t *slots, const int32_t *from,
                          int64_t count, int64_t first, int64_t rows, void *scratch)
{
    for (int64_t layer = 0; rows > 0 && layer < decoder->config.layers; layer++) {
        for (int part = 0; part < 2; part++) {
            const bif_tensor *all = part == 0 ? &cache->k : &cache->v;
            size_t bytes;
            for (int64_t i = 0; i < count; i++) { /* all out, then all in: they may change places */
                if (from[i] != slots[i]) {
                    const char *source = cache_row(decoder, cache, all, layer, from[i], first, &bytes);
                    device->copy(device, (char *)scratch + (size_t)(i * rows) * bytes, source, (size_t)rows * bytes);
                }
            }
            for (int64_t i = 0; i < count; i++) {
                if (from[i] != slots[i]) {
                    char *to = cache_row(decoder, cache, all, layer, slots[i], first, &bytes);
                    device->copy(device, to, (const char *)scratch + (size_t)(i * rows) * bytes, (size_t)rows * bytes);
                }
            }
        }
    }
}

/* Rows of one layer in the cache, seen as one row a head: [sequences * cap * G, D]. */
static bif_tensor head_rows(const bif_decoder *decoder, const bif_kv_cache *cache, const bif_tensor *all, int64_t layer)
{
    const bif_tensor of_layer = bif_rows(all, layer * cache->sequences * cache->cap, cache->sequences * cache->cap);
    return bif_tensor2(of_layer.data, of_layer.dtype, of_layer.dim[0] * decoder->config.kv_heads,
                       decoder->config.head_dim);
}

/* The packed rows seen as one row a head; from the first key head on, entry t * (H + 2G) + g of the index is the place
 * of token t's head g, and -1 skips what is not a key. The same index, from the first value head on, places the values.
 */
void bif_kv_cache_fill(const bif_decoder *decoder, bif_device *device, bif_kv_cache *cache, int64_t layer,
                       const bif_tensor *qkv)
{
    const int64_t h = decoder->config.heads, g = decoder->config.kv_heads, d = decoder->config.head_dim;
    if (qkv->dim[0] == 0) {
        return;
    }
    const int64_t used = (qkv->dim[0] - 1) * (h + 2 * g) + g;
    const bif_tensor index = bif_rows(&cache->index, 0, used);
    bif_tensor k = head_rows(decoder, cache, &cache->k, layer), v = head_rows(decoder, cache, &cache->v, layer);
    const bif_tensor from_k = bif_part2(qkv, h * d, used, d);
    const bif_tensor from_v = bif_part2(qkv, (h + g) * d, used, d);
    bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &from_k, .index = &index, .dst = &k});
    bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &from_v, .index = &index, .dst = &v});
}

void bif_decoder_prefill(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *acts, const bif_tensor *pos,
                         const bif_bounds *bounds, const bif_tensor *rows, bif_kv_cache *cache, bif_tensor *hidden)
{
    const int32_t *cu = bounds->host.data;
    const int64_t n = bounds->host.dim[0] - 1, g = decoder->config.kv_heads, step = decoder->config.heads + 2 * g;
    BIF_BUG_IF(n > cache->sequences || acts->tokens * step > cache->index.dim[0],
               "%lld prompts of %lld tokens in a cache of %lld", (long long)n, (long long)acts->tokens,
               (long long)cache->sequences);
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = cu[i + 1] - cu[i];
        BIF_BUG_IF(length > cache->cap, "a prompt of %lld tokens in a cache of %lld", (long long)length,
                   (long long)cache->cap);
        for (int64_t t = 0; t < length; t++) {
            int32_t *entry = cache->host + (cu[i] + t) * step;
            for (int64_t j = 0; j < step; j++) {
                entry[j] = j < g ? (int32_t)((i * cache->cap + t) * g + j) : -1;
            }
        }
        cache->len[i] = (int32_t)length;
    }
    device->copy_in(device, cache->index.data, cache->host, (size_t)(acts->tokens * step) * sizeof *cache->host);
    bif_decoder_forward(decoder, device, acts, pos, bounds, rows, cache, hidden);
}

/* Attention of the B rows, one call for each run of neighbouring slots. seen: how many rows of its slot each of them sees. */
static void attend(const bif_decoder *decoder, bif_device *device, const int32_t *slots, int32_t *seen, int64_t count,
                   const bif_kv_cache *cache, int64_t layer, const bif_tensor *q, bif_tensor *out)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t base = layer * cache->sequences * cache->cap;
    for (int64_t first = 0, end; first < count; first = end) {
        end = first + 1;
        while (end < count && slots[end] == slots[end - 1] + 1) {
            end++;
        }
        const int64_t n = end - first;
        const bif_tensor k = bif_rows(&cache->k, base + slots[first] * cache->cap, n * cache->cap);
        const bif_tensor v = bif_rows(&cache->v, base + slots[first] * cache->cap, n * cache->cap);
        const bif_tensor lens = bif_tensor1(seen + first, BIF_DTYPE_I32, n),
                         q_rows = bif_rows(q, first, n);
        bif_tensor out_rows = bif_rows(out, first, n);
        bif_attention_decode(device, &(bif_attention_decode_args){.q = &q_rows,
                                                                  .k_cache = &k,
                                                                  .v_cache = &v,
                                                                  .lens = &lens,
                                                                  .heads = config->heads,
                                                                  .kv_heads = config->kv_heads,
                                                                  .head_dim = config->head_dim,
                                                                  .cap = cache->cap,
                                                                  .scale = 1.0f / sqrtf((float)config->head_dim),
                                                                  .out = &out_rows});
    }
}

/* One of q, k, v as its own product (the packed row would have to be taken apart), normed and rotated. */
static void project(const bif_decoder *decoder, bif_device *device, const bif_lora_at *lora, const bif_decoder_layer *p, int part,
                    const bif_tensor *x, const bif_tensor *pos, bif_tensor *y)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t heads = part == 0 ? config->heads : config->kv_heads;
    const bif_param *norm = part == 0 ? p->q_norm : part == 1 ? p->k_norm : NULL;
    bif_linear(device,
               &(bif_linear_args){
                   .x = x, .w = &p->qkv_w[part].value, .b = p->qkv_b != NULL ? &p->qkv_b[part].value : NULL, .y = y});
    bif_lora_forward(lora, (bif_lora_target)(BIF_LORA_Q + part), x, y, 0);
    if (norm != NULL) {
        bif_head_rmsnorm(device, &(bif_head_rmsnorm_args){.x = y,
                                                          .weight = &norm->value,
                                                          .heads = heads,
                                                          .head_dim = config->head_dim,
                                                          .eps = config->eps,
                                                          .y = y});
    }
    if (part < 2) {
        bif_rope(device,
                 &(bif_rope_args){.rows = y,
                                  .pos = pos,
                                  .heads = heads,
                                  .head_dim = config->head_dim,
                                  .theta = config->rope_theta,
                                  .scaling = config->rope});
    }
}

void bif_decoder_step(const bif_decoder *decoder, bif_device *device, bif_decoder_acts *a, const int32_t *slots,
                      bif_kv_cache *cache, bif_tensor *hidden)
{
    const bif_decoder_config *config = &decoder->config;
    const int64_t b = a->tokens, q_width = config->heads * config->head_dim,
                  kv_width = config->kv_heads * config->head_dim;
    BIF_BUG_IF(a->keep || a->pick || 3 * b > cache->index.dim[0], "%lld rows step in a cache of %lld", (long long)b,
               (long long)cache->sequences);
    int32_t *seen = cache->host + 2 * b;
    for (int64_t i = 0; i < b; i++) {
        BIF_BUG_IF(slots[i] < 0 || slots[i] >= cache->sequences || cache->len[slots[i]] >= cache->cap,
                   "slot %d is not there or full", (int)slots[i]);
        cache->host[i] = (int32_t)(slots[i] * cache->cap + cache->len[slots[i]]);
        cache->host[b + i] = cache->len[slots[i]]++;
        seen[i] = cache->len[slots[i]];
    }
    device->copy_in(device, cache->index.data, cache->host, (size_t)(2 * b) * sizeof *cache->host);
    const bif_tensor place = bif_rows(&cache->index, 0, b), pos = bif_rows(&cache->index, b, b);
    bif_tensor q = bif_part2(&a->qkv, 0, b, q_width), k = bif_part2(&a->qkv, b * q_width, b, kv_width);
    bif_tensor v = bif_part2(&a->qkv, b * (q_width + kv_width), b, kv_width);
    bif_tensor x = a->x;
    for (int64_t i = 0; i < config->layers; i++) {
        const bif_decoder_layer *p = &decoder->layer[i];
        bif_tensor k_cache = bif_rows(&cache->k, i * cache->sequences * cache->cap, cache->sequences * cache->cap);
        bif_tensor v_cache = bif_rows(&cache->v, i * cache->sequences * cache->cap, cache->sequences * cache->cap);
        const bif_tensor gate_up_w = bif_params_fused_value(p->gate_up, 2);
        const bif_lora_at lora = {.config = config, .device = device, .lora = p->lora, .acts = &a->lora, .layer = i};
        bif_rmsnorm(device,
                    &(bif_rmsnorm_args){.x = &x, .weight = &p->norm1->value, .eps = config->eps, .y = &a->normed});
        project(decoder, device, &lora, p, 0, &a->normed, &pos, &q);
        project(decoder, device, &lora, p, 1, &a->normed, &pos, &k);
        project(decoder, device, &lora, p, 2, &a->normed, &pos, &v);
        bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &k, .index = &place, .dst = &k_cache});
        bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &v, .index = &place, .dst = &v_cache});
        attend(decoder, device, slots, seen, b, cache, i, &q, &a->attn);
        bif_linear(device, &(bif_linear_args){.x = &a->attn,
                                              .w = &p->o_w->value,
                                              .b = p->o_b != NULL ? &p->o_b->value : NULL,
                                              .residual = &x,
                                              .y = &x});
        bif_lora_forward(&lora, BIF_LORA_O, &a->attn, &x, 0);
        bif_rmsnorm(device,
                    &(bif_rmsnorm_args){.x = &x, .weight = &p->norm2->value, .eps = config->eps, .y = &a->normed});
        bif_linear(device, &(bif_linear_args){.x = &a->normed, .w = &gate_up_w, .y = &a->gate_up});
        bif_lora_forward(&lora, BIF_LORA_GATE, &a->normed, &a->gate_up, 0);
        bif_lora_forward(&lora, BIF_LORA_UP, &a->normed, &a->gate_up, config->inner);
        bif_swiglu(device, &(bif_swiglu_args){.gu = &a->gate_up, .y = &a->act});
        bif_linear(device, &(bif_linear_args){.x = &a->act, .w = &p->down->value, .residual = &x, .y = &x});
        bif_lora_forward(&lora, BIF_LORA_DOWN, &a->act, &x, 0);
    }
    bif_rmsnorm(device,
                &(bif_rmsnorm_args){.x = &x, .weight = &decoder->norm->value, .eps = config->eps, .y = &a->final});
    *hidden = a->final;
}
