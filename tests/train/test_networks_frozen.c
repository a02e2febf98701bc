/* Freezing changes nothing but what is missing; the measuring pass is what a step takes; gradients add up. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tests/train/network_case.h"

typedef struct {
    char name[32];
    unsigned frozen;
} frozen_case;

enum {
    ENCODER = 1u << BIF_GROUP_ENCODER,
    PROJECTOR = 1u << BIF_GROUP_PROJECTOR,
    DECODER = 1u << BIF_GROUP_DECODER,
    LORA = 1u << BIF_GROUP_LORA
};

ParameterizedTestParameters(networks, frozen)
{
    static frozen_case cases[] = {{"llava_llama", 0},
                                  {"llava_llama", ENCODER},
                                  {"llava_llama", ENCODER | PROJECTOR},
                                  {"llava_llama", ENCODER | DECODER},
                                  {"llava_llama", PROJECTOR | DECODER},
                                  {"llava_qwen2", ENCODER},
                                  {"llava_qwen2", ENCODER | DECODER},
                                  {"llava_qwen2", DECODER},
                                  {"llava_qwen2", PROJECTOR},
                                  {"llava_llama", ENCODER | PROJECTOR | DECODER},
                                  {"llava_siglip", 0},
                                  {"llava_siglip", DECODER},
                                  {"llava_siglip", ENCODER},
                                  {"qwen3", DECODER},
                                  {"lora_llama", DECODER},
                                  {"lora_llama", LORA},
                                  {"lora_qwen3", DECODER}};
    return cr_make_param_array(frozen_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(frozen_case *param, networks, frozen)
{
    network_case whole = case_open(param->name, 0), part = case_open(param->name, param->frozen);
    char before[33], after[33];
    bif_params_digest(&part.vlm.params, false, before);
    bif_loss loss, same;
    const float weight = 1.0f / (float)whole.batch.supervised;
    bif_vlm_step(&whole.vlm, whole.device, &whole.arena, &whole.batch, weight, true, &loss);
    for (int i = 0; i < 2; i++) { /* twice into the same gradients */
        bif_vlm_step(&part.vlm, part.device, &part.arena, &part.batch, weight, true, &same);
        cr_expect_float_eq(loss.loss_sum, same.loss_sum,
                           1e-6 * loss.loss_sum); /* a frozen part adds its residuals in place */
    }
    bif_params_digest(&part.vlm.params, false, after);
    cr_expect_str_eq(before, after);
    for (int64_t i = 0; i < whole.vlm.params.count; i++) {
        bif_param *a = &whole.vlm.params.items[i];
        const bif_param *b = &part.vlm.params.items[i];
        cr_expect_eq(b->grad.data == NULL, (param->frozen & 1u << b->group) != 0);
        if (b->grad.data != NULL) {
            bif_scale(whole.device, 2.0f, &a->grad);
            expect_close(a->name, b->grad.data, a->grad.data, bif_numel(&a->grad), 1e-5, 1e-7);
        }
    }
    case_close(&whole);
    case_close(&part);
}

ParameterizedTestParameters(networks, measured)
{
    static frozen_case cases[] = {
        {"llava_llama", 0}, {"llava_llama", ENCODER}, {"llava_qwen2", ENCODER | DECODER}, {"qwen3", 0}, {"lora_llama", DECODER}};
    return cr_make_param_array(frozen_case, cases, sizeof cases / sizeof cases[0]);
}

/* A batch that fills its limits: every row supervised. */
ParameterizedTest(frozen_case *param, networks, measured)
{
    network_case c = case_open(param->name, param->frozen);
    for (int64_t t = 0; t < c.batch.tokens; t++) {
        c.batch.rows[t] = (int32_t)t;
        c.batch.targets[t] = (int32_t)(t % c.vlm.config.decoder.vocab);
    }
    bif_loss loss;
    bif_tensor hidden;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, true, &loss);
    cr_expect_lt(c.arena.peak, c.arena.size);
    c.batch.supervised = c.batch.tokens;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, true, &loss);
    cr_expect_eq(c.arena.peak, c.arena.size, "%zu measured, %zu used", c.arena.size, c.arena.peak);

    const bif_batch_limits limits = limits_of(&c.batch, &c.vlm.config);
    const size_t forward = bif_vlm_measure(&c.vlm, c.device, &limits, false);
    cr_expect_leq(forward, c.arena.size);
    c.arena.peak = 0;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, false, &loss);
    cr_expect_eq(c.arena.peak, forward);
    c.arena.peak = 0;
    bif_vlm_hidden(&c.vlm, c.device, &c.arena, &c.batch, &hidden);
    cr_expect_leq(c.arena.peak, forward);
    case_close(&c);
}

/* A text-only batch of a LLaVA model: the same loss as the picture sequences' neighbours give it, and no gradient above
 * the decoder. */
Test(networks, text_only)
{
    network_case c = case_open("llava_llama", 0);
    bif_batch text = c.batch;
    text.ids += c.batch.cu_seqlens[1];
    text.pos += c.batch.cu_seqlens[1];
    text.image_row += c.batch.cu_seqlens[1];
    text.cu_seqlens = (int32_t[]){0, c.batch.cu_seqlens[2] - c.batch.cu_seqlens[1]};
    text.tokens = text.cu_seqlens[1];
    text.sequences = 1;
    text.images = 0;
    text.rows = (int32_t[]){0, 2};
    text.targets = (int32_t[]){5, 7};
    text.supervised = 2;
    bif_tensor hidden;
    bif_vlm_hidden(&c.vlm, c.device, &c.arena, &c.batch, &hidden);
    const int64_t width = hidden.dim[1];
    float *whole = bif_malloc((size_t)(text.tokens * width) * sizeof *whole);
    memcpy(whole, (float *)hidden.data + c.batch.cu_seqlens[1] * width, (size_t)(text.tokens * width) * sizeof *whole);
    bif_vlm_hidden(&c.vlm, c.device, &c.arena, &text, &hidden);
    expect_close("hidden", hidden.data, whole, text.tokens * width, 1e-6, 0);
    bif_loss loss;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &text, 0.5f, true, &loss);
    cr_expect(loss.loss_sum > 0 && loss.supervised == 2);
    double decoder = 0, rest = 0;
    for (int64_t i = 0; i < c.vlm.params.count; i++) {
        const bif_param *p = &c.vlm.params.items[i];
        *(p->group == BIF_GROUP_DECODER ? &decoder : &rest) += bif_sumsq(c.device, &p->grad);
    }
    cr_expect(decoder > 0 && rest == 0);
    /* Nothing supervised: no loss, no work. */
    text.supervised = 0;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &text, 0.5f, true, &loss);
    cr_expect(loss.loss_sum == 0 && loss.supervised == 0);
    free(whole);
    case_close(&c);
}
