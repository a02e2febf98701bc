#include "eval/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct bif_generator {
    bif_session *session;
    int64_t batch, max_new, cap; /* cap: rows of a sequence's cache */
    bif_batch_limits limits;
    bif_batch *packed;
    bif_arena arena;
    int32_t *next, *slots; /* [batch] */
    void (*between)(void *context);
    void *context;
};

static bif_tensor upload_i32(bif_device *device, bif_arena *arena, const int32_t *host, int64_t count)
{
    bif_tensor t = bif_take1(arena, BIF_DTYPE_I32, count);
    device->copy_in(device, t.data, host, (size_t)count * sizeof *host);
    return t;
}

bif_status bif_generator_new(bif_session *session, int64_t batch, int64_t max_prompt, int64_t max_images, int64_t max_new,
                             bif_generator **out)
{
    bif_status st = BIF_OK;
    const bif_model_config *model = &session->model;
    const int64_t vocab = bif_decoder_classes(&model->decoder);
    bif_generator *g = bif_calloc(1, sizeof *g);
    *g = (bif_generator){.session = session, .batch = batch, .max_new = max_new, .cap = max_prompt + max_new};
    g->limits = (bif_batch_limits){.tokens = batch * max_prompt,
                                   .sequences = batch,
                                   .images = batch * max_images,
                                   .image_size = model->kind == BIF_MODEL_LLAVA ? model->vit.image : 0,
                                   .tokens_per_image = model->kind == BIF_MODEL_LLAVA ? bif_tokens_per_image(model) : 0};
    g->packed = bif_batch_new(&g->limits);
    g->next = bif_calloc((size_t)batch, sizeof *g->next);
    g->slots = bif_calloc((size_t)batch, sizeof *g->slots);
    /* The cache and both plans live at once; bif_vlm_embed works above them. */
    bif_arena measure = bif_arena_measure("generation");
    bif_kv_cache cache;
    bif_kv_cache_plan(&session->vlm.decoder, &measure, batch, g->cap, g->limits.tokens, &cache);
    bif_decoder_plan(&session->vlm.decoder, &measure, g->limits.tokens, batch, BIF_KEEP_NOTHING);
    bif_decoder_plan(&session->vlm.decoder, &measure, batch, -1, BIF_KEEP_NOTHING);
    bif_take2(&measure, session->vlm.params.dtype, batch, vocab);
    for (int i = 0; i < 4; i++) { /* positions, rows, ids, picks */
        bif_take1(&measure, BIF_DTYPE_I32, g->limits.tokens);
    }
    const size_t size = measure.peak + bif_vlm_measure(&session->vlm, session->device, &g->limits, false);
    void *memory = NULL;
    BIF_TRY(session->device->alloc(session->device, size, &memory));
    g->arena = bif_arena_over("generation", memory, size);
done:
    if (st != BIF_OK) {
        bif_generator_free(g);
        g = NULL;
    }
    *out = g;
    return st;
}

void bif_generator_free(bif_generator *generator)
{
    if (generator == NULL) {
        return;
    }
    bif_device *device = generator->session->device;
    if (generator->arena.base != NULL) {
        device->release(device, generator->arena.base);
    }
    bif_batch_free(generator->packed);
    free(generator->next);
    free(generator->slots);
    free(generator);
}

void bif_generator_between(bif_generator *generator, void (*between)(void *context), void *context)
{
    generator->between = between;
    generator->context = context;
}

/* next[i] = argmax of the head over row i of hidden [count, C]. */
static void pick(bif_generator *g, const bif_tensor *hidden, int64_t count)
{
    bif_device *device = g->session->device;
    bif_tensor logits = bif_take2(&g->arena, g->session->vlm.params.dtype, count, bif_decoder_classes(&g->session->model.decoder));
    bif_tensor index = bif_take1(&g->arena, BIF_DTYPE_I32, count);
    bif_decoder_logits(&g->session->vlm.decoder, device, hidden, &logits);
    bif_argmax(device, &(bif_argmax_args){.x = &logits, .index = &index});
    device->copy_out(device, g->next, index.data, (size_t)count * sizeof *g->next);
}

/* Takes the picked tokens: appends them, drops the sequences that ended. Returns how many go on; slots[0..) and next[0..) are theirs. */
static int64_t accept(bif_generator *g, int64_t active, int64_t made, bif_ids *answers)
{
    const int32_t stop = bif_chat_stop(&g->session->chat);
    int64_t left = 0;
    for (int64_t i = 0; i < active; i++) {
        const int32_t id = g->next[i], slot = g->slots[i];
        if (id == stop) {
            continue;
        }
        bif_ids_push(&answers[slot], id);
        if (made < g->max_new) {
            g->next[left] = id;
            g->slots[left++] = slot;
        }
    }
    return left;
}

static void prefill(bif_generator *g, bif_kv_cache *cache)
{
    bif_device *device = g->session->device;
    const bif_decoder *decoder = &g->session->vlm.decoder;
    const bif_batch *batch = g->packed;
    const size_t mark = bif_arena_mark(&g->arena);
    bif_decoder_acts acts = bif_decoder_plan(decoder, &g->arena, batch->tokens, batch->sequences, BIF_KEEP_NOTHING);
    bif_tensor input = bif_decoder_input(&acts), hidden;
    const bif_inputs *in = bif_vlm_embed(&g->session->vlm, device, &g->arena, batch, &input);
    bif_decoder_prefill(decoder, device, &acts, &in->pos, &in->bounds, &in->eot, cache, &hidden);
    pick(g, &hidden, batch->sequences);
    bif_arena_release(&g->arena, mark);
}

static void step(bif_generator *g, bif_kv_cache *cache, int64_t active)
{
    bif_device *device = g->session->device;
    const bif_decoder *decoder = &g->session->vlm.decoder;
    const size_t mark = bif_arena_mark(&g->arena);
    bif_decoder_acts acts = bif_decoder_plan(decoder, &g->arena, active, -1, BIF_KEEP_NOTHING);
    bif_tensor ids = upload_i32(device, &g->arena, g->next, active);
    bif_tensor input = bif_decoder_input(&acts), hidden;
    bif_embedding(device, &(bif_embedding_args){.table = &decoder->embed->value, .ids = &ids, .y = &input});
    bif_decoder_step(decoder, device, &acts, g->slots, cache, &hidden);
    pick(g, &hidden, active);
    bif_arena_release(&g->arena, mark);
}

bif_status bif_generate(bif_generator *g, const bif_request *requests, int64_t count, bif_ids *answers)
{
    BIF_BUG_IF(count < 1 || count > g->batch, "%lld requests in a generator for %lld", (long long)count, (long long)g->batch);
    bif_batch_clear(g->packed);
    for (int64_t i = 0; i < count; i++) {
        const bif_encoded *p = requests[i].prompt;
        const struct bif_encoded_view view = {
            .ids = p->ids.ids, .labels = p->labels.ids, .count = (int64_t)p->ids.count, .image_start = p->image_start, .images = p->images};
        if ((int64_t)p->ids.count + g->max_new > g->cap || !bif_batch_add(g->packed, &g->limits, &view, requests[i].pixels, (uint64_t)i)) {
            return bif_fail(BIF_ERR_DATA, "a prompt of %zu tokens and %lld pictures does not fit; at most %lld tokens are planned for",
                            p->ids.count, (long long)p->images, (long long)(g->cap - g->max_new));
        }
        g->slots[i] = (int32_t)i;
        answers[i].count = 0;
    }
    g->arena.used = 0;
    bif_kv_cache cache;
    bif_kv_cache_plan(&g->session->vlm.decoder, &g->arena, g->batch, g->cap, g->limits.tokens, &cache);
    prefill(g, &cache);
    int64_t active = count;
    for (int64_t made = 1; (active = accept(g, active, made, answers)) > 0; made++) {
        if (g->between != NULL) {
            g->between(g->context);
        }
        step(g, &cache, active);
    }
    bif_kv_cache_free(&cache);
    return BIF_OK;
}

bif_status bif_answer_text(const bif_session *session, const bif_ids *answer, char **out)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    char *text = NULL;
    size_t size = 0, used = 0;
    bif_status st = bif_tokenizer_decode(session->tokenizer, answer->ids, answer->count, true, &text, &size);
    if (st != BIF_OK) {
        return st;
    }
    *out = bif_malloc(3 * size + 1);
    for (size_t at = strspn(text, " \n\t"); at < size;) { /* the answer segment starts with the template's space */
        const size_t valid = bif_utf8_check(text + at, strnlen(text + at, size - at));
        memcpy(*out + used, text + at, valid);
        used += valid;
        at += valid;
        if (at < size) {
            memcpy(*out + used, replacement, 3);
            used += 3;
            at++;
        }
    }
    (*out)[used] = '\0';
    free(text);
    return BIF_OK;
}
