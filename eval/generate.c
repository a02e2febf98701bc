#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "eval/generate_parts.h"

char *bif_decoding_text(const bif_decoding *d)
{
    const long long tokens = (long long)d->max_new;
    if (d->beams > 1) {
        return bif_format("%lld beams, length penalty %g, %lld new tokens", (long long)d->beams, d->length_penalty, tokens);
    }
    if (d->temperature > 0.0) {
        return bif_format("sampled at temperature %g, top_p %g, top_k %lld, seed %llu, %lld new tokens", d->temperature, d->top_p,
                          (long long)d->top_k, (unsigned long long)d->seed, tokens);
    }
    return bif_format("greedy, %lld new tokens", tokens);
}

static bif_status check(const bif_decoding *d, int64_t classes)
{
    if (!(d->temperature >= 0.0) || !(d->top_p >= 0.0 && d->top_p <= 1.0) || d->top_k < 0 || d->beams < 0) {
        return bif_fail(BIF_ERR_USAGE,
                        "temperature %g, top_p %g, top_k %lld, %lld beams: a temperature of at least 0, a top_p in (0, 1], and whole "
                        "numbers of at least 0 are wanted",
                        d->temperature, d->top_p, (long long)d->top_k, (long long)d->beams);
    }
    if (d->beams > 1 && d->temperature > 0.0) {
        return bif_fail(BIF_ERR_USAGE, "beams do not sample: leave the temperature at 0, or beams at 1");
    }
    return 2 * d->beams <= classes
               ? BIF_OK
               : bif_fail(BIF_ERR_USAGE, "%lld beams of a model that tells %lld tokens apart", (long long)d->beams, (long long)classes);
}

/* Most rows of a step: the tails of all prompts, all options' tokens, or a token of each slot. */
static int64_t most_rows(const bif_generator *g)
{
    const bif_generator_limits *l = &g->limits;
    const int64_t tail = l->max_prompt < BIF_TAIL_TOKENS ? l->max_prompt : BIF_TAIL_TOKENS;
    int64_t rows = l->batch * (l->max_images > 0 ? tail : 1);
    rows = rows > l->batch * g->fan ? rows : l->batch * g->fan;
    return rows > l->batch * l->max_options * l->max_option ? rows : l->batch * l->max_options * l->max_option;
}

/* Everything but memory of the device. */
static bif_status size_up(bif_session *session, const bif_generator_limits *limits, bif_generator *g)
{
    const bif_model_config *model = &session->model;
    const bool llava = model->kind == BIF_MODEL_LLAVA;
    *g = (bif_generator){.session = session, .limits = *limits, .fan = 1, .classes = bif_decoder_classes(&model->decoder)};
    const bif_decoding *d = &g->limits.decoding;
    g->fan = d->beams > g->fan ? d->beams : g->fan;
    g->fan = limits->max_options > g->fan ? limits->max_options : g->fan;
    g->cap = limits->max_prompt + (d->max_new > limits->max_option ? d->max_new : limits->max_option);
    g->pack = (bif_batch_limits){.tokens = limits->batch * limits->max_prompt,
                                 .sequences = limits->batch,
                                 .images = limits->batch * limits->max_images,
                                 .image_size = llava ? model->vit.image : 0,
                                 .tokens_per_image = llava ? bif_tokens_per_image(model) : 0};
    return check(d, g->classes);
}

/* The cache lives all the time; bif_vlm_embed works above the prompts' activations. */
static void plan_cache(bif_generator *g, bif_arena *arena)
{
    const bif_session *session = g->session;
    const bif_decoder *decoder = &session->vlm.decoder;
    const int64_t rows = most_rows(g), index = g->pack.tokens > rows ? g->pack.tokens : rows;
    bif_kv_cache_plan(decoder, arena, g->limits.batch * g->fan, g->cap, index, &g->cache);
    g->last = bif_take2(arena, session->vlm.params.dtype, g->limits.batch, decoder->config.hidden);
    g->scratch = bif_take1(arena, BIF_DTYPE_F32, g->fan * g->limits.decoding.max_new * decoder->config.kv_heads * decoder->config.head_dim).data;
}

static size_t arena_bytes(bif_generator *g)
{
    const bif_session *session = g->session;
    const bif_decoder *decoder = &session->vlm.decoder;
    const int64_t rows = most_rows(g), slots = g->limits.batch * g->fan;
    bif_arena measure = bif_arena_measure("generation");
    plan_cache(g, &measure);
    const size_t mark = bif_arena_mark(&measure);
    bif_decoder_plan(decoder, &measure, g->pack.tokens, g->limits.batch, BIF_KEEP_NOTHING);
    bif_take1(&measure, BIF_DTYPE_I32, g->limits.batch);
    bif_arena_release(&measure, mark);
    bif_decoder_plan(decoder, &measure, rows, -1, BIF_KEEP_NOTHING);
    bif_take2(&measure, session->vlm.params.dtype, slots, g->classes);
    for (int i = 0; i < 6; i++) { /* ids, rows, targets, losses, picks */
        bif_take1(&measure, BIF_DTYPE_I32, rows);
    }
    bif_take2(&measure, session->vlm.params.dtype, slots, decoder->config.hidden);
    return measure.peak + bif_vlm_measure(&session->vlm, session->device, &g->pack, false);
}

size_t bif_generator_measure(bif_session *session, const bif_generator_limits *limits)
{
    bif_generator g;
    return size_up(session, limits, &g) != BIF_OK ? 0 : arena_bytes(&g) + bif_feeder_bytes(session->device, &session->vlm.shape, &g.pack);
}

bif_status bif_generator_new(bif_session *session, const bif_generator_limits *limits, bif_generator **out)
{
    bif_status st = BIF_OK;
    bif_generator *g = bif_calloc(1, sizeof *g);
    BIF_TRY(size_up(session, limits, g));
    g->packed = bif_batch_new(&g->pack);
    const bif_decoding *d = &g->limits.decoding;
    const int64_t rows = most_rows(g), slots = limits->batch * g->fan;
    g->slots = bif_calloc((size_t)rows, sizeof *g->slots);
    g->ids = bif_calloc((size_t)rows, sizeof *g->ids);
    g->length = bif_calloc((size_t)limits->batch, sizeof *g->length);
    g->logits = d->beams > 1 || d->temperature > 0.0 ? bif_calloc((size_t)(slots * g->classes), sizeof *g->logits) : NULL;
    g->candidates = g->logits != NULL ? bif_calloc((size_t)g->classes, sizeof *g->candidates) : NULL;
    const size_t size = arena_bytes(g);
    void *memory = NULL;
    BIF_TRY(session->device->alloc(session->device, size, &memory));
    g->arena = bif_arena_over("generation", memory, size);
    BIF_TRY(bif_feeder_reserve(&session->vlm.feeder, session->device, bif_feeder_bytes(session->device, &session->vlm.shape, &g->pack)));
    plan_cache(g, &g->arena);
done:
    if (st != BIF_OK) {
        bif_generator_free(g);
        g = NULL;
    }
    *out = g;
    return st;
}

void bif_generator_free(bif_generator *g)
{
    if (g == NULL) {
        return;
    }
    bif_device *device = g->session->device;
    if (g->arena.base != NULL) {
        device->release(device, g->arena.base);
    }
    bif_kv_cache_free(&g->cache);
    bif_batch_free(g->packed);
    free(g->slots);
    free(g->ids);
    free(g->length);
    free(g->logits);
    free(g->candidates);
    free(g);
}

void bif_generator_between(bif_generator *generator, void (*between)(void *context), void *context)
{
    generator->between = between;
    generator->context = context;
}

void bif_generator_listen(bif_generator *generator, bool (*hear)(void *context, int64_t request, int32_t id), void *context)
{
    generator->hear = hear;
    generator->listener = context;
}

bif_tensor bif_generator_upload(bif_generator *g, const int32_t *host, int64_t count)
{
    bif_device *device = g->session->device;
    bif_tensor t = bif_take1(&g->arena, BIF_DTYPE_I32, count);
    device->copy_in(device, t.data, host, (size_t)count * sizeof *host);
    return t;
}

/* ---- prompts ---- */

/* How many tokens of a prompt are computed at once with its pictures; the rest continues them. */
static int64_t head_of(const bif_generator *g, const bif_encoded *p)
{
    const int64_t count = (int64_t)p->ids.count, head = p->images > 0 ? p->image_start[p->images - 1] + g->pack.tokens_per_image : count;
    return head < count && count - head <= BIF_TAIL_TOKENS ? head : count;
}

static bool begins_alike(const bif_generator *g, const bif_request *a, const bif_request *b, int64_t head)
{
    return b->prompt->images == a->prompt->images && head_of(g, b->prompt) == head && head < (int64_t)a->prompt->ids.count &&
           memcmp(a->prompt->ids.ids, b->prompt->ids.ids, (size_t)head * sizeof *a->prompt->ids.ids) == 0 &&
           memcmp(a->prompt->image_start, b->prompt->image_start, (size_t)a->prompt->images * sizeof *a->prompt->image_start) == 0;
}

/* The beginnings, packed; begin[i] = the sequence that request i begins with, first[i] = it is the first that does. */
static bif_status pack(bif_generator *g, const bif_request *requests, int64_t count, int32_t *begin)
{
    bif_batch_clear(g->packed);
    for (int64_t i = 0; i < count; i++) {
        const bif_encoded *p = requests[i].prompt;
        const int64_t head = head_of(g, p), earlier = requests[i].same - 1;
        BIF_BUG_IF(earlier >= i, "request %lld is like a later one", (long long)i);
        g->length[i] = (int32_t)p->ids.count;
        if (earlier >= 0 && begins_alike(g, &requests[i], &requests[earlier], head)) {
            begin[i] = begin[earlier];
            continue;
        }
        const struct bif_encoded_view view = {
            .ids = p->ids.ids, .labels = p->labels.ids, .count = head, .image_start = p->image_start, .images = p->images};
        begin[i] = (int32_t)g->packed->sequences;
        if ((int64_t)p->ids.count > g->limits.max_prompt || !bif_batch_add(g->packed, &g->pack, &view, requests[i].pixels, (uint64_t)i)) {
            return bif_fail(BIF_ERR_DATA, "a prompt of %zu tokens and %lld pictures does not fit; at most %lld tokens are planned for",
                            p->ids.count, (long long)p->images, (long long)g->limits.max_prompt);
        }
    }
    return BIF_OK;
}

/* The beginnings run; where a prompt has no tail this is its last hidden state. */
static void prefill(bif_generator *g, const bif_request *requests, int64_t count, const int32_t *begin)
{
    bif_device *device = g->session->device;
    const bif_decoder *decoder = &g->session->vlm.decoder;
    const size_t mark = bif_arena_mark(&g->arena);
    bif_decoder_acts acts = bif_decoder_plan(decoder, &g->arena, g->packed->tokens, g->packed->sequences, BIF_KEEP_NOTHING);
    bif_tensor input = bif_decoder_input(&acts), hidden, last = bif_rows(&g->last, 0, count);
    const bif_inputs *in = bif_vlm_embed(&g->session->vlm, device, &g->arena, g->packed, &input);
    bif_decoder_prefill(decoder, device, &acts, &in->pos, &in->bounds, &in->eot, &g->cache, &hidden);
    for (int64_t i = 0; i < count; i++) {
        g->ids[i] = head_of(g, requests[i].prompt) == g->length[i] ? begin[i] : -1;
    }
    const bif_tensor index = bif_generator_upload(g, g->ids, count);
    bif_gather_rows(device, &(bif_gather_rows_args){.src = &hidden, .index = &index, .dst = &last});
    bif_arena_release(&g->arena, mark);
    /* From the last to the first: a slot is overwritten when all that begin with it have their copy, for none of them is before it. */
    for (int64_t i = count - 1; i >= 0; i--) {
        if (begin[i] != (int32_t)i) {
            bif_kv_cache_copy(decoder, device, &g->cache, begin[i], i, head_of(g, requests[i].prompt));
        }
    }
}

bif_tensor bif_generator_step(bif_generator *g, int64_t rows)
{
    bif_device *device = g->session->device;
    const bif_decoder *decoder = &g->session->vlm.decoder;
    bif_decoder_acts acts = bif_decoder_plan(decoder, &g->arena, rows, -1, BIF_KEEP_NOTHING);
    const bif_tensor ids = bif_generator_upload(g, g->ids, rows);
    bif_tensor input = bif_decoder_input(&acts), hidden;
    bif_embedding(device, &(bif_embedding_args){.table = &decoder->embed->value, .ids = &ids, .y = &input});
    bif_decoder_step(decoder, device, &acts, g->slots, &g->cache, &hidden);
    return hidden;
}

/* The tails, all first tokens, then all second ones, ... */
static void continue_prompts(bif_generator *g, const bif_request *requests, int64_t count, int32_t *last_row)
{
    int64_t rows = 0;
    bool more = true;
    for (int64_t i = 0; i < count; i++) {
        last_row[i] = -1;
    }
    for (int64_t t = 0; more; t++) {
        more = false;
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = head_of(g, requests[i].prompt) + t;
            if (at < g->length[i]) {
                last_row[i] = (int32_t)rows;
                g->slots[rows] = (int32_t)i;
                g->ids[rows++] = requests[i].prompt->ids.ids[at];
                more = true;
            }
        }
    }
    if (rows > 0) {
        const size_t mark = bif_arena_mark(&g->arena);
        const bif_tensor hidden = bif_generator_step(g, rows), index = bif_generator_upload(g, last_row, count);
        bif_tensor last = bif_rows(&g->last, 0, count);
        bif_gather_rows(g->session->device, &(bif_gather_rows_args){.src = &hidden, .index = &index, .dst = &last});
        bif_arena_release(&g->arena, mark);
    }
}

bif_status bif_generator_prompts(bif_generator *g, const bif_request *requests, int64_t count)
{
    BIF_BUG_IF(count < 1 || count > g->limits.batch, "%lld requests in a generator for %lld", (long long)count, (long long)g->limits.batch);
    int32_t *numbers = bif_calloc((size_t)count, sizeof *numbers);
    const bif_status st = pack(g, requests, count, numbers);
    if (st == BIF_OK) {
        prefill(g, requests, count, numbers);
        continue_prompts(g, requests, count, numbers);
    }
    free(numbers);
    return st;
}

/* ---- answers ---- */

void bif_generator_logits(bif_generator *g, const bif_tensor *hidden)
{
    bif_device *device = g->session->device;
    const bif_dtype dtype = g->session->vlm.params.dtype;
    const int64_t count = hidden->dim[0] * g->classes;
    bif_tensor logits = bif_take2(&g->arena, dtype, hidden->dim[0], g->classes);
    bif_decoder_logits(&g->session->vlm.decoder, device, hidden, &logits);
    device->copy_out(device, g->logits, logits.data, bif_bytes(&logits));
    if (dtype == BIF_DTYPE_BF16) { /* the upper halves of floats, spread from the end */
        for (int64_t i = count - 1; i >= 0; i--) {
            uint16_t half;
            memcpy(&half, (const char *)g->logits + 2 * i, sizeof half);
            const uint32_t bits = (uint32_t)half << 16;
            memcpy(&g->logits[i], &bits, sizeof bits);
        }
    }
}

/* g->ids[i] = the next token of row i of hidden [count, C], of which request g->slots[i] has `made` already. */
static void pick(bif_generator *g, const bif_request *requests, const bif_tensor *hidden, int64_t made)
{
    bif_device *device = g->session->device;
    const int64_t count = hidden->dim[0];
    if (g->logits == NULL) {
        bif_tensor logits = bif_take2(&g->arena, g->session->vlm.params.dtype, count, g->classes);
        bif_tensor index = bif_take1(&g->arena, BIF_DTYPE_I32, count);
        bif_decoder_logits(&g->session->vlm.decoder, device, hidden, &logits);
        bif_argmax(device, &(bif_argmax_args){.x = &logits, .index = &index});
        device->copy_out(device, g->ids, index.data, (size_t)count * sizeof *g->ids);
        return;
    }
    bif_generator_logits(g, hidden);
    for (int64_t i = 0; i < count; i++) {
        uint32_t word[4];
        bif_philox(g->limits.decoding.seed, BIF_RNG_SAMPLING, requests[g->slots[i]].number, (uint32_t)made, word);
        const double uniform = ((double)word[0] * 0x1p32 + (double)word[1]) * 0x1p-64;
        g->ids[i] = (int32_t)bif_sample(g->logits + i * g->classes, g->classes, &g->limits.decoding,
                                        uniform < 1.0 ? uniform : 0x1.fffffffffffffp-1, g->candidates);
    }
}

/* Takes the picked tokens: appends them, drops the sequences that ended. Returns how many go on; slots[0..) and ids[0..) are theirs. */
static int64_t accept(bif_generator *g, int64_t active, int64_t made, bif_ids *answers)
{
    const int32_t stop = bif_chat_stop(&g->session->chat);
    int64_t left = 0;
    for (int64_t i = 0; i < active; i++) {
        const int32_t id = g->ids[i], slot = g->slots[i];
        if (id == stop) {
            continue;
        }
        bif_ids_push(&answers[slot], id);
        const bool on = g->hear == NULL || g->hear(g->listener, slot, id);
        if (on && made < g->limits.decoding.max_new) {
            g->ids[left] = id;
            g->slots[left++] = slot;
        }
    }
    return left;
}

bif_status bif_generate(bif_generator *g, const bif_request *requests, int64_t count, bif_ids *answers)
{
    const bif_status st = bif_generator_prompts(g, requests, count);
    if (st != BIF_OK) {
        return st;
    }
    for (int64_t i = 0; i < count; i++) {
        answers[i].count = 0;
    }
    if (g->limits.decoding.beams > 1) {
        bif_generate_beams(g, requests, count, answers);
        return BIF_OK;
    }
    const size_t mark = bif_arena_mark(&g->arena);
    const bif_tensor last = bif_rows(&g->last, 0, count);
    for (int64_t i = 0; i < count; i++) {
        g->slots[i] = (int32_t)i;
    }
    pick(g, requests, &last, 0);
    int64_t active = count;
    for (int64_t made = 1; (active = accept(g, active, made, answers)) > 0; made++) {
        if (g->between != NULL) {
            g->between(g->context);
        }
        bif_arena_release(&g->arena, mark);
        const bif_tensor hidden = bif_generator_step(g, active);
        pick(g, requests, &hidden, made);
    }
    bif_arena_release(&g->arena, mark);
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
