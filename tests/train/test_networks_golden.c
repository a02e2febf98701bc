/* Logits, loss, embeddings and every parameter gradient of tiny models against transformers, and with adapters against
 * PEFT. Measured: below 3e-6 relative L2. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tests/train/network_case.h"

#define TOLERANCE 1e-5

typedef struct {
    char name[32];
} vlm_case;

ParameterizedTestParameters(networks, vlm)
{
    static vlm_case cases[] = {{"llama"}, {"llama_gqa"},   {"llama3"},     {"mistral"},    {"qwen2"},
                               {"qwen3"}, {"llava_llama"}, {"llava_qwen2"}, {"llava_siglip"}, {"lora_llama"}, {"lora_qwen3"}};
    return cr_make_param_array(vlm_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(vlm_case *param, networks, vlm)
{
    network_case c = case_open(param->name, 0);
    int64_t count = 0;
    float *wanted_loss = golden_floats(c.file, "out.", "loss", &count),
          *wanted_logits = golden_floats(c.file, "out.", "logits", &count);
    const int64_t vocab = c.vlm.config.decoder.vocab;
    cr_assert_eq(count, c.batch.tokens * vocab);

    bif_tensor hidden;
    bif_vlm_hidden(&c.vlm, c.device, &c.arena, &c.batch, &hidden);
    bif_tensor logits = bif_tensor2(bif_malloc((size_t)count * sizeof(float)), BIF_DTYPE_F32, c.batch.tokens, vocab);
    bif_decoder_logits(&c.vlm.decoder, c.device, &hidden, &logits);
    expect_close("logits", logits.data, wanted_logits, count, TOLERANCE, 0);

    bif_loss loss;
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f, false, &loss);
    cr_expect_eq(loss.supervised, c.batch.supervised);
    cr_expect_float_eq(loss.loss_sum / (double)loss.supervised, (double)wanted_loss[0], TOLERANCE);
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f / (float)loss.supervised, true, &loss);
    cr_expect_float_eq(loss.loss_sum / (double)loss.supervised, (double)wanted_loss[0], TOLERANCE);
    expect_gradients(&c.vlm.params, c.file, TOLERANCE);

    /* The other policy takes no more memory (less with several blocks) and gives the same bits. */
    const size_t bytes = (size_t)c.vlm.params.flat * sizeof(float), kept = c.arena.size;
    float *first = bif_malloc(bytes);
    memcpy(first, c.vlm.params.grads, bytes);
    bif_params_zero_grads(&c.vlm.params);
    c.vlm.recompute = true;
    const bif_batch_limits limits = limits_of(&c.batch, &c.vlm.config);
    cr_expect_leq(bif_vlm_measure(&c.vlm, c.device, &limits, true), kept);
    bif_vlm_step(&c.vlm, c.device, &c.arena, &c.batch, 1.0f / (float)loss.supervised, true, &loss);
    cr_expect(memcmp(first, c.vlm.params.grads, bytes) == 0, "recomputed gradients differ");
    free(first);

    free(logits.data);
    free(wanted_loss);
    free(wanted_logits);
    case_close(&c);
}

/* A step by hand, with the loss in chunks of 3 rows: tiny models fit one chunk otherwise. */
Test(networks, loss_in_chunks)
{
    network_case c = case_open("llama_gqa", 0);
    const bif_decoder *decoder = &c.vlm.decoder;
    const bif_batch *b = &c.batch;
    bif_arena arena = arena_of(c.device, 2 * c.arena.size);
    bif_decoder_acts acts = bif_decoder_plan(decoder, &arena, b->tokens, b->supervised, true);
    bif_head_acts head = bif_decoder_head_plan(decoder, c.device, &arena, b->supervised);
    cr_assert(head.chunk == b->supervised && head.chunk > 6);
    head.chunk = 3;
    const bif_tensor ids = bif_tensor1(b->ids, BIF_DTYPE_I32, b->tokens),
                     pos = bif_tensor1(b->pos, BIF_DTYPE_I32, b->tokens);
    const bif_bounds bounds = {.host = bif_tensor1(b->cu_seqlens, BIF_DTYPE_I32, b->sequences + 1)};
    const bif_tensor rows = bif_tensor1(b->rows, BIF_DTYPE_I32, b->supervised);
    const bif_tensor targets = bif_tensor1(b->targets, BIF_DTYPE_I32, b->supervised);
    bif_tensor input = bif_decoder_input(&acts), hidden, dinput;
    bif_embedding(c.device, &(bif_embedding_args){.table = &decoder->embed->value, .ids = &ids, .y = &input});
    bif_decoder_forward(decoder, c.device, &acts, &pos, &bounds, &rows, NULL, &hidden);
    float weight = 1.0f / (float)b->supervised;
    double mean = 0;
    const bif_tensor factor = bif_tensor1(&weight, BIF_DTYPE_F32, 1);
    bif_tensor sum = bif_tensor1(&mean, BIF_DTYPE_F64, 1);
    bif_decoder_loss(decoder, c.device, &acts, &head, &targets, &factor, true, true, &sum);
    bif_decoder_backward(decoder, c.device, &acts, &pos, &bounds, &rows, true, &dinput);
    bif_embedding_backward(c.device,
                           &(bif_embedding_backward_args){.ids = &ids, .dy = &dinput, .dtable = &decoder->embed->grad});
    int64_t count = 0;
    float *wanted = golden_floats(c.file, "out.", "loss", &count);
    cr_expect_float_eq(mean, (double)wanted[0], TOLERANCE);
    expect_gradients(&c.vlm.params, c.file, TOLERANCE);
    free(wanted);
    c.device->release(c.device, arena.base);
    case_close(&c);
}

ParameterizedTestParameters(networks, clip)
{
    static vlm_case cases[] = {{"clip"}, {"siglip"}};
    return cr_make_param_array(vlm_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(vlm_case *param, networks, clip)
{
    bif_safetensors *file = golden_open(param->name);
    const bif_model_config config = case_config(param->name);
    bif_device *device = NULL;
    cr_assert_eq(bif_device_open("cpu", 2, &device), BIF_OK);
    bif_clip clip;
    bif_clip_declare(&clip, &config);
    cr_assert_eq(bif_clip_allocate(&clip, device, 1), BIF_OK);
    load_weights(&clip.params, file);
    set_table(&clip.vit, device);
    bif_batch batch = golden_batch(file, config.vit.image);
    const bif_batch_limits limits = limits_of(&batch, &config);
    const size_t size = bif_clip_measure(&clip, device, &limits, true);
    bif_arena arena = arena_of(device, size);
    int64_t count = 0;
    float *dimage = golden_floats(file, "in.", "dimage", &count), *dtext = golden_floats(file, "in.", "dtext", &count);
    float *wanted_image = golden_floats(file, "out.", "image", &count),
          *wanted_text = golden_floats(file, "out.", "text", &count);

    bif_tensor image, text;
    for (int keep = 0; keep < 2; keep++) {
        bif_clip_acts *acts = bif_clip_forward(&clip, device, &arena, &batch, keep == 1, &image, &text);
        cr_assert_eq(count, bif_numel(&text));
        expect_close("image", image.data, wanted_image, count, TOLERANCE, 0);
        expect_close("text", text.data, wanted_text, count, TOLERANCE, 0);
        if (keep == 1) {
            const bif_tensor di = bif_tensor2(dimage, BIF_DTYPE_F32, 3, config.projection),
                             dt = bif_tensor2(dtext, BIF_DTYPE_F32, 3, config.projection);
            bif_clip_backward(&clip, device, &arena, acts, &di, &dt);
        }
    }
    expect_gradients(&clip.params, file, TOLERANCE);
    cr_expect_eq(arena.peak, size, "%zu measured, %zu used", size, arena.peak);

    bif_clip_forward(&clip, device, &arena, &batch, false, NULL, &text); /* one tower alone */
    expect_close("text alone", text.data, wanted_text, count, TOLERANCE, 0);

    free(dimage);
    free(dtext);
    free(wanted_image);
    free(wanted_text);
    device->release(device, arena.base);
    batch_free(&batch);
    bif_clip_free(&clip);
    bif_safetensors_close(file);
    bif_device_close(device);
}
