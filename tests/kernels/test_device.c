/* Opening devices, their memory, and what the checks in ops.c refuse. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

Test(device, names)
{
    static const char *const wrong[] = {"", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999", "CPU"};
    bif_device *device = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_eq(bif_device_open(wrong[i], 0, &device), BIF_ERR_USAGE, "'%s'", wrong[i]);
        cr_assert_null(device);
        cr_assert(strstr(bif_error_message(), "cuda:N") != NULL);
    }
    cr_assert_eq(bif_device_open("cpu", -1, &device), BIF_ERR_USAGE);
    cr_assert_eq(bif_device_open("cpu", 100000, &device), BIF_ERR_USAGE);
    cr_assert_eq(bif_device_open("auto", 1, &device), BIF_OK);
    bif_device_close(device);
    bif_device_close(NULL);
}

Test(device, instruction_set_is_chosen_by_the_environment)
{
    bif_device *device = NULL;
    setenv("BIFOCAL_ISA", "generic", 1);
    cr_assert_eq(bif_device_open("cpu", 2, &device), BIF_OK);
    cr_assert_str_eq(device->name, "cpu generic, 2 threads");
    cr_assert_str_eq(bif_cpu_isa(), "generic");
    bif_device_close(device);
    setenv("BIFOCAL_ISA", "avx1024", 1);
    cr_assert_eq(bif_device_open("cpu", 2, &device), BIF_ERR_USAGE);
    cr_assert(strstr(bif_error_message(), "avx1024") != NULL);
}

Test(device, memory)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 4u << 20, (9u << 20) + 5};
    bif_device *device = NULL;
    cr_assert_eq(bif_device_open("cpu", 2, &device), BIF_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *a = NULL, *b = NULL;
        cr_assert_eq(device->alloc(device, sizes[i], &a), BIF_OK);
        cr_assert_eq(device->alloc(device, sizes[i], &b), BIF_OK);
        cr_assert_eq((uintptr_t)a % 64, 0);
        for (size_t j = 0; j < sizes[i]; j++) {
            cr_assert_eq(((char *)a)[j], 0);
        }
        char *host = malloc(sizes[i] + 1), *back = malloc(sizes[i] + 1);
        for (size_t j = 0; j < sizes[i]; j++) {
            host[j] = (char)(j * 31 + 1);
        }
        device->copy_in(device, a, host, sizes[i]);
        device->copy(device, b, a, sizes[i]);
        device->zero(device, a, sizes[i]);
        device->copy_out(device, back, b, sizes[i]);
        device->sync(device);
        cr_assert_eq(memcmp(back, host, sizes[i]), 0);
        free(host);
        free(back);
        device->release(device, a);
        device->release(device, b);
    }
    void *huge = &huge;
    cr_assert_eq(device->alloc(device, SIZE_MAX / 2, &huge), BIF_ERR_MEMORY);
    cr_assert_null(huge);
    cr_assert_eq(device->alloc(device, SIZE_MAX, &huge), BIF_ERR_MEMORY);
    device->release(device, NULL);
    bif_device_close(device);
}

/* A caller's mistake ends the program by abort, before memory is touched. */
static float numbers[64];

static bif_device *cpu(void)
{
    bif_device *device = NULL;
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    return device;
}

#define MATRIX(rows, columns) bif_tensor2(numbers, BIF_DTYPE_F32, rows, columns)

Test(checks, shapes_differ, .signal = SIGABRT)
{
    bif_tensor x = MATRIX(2, 3), w = MATRIX(4, 2), y = MATRIX(2, 4);
    bif_linear(cpu(), &(bif_linear_args){.x = &x, .w = &w, .y = &y});
}

Test(checks, overlap, .signal = SIGABRT)
{
    bif_tensor x = MATRIX(2, 4), w = bif_tensor2(numbers + 32, BIF_DTYPE_F32, 4, 4), y = bif_tensor2(numbers + 4, BIF_DTYPE_F32, 2, 4);
    bif_linear(cpu(), &(bif_linear_args){.x = &x, .w = &w, .y = &y});
}

Test(checks, missing, .signal = SIGABRT)
{
    bif_tensor x = MATRIX(2, 4);
    bif_rmsnorm(cpu(), &(bif_rmsnorm_args){.x = &x, .y = &x});
}

Test(checks, dtype, .signal = SIGABRT)
{
    bif_tensor x = bif_tensor2(numbers, BIF_DTYPE_BF16, 2, 4);
    bif_scale(cpu(), 1.0f, &x);
}

Test(checks, index_out_of_range, .signal = SIGABRT)
{
    int32_t ids[] = {1, 4};
    bif_tensor table = MATRIX(4, 4), index = bif_tensor1(ids, BIF_DTYPE_I32, 2), y = bif_tensor2(numbers + 32, BIF_DTYPE_F32, 2, 4);
    bif_embedding(cpu(), &(bif_embedding_args){.table = &table, .ids = &index, .y = &y});
}

Test(checks, sequences_do_not_rise, .signal = SIGABRT)
{
    int32_t bounds[] = {0, 3, 1, 2};
    bif_tensor qkv = MATRIX(2, 12), cu = bif_tensor1(bounds, BIF_DTYPE_I32, 4), out = bif_tensor2(numbers + 32, BIF_DTYPE_F32, 2, 4);
    bif_attention(cpu(), &(bif_attention_args){
                             .qkv = &qkv, .cu_seqlens = &cu, .heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 1.0f, .out = &out});
}
