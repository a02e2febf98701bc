/* A tensor is a view: pointer, dtype, shape. Always contiguous, row-major. It owns nothing. */
#pragma once
#include "base/arena.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    BIF_DTYPE_F32 = 0,
    BIF_DTYPE_BF16 = 1,
    BIF_DTYPE_F16 = 2,
    BIF_DTYPE_I32 = 3,
    BIF_DTYPE_I64 = 4,
    BIF_DTYPE_U8 = 5,
    BIF_DTYPE_U16 = 6,
    BIF_DTYPE_F64 = 7,
} bif_dtype;

#define BIF_MAX_RANK 4

typedef struct {
    void *data; /* NULL in a measuring pass or for an empty tensor */
    bif_dtype dtype;
    int rank;                   /* 0 = scalar */
    int64_t dim[BIF_MAX_RANK]; /* dim[0..rank) >= 0 */
} bif_tensor;

size_t bif_dtype_size(bif_dtype dtype);
const char *bif_dtype_name(bif_dtype dtype);
int64_t bif_numel(const bif_tensor *t);
size_t bif_bytes(const bif_tensor *t);

/* Views of given memory. */
bif_tensor bif_tensor1(void *data, bif_dtype dtype, int64_t d0);
bif_tensor bif_tensor2(void *data, bif_dtype dtype, int64_t d0, int64_t d1);
bif_tensor bif_tensor4(void *data, bif_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
/* The same, with memory taken from an arena. */
bif_tensor bif_take1(bif_arena *arena, bif_dtype dtype, int64_t d0);
bif_tensor bif_take2(bif_arena *arena, bif_dtype dtype, int64_t d0, int64_t d1);
/* [d0, d1] elements of t from its element `first` on. */
bif_tensor bif_part2(const bif_tensor *t, int64_t first, int64_t d0, int64_t d1);
/* Rows [first, first + count) along dimension 0. */
bif_tensor bif_rows(const bif_tensor *t, int64_t first, int64_t count);
/* "f32 [3, 64, 64]" into a caller's buffer; returns it. */
const char *bif_shape_text(const bif_tensor *t, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif
