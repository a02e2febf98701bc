#include "kernels/tensor.h"

#include <stdio.h>

size_t bif_dtype_size(bif_dtype dtype)
{
    static const size_t sizes[] = {4, 2, 2, 4, 8, 1, 2, 8};
    BIF_BUG_IF((unsigned)dtype > BIF_DTYPE_F64, "unknown dtype %d", (int)dtype);
    return sizes[dtype];
}

const char *bif_dtype_name(bif_dtype dtype)
{
    static const char *const names[] = {"f32", "bf16", "f16", "i32", "i64", "u8", "u16", "f64"};
    return (unsigned)dtype > BIF_DTYPE_F64 ? "?" : names[dtype];
}

int64_t bif_numel(const bif_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) {
        n *= t->dim[i];
    }
    return n;
}

size_t bif_bytes(const bif_tensor *t)
{
    return (size_t)bif_numel(t) * bif_dtype_size(t->dtype);
}

bif_tensor bif_tensor1(void *data, bif_dtype dtype, int64_t d0)
{
    return (bif_tensor){data, dtype, 1, {d0, 0, 0, 0}};
}

bif_tensor bif_tensor2(void *data, bif_dtype dtype, int64_t d0, int64_t d1)
{
    return (bif_tensor){data, dtype, 2, {d0, d1, 0, 0}};
}

bif_tensor bif_tensor4(void *data, bif_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return (bif_tensor){data, dtype, 4, {d0, d1, d2, d3}};
}

bif_tensor bif_take1(bif_arena *arena, bif_dtype dtype, int64_t d0)
{
    bif_tensor t = bif_tensor1(NULL, dtype, d0);
    t.data = bif_arena_take(arena, bif_bytes(&t));
    return t;
}

bif_tensor bif_take2(bif_arena *arena, bif_dtype dtype, int64_t d0, int64_t d1)
{
    bif_tensor t = bif_tensor2(NULL, dtype, d0, d1);
    t.data = bif_arena_take(arena, bif_bytes(&t));
    return t;
}

bif_tensor bif_part2(const bif_tensor *t, int64_t first, int64_t d0, int64_t d1)
{
    BIF_BUG_IF(first < 0 || d0 < 0 || d1 < 0 || first + d0 * d1 > bif_numel(t), "elements [%lld, +%lld x %lld) of %lld", (long long)first,
               (long long)d0, (long long)d1, (long long)bif_numel(t));
    return bif_tensor2(t->data == NULL ? NULL : (char *)t->data + (size_t)first * bif_dtype_size(t->dtype), t->dtype, d0, d1);
}

bif_tensor bif_rows(const bif_tensor *t, int64_t first, int64_t count)
{
    BIF_BUG_IF(t->rank < 1 || first < 0 || count < 0 || first + count > t->dim[0], "rows [%lld, +%lld) of %lld",
               (long long)first, (long long)count, (long long)t->dim[0]);
    bif_tensor view = *t;
    view.dim[0] = 1;
    size_t row = bif_bytes(&view);
    view.dim[0] = count;
    view.data = t->data == NULL ? NULL : (char *)t->data + (size_t)first * row;
    return view;
}

const char *bif_shape_text(const bif_tensor *t, char *buffer, size_t size)
{
    size_t used = (size_t)snprintf(buffer, size, "%s [", bif_dtype_name(t->dtype));
    for (int i = 0; i < t->rank && used < size; i++) {
        used += (size_t)snprintf(buffer + used, size - used, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    }
    if (used < size) {
        snprintf(buffer + used, size - used, "]");
    }
    return buffer;
}
