/* Prefill of packed prompts, then single steps with slots that end at different times, against the full forward. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tests/train/network_case.h"

typedef struct {
    char name[32];
} generate_case;

ParameterizedTestParameters(networks, generate)
{
    static generate_case cases[] = {{"llama"}, {"llama_gqa"},   {"llama3"},     {"mistral"},    {"qwen2"},
                                    {"qwen3"}, {"llava_llama"}, {"lora_llama"}, {"lora_qwen3"}};
    return cr_make_param_array(generate_case, cases, sizeof cases / sizeof cases[0]);
}

/* Tokens of each sequence that are stepped; the rest, with every picture, is its prompt. */
static int32_t stepped(int64_t sequence, int32_t length)
{
    static const int32_t wanted[] = {4, 2, 3};
    return length - 1 < wanted[sequence] ? length - 1 : wanted[sequence];
}

static void expect_row(const bif_tensor *full, int64_t row, const bif_tensor *got, int64_t got_row)
{
    const int64_t width = full->dim[1];
    expect_close("hidden", (const float *)got->data + got_row * width, (const float *)full->data + row * width, width,
                 1e-5, 0);
}

ParameterizedTest(generate_case *param, networks, generate)
{
    network_case c = case_open(param->name, 0);
    const bif_decoder *decoder = &c.vlm.decoder;
    const bif_batch *batch = &c.batch;
    const int64_t n = batch->sequences, width = decoder->config.hidden;
    cr_assert_eq(n, 3);
    bif_tensor view;
    bif_vlm_hidden(&c.vlm, c.device, &c.arena, batch, &view);
    bif_tensor full = bif_tensor2(bif_malloc(bif_bytes(&view)), BIF_DTYPE_F32, batch->tokens, width);
    memcpy(full.data, view.data, bif_bytes(&full));

    /* The prompts: each sequence without its last tokens. */
    bif_batch prompt = golden_batch(c.file, c.vlm.config.vit.image);
    prompt.tokens = 0;
    int32_t last[3];
    for (int64_t s = 0; s < n; s++) {
        const int32_t end = batch->cu_seqlens[s + 1] - stepped(s, batch->cu_seqlens[s + 1] - batch->cu_seqlens[s]);
        prompt.cu_seqlens[s] = (int32_t)prompt.tokens;
        for (int32_t t = batch->cu_seqlens[s]; t < end; t++) {
            prompt.ids[prompt.tokens] = batch->ids[t];
            prompt.pos[prompt.tokens] = batch->pos[t];
            prompt.image_row[prompt.tokens++] = batch->image_row[t];
        }
        last[s] = (int32_t)prompt.tokens - 1;
    }
    prompt.cu_seqlens[n] = (int32_t)prompt.tokens;

    bif_arena arena = arena_of(c.device, 8u << 20);
    bif_kv_cache cache;
    bif_kv_cache_plan(decoder, &arena, n, 40, prompt.tokens, &cache);
    const bif_tensor pos = bif_tensor1(prompt.pos, BIF_DTYPE_I32, prompt.tokens);
    const bif_bounds bounds = {.host = bif_tensor1(prompt.cu_seqlens, BIF_DTYPE_I32, n + 1)};
    const bif_tensor rows = bif_tensor1(last, BIF_DTYPE_I32, n);
    for (int picked = 0; picked < 2; picked++) { /* all rows, then only the last ones */
        bif_tensor hidden;
        bif_decoder_acts acts = bif_decoder_plan(decoder, &arena, prompt.tokens, picked ? n : -1, BIF_KEEP_NOTHING);
        bif_tensor input = bif_decoder_input(&acts);
        bif_vlm_embed(&c.vlm, c.device, &arena, &prompt, &input);
        bif_decoder_prefill(decoder, c.device, &acts, &pos, &bounds, picked ? &rows : NULL, &cache, &hidden);
        for (int64_t s = 0; s < n; s++) {
            const int32_t length = prompt.cu_seqlens[s + 1] - prompt.cu_seqlens[s];
            cr_expect_eq(cache.len[s], length);
            expect_row(&full, batch->cu_seqlens[s] + length - 1, &hidden, picked ? s : last[s]);
        }
    }
    for (int32_t step = 0;; step++) {
        int32_t slots[3], ids[3];
        int64_t active = 0;
        for (int64_t i = 0; i < n; i++) {
            const int64_t s = step % 2 == 0 ? i : n - 1 - i; /* neighbours in order, then backwards */
            const int32_t length = batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];
            if (step < stepped(s, length)) {
                slots[active] = (int32_t)s;
                ids[active++] = batch->ids[batch->cu_seqlens[s + 1] - stepped(s, length) + step];
            }
        }
        if (active == 0) {
            cr_expect_eq(step, 4);
            break;
        }
        const size_t mark = bif_arena_mark(&arena);
        bif_decoder_acts acts = bif_decoder_plan(decoder, &arena, active, -1, BIF_KEEP_NOTHING);
        bif_tensor input = bif_decoder_input(&acts), hidden;
        const bif_tensor id = bif_tensor1(ids, BIF_DTYPE_I32, active);
        bif_embedding(c.device, &(bif_embedding_args){.table = &decoder->embed->value, .ids = &id, .y = &input});
        bif_decoder_step(decoder, c.device, &acts, slots, &cache, &hidden);
        for (int64_t i = 0; i < active; i++) {
            expect_row(&full, batch->cu_seqlens[slots[i]] + cache.len[slots[i]] - 1, &hidden, i);
        }
        bif_arena_release(&arena, mark);
    }
    bif_kv_cache_free(&cache);
    c.device->release(c.device, arena.base);
    batch_free(&prompt);
    free(full.data);
    case_close(&c);
}
