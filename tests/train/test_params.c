#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "kernels/convert.h"
#include "train/params.h"
#include "host_device.h"

#define VALUES(params) ((float *)(params).values)
#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

/* norm [5] | q [4,6] k [2,6] v [2,6] fused | projector [3] */
static bif_params small(void)
{
    bif_params p = {0};
    bif_params_add(&p, "norm", BIF_GROUP_DECODER, 1, DIMS(5), false, BIF_INIT_ONE, 0);
    bif_params_add(&p, "q", BIF_GROUP_DECODER, 2, DIMS(4, 6), true, BIF_INIT_NORMAL, 0.5f);
    bif_params_add_fused(&p, "k", BIF_GROUP_DECODER, 2, DIMS(2, 6), true, BIF_INIT_NORMAL, 0.5f);
    bif_params_add_fused(&p, "v", BIF_GROUP_DECODER, 2, DIMS(2, 6), true, BIF_INIT_NORMAL, 0.5f);
    bif_params_add(&p, "projector", BIF_GROUP_PROJECTOR, 1, DIMS(3), false, BIF_INIT_UNIFORM, 0.25f);
    bif_params_add(&p, "scale", BIF_GROUP_JOINT, 0, NULL, false, BIF_INIT_CONSTANT, 2.5f);
    return p;
}

Test(params, layout_of_the_flat_space)
{
    bif_device device = host_device();
    bif_params p = small();
    size_t bytes = bif_params_bytes(&p, 3);
    cr_assert_eq(bif_params_allocate(&p, &device, 3), BIF_OK);
    cr_expect_eq(p.items[0].offset, 0);
    cr_expect_eq(p.items[1].offset, 16);
    cr_expect_eq(p.items[2].offset, 16 + 24, "k lies directly behind q");
    cr_expect_eq(p.items[3].offset, 16 + 36);
    cr_expect_eq(p.items[4].offset, 64, "the next row is aligned again");
    cr_expect_eq(p.items[5].offset, 80);
    cr_expect_eq(p.flat, 96, "a multiple of 3 * 16");
    cr_expect_eq(p.frozen_elements, 0);
    cr_expect_eq(bytes, 96 * 2 * 4);
    for (int i = 0; i < 6; i++) {
        cr_expect_eq(p.items[i].value.data, VALUES(p) + p.items[i].offset);
        cr_expect_eq(p.items[i].grad.data, p.grads + p.items[i].offset);
    }
    bif_tensor qkv = bif_params_fused_value(&p.items[1], 3);
    cr_expect_eq(qkv.dim[0], 8);
    cr_expect_eq(qkv.dim[1], 6);
    cr_expect_eq(qkv.data, VALUES(p) + 16);
    cr_expect_eq(bif_params_elements(&p, BIF_GROUP_DECODER, false), 5 + 24 + 12 + 12);
    bif_params_free(&p);
}

Test(params, frozen_rows_have_no_gradient)
{
    bif_device device = host_device();
    bif_params p = small();
    bif_params_train_group(&p, BIF_GROUP_DECODER, false);
    cr_assert_eq(bif_params_allocate(&p, &device, 2), BIF_OK);
    cr_expect_eq(p.flat, 32);
    cr_expect_eq(p.frozen_elements, 64);
    cr_expect_null(bif_params_find(&p, "q")->grad.data);
    cr_expect_null(bif_params_fused_grad(&p.items[1], 3).data);
    cr_expect_eq(bif_params_find(&p, "q")->value.data, (float *)p.frozen + 16);
    cr_expect_eq(bif_params_find(&p, "projector")->offset, 0);
    cr_expect_eq(bif_params_elements(&p, BIF_GROUP_DECODER, true), 0);
    cr_expect_null(bif_params_find(&p, "nothing"));
    bif_params_init(&p, 1, ~0u);
    char trained[33], frozen[33], after[33];
    bif_params_digest(&p, true, trained);
    bif_params_digest(&p, false, frozen);
    ((float *)bif_params_find(&p, "projector")->value.data)[2] += 1;
    bif_params_digest(&p, true, after);
    cr_expect_str_neq(after, trained);
    bif_params_digest(&p, false, after);
    cr_expect_str_eq(after, frozen);
    bif_params_free(&p);
}

Test(params, draws_depend_on_seed_name_and_element_only)
{
    bif_device device = host_device();
    bif_params p = small(), one = {0};
    bif_params_train_group(&p, BIF_GROUP_DECODER, false);
    cr_assert_eq(bif_params_allocate(&p, &device, 4), BIF_OK);
    bif_params_init(&p, 7, ~0u);
    bif_params_add(&one, "v", BIF_GROUP_TEXT, 1, DIMS(12), true, BIF_INIT_NORMAL, 0.5f);
    cr_assert_eq(bif_params_allocate(&one, &device, 1), BIF_OK);
    bif_params_init(&one, 7, ~0u);
    cr_expect_arr_eq(one.values, p.items[3].value.data, 12 * sizeof(float));
    cr_expect_eq(VALUES(one)[3], 0.5f * bif_rng_normal(7, BIF_RNG_INIT, bif_hash_name("v"), 3));
    bif_params_init(&one, 8, ~0u);
    cr_expect_arr_neq(one.values, p.items[3].value.data, 12 * sizeof(float));
    cr_expect_eq(((float *)p.items[0].value.data)[4], 1.0f);
    cr_expect_eq(*(float *)p.items[5].value.data, 2.5f);
    for (int i = 0; i < 3; i++) {
        float u = ((float *)p.items[4].value.data)[i];
        cr_expect(u >= -0.25f && u < 0.25f && u != 0.0f);
    }
    bif_params_free(&p);
    bif_params_free(&one);
}

Test(params, draws_do_not_break_at_the_chunk_border)
{
    bif_device device = host_device();
    bif_params p = {0};
    const int64_t n = (1 << 18) + 5;
    bif_params_add(&p, "long", BIF_GROUP_TEXT, 1, DIMS(n), true, BIF_INIT_NORMAL, 1.0f);
    cr_assert_eq(bif_params_allocate(&p, &device, 1), BIF_OK);
    bif_params_init(&p, 3, ~0u);
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += VALUES(p)[i];
        square += (double)VALUES(p)[i] * VALUES(p)[i];
    }
    cr_expect_lt(fabs(sum / (double)n), 0.01);
    cr_expect_lt(fabs(square / (double)n - 1), 0.02);
    for (int64_t i = n - 6; i < n; i++) {
        cr_expect_eq(VALUES(p)[i], bif_rng_normal(3, BIF_RNG_INIT, bif_hash_name("long"), (uint32_t)i));
    }
    bif_params_zero_grads(&p);
    cr_expect_eq(VALUES(p)[n], 0.0f, "padding stays 0");
    bif_params_free(&p);
}

/* f32 and bf16 tables have the same layout in elements; the gradients stay f32. */
Test(params, a_table_of_bf16)
{
    bif_device device = host_device();
    bif_params whole = small(), half = small();
    bif_params_set_dtype(&half, BIF_DTYPE_BF16);
    bif_params *both[] = {&whole, &half};
    for (int i = 0; i < 2; i++) {
        bif_params_train_group(both[i], BIF_GROUP_PROJECTOR, false);
        cr_assert_eq(bif_params_allocate(both[i], &device, 2), BIF_OK);
        bif_params_init(both[i], 7, ~0u);
    }
    cr_expect_eq(bif_params_bytes(&half, 2), (size_t)half.flat * 6 + (size_t)half.frozen_elements * 2);
    for (int64_t i = 0; i < half.count; i++) {
        const bif_param *p = &half.items[i], *w = &whole.items[i];
        const uint16_t *base = p->trainable ? half.values : half.frozen, *value = p->value.data;
        cr_expect_eq(p->offset, w->offset);
        cr_expect_eq(p->value.data, base + p->offset);
        cr_expect_eq(p->value.dtype, BIF_DTYPE_BF16);
        cr_expect_eq(p->grad.dtype, BIF_DTYPE_F32);
        cr_expect_eq(p->grad.data, p->trainable ? half.grads + p->offset : NULL);
        cr_expect(p->min == -INFINITY && p->max == INFINITY);
        for (int64_t k = 0; k < bif_numel(&p->value); k++) {
            cr_expect_eq(value[k], bif_to_bf16(((float *)w->value.data)[k]), "%s", p->name);
        }
    }
    const bif_tensor qkv = bif_params_fused_value(&half.items[1], 3), dqkv = bif_params_fused_grad(&half.items[1], 3);
    cr_expect(qkv.dtype == BIF_DTYPE_BF16 && qkv.dim[0] == 8 && qkv.data == half.items[1].value.data);
    cr_expect(dqkv.dtype == BIF_DTYPE_F32 && dqkv.dim[0] == 8 && dqkv.data == half.items[1].grad.data);
    char before[33], after[33], f32[33];
    bif_params_digest(&half, true, before);
    bif_params_digest(&whole, true, f32);
    cr_expect_str_neq(before, f32);
    ((uint16_t *)half.items[5].value.data)[0] ^= 1;
    bif_params_digest(&half, true, after);
    cr_expect_str_neq(after, before);
    bif_params_free(&whole);
    bif_params_free(&half);
}
