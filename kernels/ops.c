/* The checks of every op, once for all devices; then the device's own function. A mismatch is a bug of the caller. */
#include "kernels/ops.h"

#include <stdio.h>

/* What a check names: the op and the argument's spelling come from the macro, the shapes from the tensor. */
static __attribute__((noreturn, cold)) void bad(const char *op, const char *what, const char *wanted, const bif_tensor *t)
{
    char text[96];
    bif_bug(__FILE__, __LINE__, "%s: %s is %s, but %s", op, what, t == NULL ? "missing" : bif_shape_text(t, text, sizeof text),
            wanted);
}

static void want(const char *op, const char *name, const bif_tensor *t, const char *letters, bif_dtype dtype, int rank, int64_t d0,
                 int64_t d1)
{
    if (t == NULL || t->dtype != dtype || t->rank != rank || t->dim[0] != d0 || (rank > 1 && t->dim[1] != d1)) {
        char wanted[96], text[160];
        bif_tensor shape = {NULL, dtype, rank, {d0, d1, 0, 0}};
        snprintf(text, sizeof text, "wanted %s = [%s]", bif_shape_text(&shape, wanted, sizeof wanted), letters);
        bad(op, name, text, t);
    }
    if (t->data == NULL && bif_numel(t) > 0) {
        bad(op, name, "has no memory", t);
    }
}

static void apart(const char *op, const char *names, const bif_tensor *a, const bif_tensor *b)
{
    if (a == NULL || b == NULL) {
        return;
    }
    uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    if (a0 < b0 + bif_bytes(b) && b0 < a0 + bif_bytes(a)) {
        bad(op, names, "these must not overlap", a);
    }
}

/* Overlap is allowed when both are the very same memory. */
static void apart_or_same(const char *op, const char *names, const bif_tensor *a, const bif_tensor *b)
{
    if (a != NULL && b != NULL && a->data != b->data) {
        apart(op, names, a, b);
    }
}

/* The checks below run inside an op's function: OP names it. A tensor's expected shape is written once, as arguments and text. */
#define NEED(t, dt, ...) want(OP, #t, args->t, #__VA_ARGS__, dt, SHAPE(__VA_ARGS__))
#define MAYBE(t, dt, ...)            \
    do {                             \
        if (args->t != NULL) {       \
            NEED(t, dt, __VA_ARGS__); \
        }                            \
    } while (0)
#define SHAPE(...) SHAPE_PICK(__VA_ARGS__, SHAPE2, SHAPE1, )(__VA_ARGS__)
#define SHAPE_PICK(a, b, pick, ...) pick
#define SHAPE1(a) 1, (a), 0
#define SHAPE2(a, b) 2, (a), (b)
#define APART(a, b) apart(OP, #a " and " #b, args->a, args->b)
#define SAME_OR_APART(a, b) apart_or_same(OP, #a " and " #b, args->a, args->b)
#define RULE(condition, text) BIF_BUG_IF(!(condition), "%s: %s", OP, text)
#define DISPATCH(op)                                                                       \
    do {                                                                                   \
        BIF_BUG_IF(device->ops->op == NULL, "%s: no kernel on %s", OP, device->name);      \
        device->ops->op(device, args);                                                     \
    } while (0)
#define OP (__func__ + 4) /* without "bif_" */
#define I32 BIF_DTYPE_I32
#define F32 BIF_DTYPE_F32

/* Rows, columns and dtype of the tensor that gives an op its shapes. */
static void measure(const char *op, const char *name, const bif_tensor *t, int64_t *rows, int64_t *columns, bif_dtype *dtype)
{
    if (t == NULL || t->rank != 2 || (t->dtype != BIF_DTYPE_F32 && t->dtype != BIF_DTYPE_BF16)) {
        bad(op, name, "wanted a floating matrix", t);
    }
    *rows = t->dim[0];
    *columns = t->dim[1];
    *dtype = t->dtype;
}

static void floats(const bif_device *device, const char *op, bif_dtype dtype)
{
    BIF_BUG_IF(device->kind == BIF_DEVICE_CPU && dtype != BIF_DTYPE_F32, "%s: the CPU device computes in f32, not %s", op,
               bif_dtype_name(dtype));
}

#define MEASURE(t, rows, columns)                                   \
    int64_t rows = 0, columns = 0;                                  \
    bif_dtype dtype = BIF_DTYPE_F32;                                \
    measure(OP, #t, args->t, &rows, &columns, &dtype);              \
    floats(device, OP, dtype)

void bif_linear(bif_device *device, const bif_linear_args *args)
{
    MEASURE(x, t, k);
    RULE(args->w != NULL && args->w->rank == 2, "w is not a matrix");
    int64_t n = args->w->dim[0];
    NEED(x, dtype, t, k);
    NEED(w, dtype, n, k);
    MAYBE(b, dtype, n);
    MAYBE(residual, dtype, t, n);
    MAYBE(pre, dtype, t, n);
    NEED(y, dtype, t, n);
    APART(y, x);
    APART(y, w);
    APART(pre, x);
    APART(pre, y);
    APART(pre, residual);
    SAME_OR_APART(y, residual);
    DISPATCH(linear);
}

void bif_linear_backward(bif_device *device, const bif_linear_backward_args *args)
{
    MEASURE(dy, t, n);
    RULE(args->dx == NULL || args->w != NULL, "dx is wanted without w");
    RULE(args->dw == NULL || args->x != NULL, "dw is wanted without x");
    RULE(args->dx_act == BIF_ACT_NONE || (args->dx_pre != NULL && args->dx_add == NULL), "dx_act needs dx_pre and no dx_add");
    NEED(dy, dtype, t, n);
    if (args->dx != NULL) {
        RULE(args->dx->rank == 2, "dx is not a matrix");
        int64_t k = args->dx->dim[1];
        NEED(dx, dtype, t, k);
        NEED(w, dtype, n, k);
        MAYBE(dx_pre, dtype, t, k);
        MAYBE(dx_add, dtype, t, k);
        APART(dx, dy);
        APART(dx, w);
        APART(dx, x);
        APART(dx, dx_pre);
        SAME_OR_APART(dx, dx_add);
    }
    if (args->dw != NULL) {
        RULE(args->dw->rank == 2, "dw is not a matrix");
        int64_t k = args->dw->dim[1];
        NEED(x, dtype, t, k);
        NEED(dw, F32, n, k);
        APART(dw, x);
        APART(dw, dy);
        APART(dw, dx);
    }
    MAYBE(db, F32, n);
    DISPATCH(linear_backward);
}

void bif_act_backward(bif_device *device, const bif_act_backward_args *args)
{
    MEASURE(pre, t, n);
    NEED(pre, dtype, t, n);
    NEED(dy, dtype, t, n);
    NEED(dpre, dtype, t, n);
    SAME_OR_APART(dpre, dy);
    SAME_OR_APART(dpre, pre);
    DISPATCH(act_backward);
}

void bif_layernorm(bif_device *device, const bif_layernorm_args *args)
{
    MEASURE(x, t, c);
    RULE(c > 0, "no columns");
    RULE((args->mean == NULL) == (args->rstd == NULL), "mean and rstd come together");
    NEED(x, dtype, t, c);
    NEED(weight, dtype, c);
    NEED(bias, dtype, c);
    NEED(y, dtype, t, c);
    MAYBE(mean, F32, t);
    MAYBE(rstd, F32, t);
    SAME_OR_APART(y, x);
    RULE(args->mean == NULL || args->y->data != args->x->data || t == 0, "y may be x only when no backward follows");
    DISPATCH(layernorm);
}

void bif_layernorm_backward(bif_device *device, const bif_layernorm_backward_args *args)
{
    MEASURE(x, t, c);
    RULE(c > 0, "no columns");
    NEED(x, dtype, t, c);
    NEED(weight, dtype, c);
    NEED(mean, F32, t);
    NEED(rstd, F32, t);
    NEED(dy, dtype, t, c);
    MAYBE(dres, dtype, t, c);
    MAYBE(dx, dtype, t, c);
    MAYBE(dweight, F32, c);
    MAYBE(dbias, F32, c);
    APART(dx, x);
    SAME_OR_APART(dx, dy);
    SAME_OR_APART(dx, dres);
    DISPATCH(layernorm_backward);
}

void bif_rmsnorm(bif_device *device, const bif_rmsnorm_args *args)
{
    MEASURE(x, t, c);
    RULE(c > 0, "no columns");
    NEED(x, dtype, t, c);
    NEED(weight, dtype, c);
    NEED(y, dtype, t, c);
    MAYBE(rstd, F32, t);
    SAME_OR_APART(y, x);
    RULE(args->rstd == NULL || args->y->data != args->x->data || t == 0, "y may be x only when no backward follows");
    DISPATCH(rmsnorm);
}

void bif_rmsnorm_backward(bif_device *device, const bif_rmsnorm_backward_args *args)
{
    MEASURE(x, t, c);
    RULE(c > 0, "no columns");
    NEED(x, dtype, t, c);
    NEED(weight, dtype, c);
    NEED(rstd, F32, t);
    NEED(dy, dtype, t, c);
    MAYBE(dres, dtype, t, c);
    MAYBE(dx, dtype, t, c);
    MAYBE(dweight, F32, c);
    APART(dx, x);
    SAME_OR_APART(dx, dy);
    SAME_OR_APART(dx, dres);
    DISPATCH(rmsnorm_backward);
}

void bif_head_rmsnorm(bif_device *device, const bif_head_rmsnorm_args *args)
{
    MEASURE(x, t, w);
    RULE(args->first >= 0 && args->heads >= 0 && args->head_dim > 0 && args->first + args->heads * args->head_dim <= w,
         "the heads do not fit the row");
    NEED(x, dtype, t, w);
    NEED(weight, dtype, args->head_dim);
    NEED(y, dtype, t, w);
    MAYBE(rstd, F32, t, args->heads);
    SAME_OR_APART(y, x);
    RULE(args->rstd == NULL || args->y->data != args->x->data || t == 0, "y may be x only when rstd is NULL");
    DISPATCH(head_rmsnorm);
}

void bif_head_rmsnorm_backward(bif_device *device, const bif_head_rmsnorm_backward_args *args)
{
    MEASURE(x, t, w);
    RULE(args->first >= 0 && args->heads >= 0 && args->head_dim > 0 && args->first + args->heads * args->head_dim <= w,
         "the heads do not fit the row");
    NEED(x, dtype, t, w);
    NEED(weight, dtype, args->head_dim);
    NEED(rstd, F32, t, args->heads);
    NEED(dy, dtype, t, w);
    NEED(dx, dtype, t, w);
    MAYBE(dweight, F32, args->head_dim);
    APART(dx, x);
    SAME_OR_APART(dx, dy);
    DISPATCH(head_rmsnorm_backward);
}

void bif_swiglu(bif_device *device, const bif_swiglu_args *args)
{
    MEASURE(y, t, f);
    NEED(gu, dtype, t, 2 * f);
    NEED(y, dtype, t, f);
    APART(y, gu);
    DISPATCH(swiglu);
}

void bif_swiglu_backward(bif_device *device, const bif_swiglu_backward_args *args)
{
    MEASURE(dy, t, f);
    NEED(gu, dtype, t, 2 * f);
    NEED(dy, dtype, t, f);
    NEED(dgu, dtype, t, 2 * f);
    APART(dgu, dy);
    SAME_OR_APART(dgu, gu);
    DISPATCH(swiglu_backward);
}

void bif_rope(bif_device *device, const bif_rope_args *args)
{
    MEASURE(rows, t, w);
    RULE(args->heads >= 0 && args->head_dim > 0 && args->head_dim % 2 == 0 && args->heads * args->head_dim <= w,
         "the heads do not fit the row, or the head size is odd");
    RULE(args->scaling.kind == BIF_ROPE_PLAIN || args->scaling.factor >= 1.0f, "the factor of a scaled rotation is at least 1");
    RULE(args->scaling.kind != BIF_ROPE_LLAMA3 ||
             (args->scaling.low > 0.0f && args->scaling.low < args->scaling.high && args->scaling.original > 0),
         "llama3 wants 0 < low < high and the positions a model began with");
    NEED(rows, dtype, t, w);
    NEED(pos, I32, t);
    APART(rows, pos);
    DISPATCH(rope);
}

/* The host-readable bounds of packed sequences: 0 = cu[0] <= cu[1] <= ... = rows. */
static void check_sequences(const char *op, const bif_tensor *cu, int64_t rows)
{
    if (cu == NULL || cu->dtype != BIF_DTYPE_I32 || cu->rank != 1 || cu->dim[0] < 1 || cu->data == NULL) {
        bad(op, "cu_seqlens", "wanted i32 [n+1]", cu);
    }
    const int32_t *bounds = cu->data;
    int64_t n = cu->dim[0] - 1;
    bool good = bounds[0] == 0 && bounds[n] == rows;
    for (int64_t i = 0; i < n; i++) {
        good = good && bounds[i] <= bounds[i + 1];
    }
    BIF_BUG_IF(!good, "%s: cu_seqlens does not rise from 0 to %lld", op, (long long)rows);
}

void bif_attention(bif_device *device, const bif_attention_args *args)
{
    MEASURE(qkv, t, w);
    int64_t h = args->heads, g = args->kv_heads, d = args->head_dim;
    RULE(h > 0 && g > 0 && d > 0 && h % g == 0 && (h + 2 * g) * d == w, "the heads do not make up the row");
    NEED(qkv, dtype, t, w);
    check_sequences(OP, args->cu_seqlens, t);
    MAYBE(bounds, I32, args->cu_seqlens->dim[0]);
    RULE(device->kind == BIF_DEVICE_CPU || args->bounds != NULL, "the device needs bounds");
    NEED(out, dtype, t, h * d);
    MAYBE(lse, F32, t, h);
    APART(out, qkv);
    DISPATCH(attention);
}

void bif_attention_backward(bif_device *device, const bif_attention_backward_args *args)
{
    MEASURE(qkv, t, w);
    int64_t h = args->heads, g = args->kv_heads, d = args->head_dim;
    RULE(h > 0 && g > 0 && d > 0 && h % g == 0 && (h + 2 * g) * d == w, "the heads do not make up the row");
    NEED(qkv, dtype, t, w);
    check_sequences(OP, args->cu_seqlens, t);
    MAYBE(bounds, I32, args->cu_seqlens->dim[0]);
    RULE(device->kind == BIF_DEVICE_CPU || args->bounds != NULL, "the device needs bounds");
    NEED(out, dtype, t, h * d);
    NEED(lse, F32, t, h);
    NEED(dout, dtype, t, h * d);
    NEED(dqkv, dtype, t, w);
    APART(dqkv, qkv);
    APART(dqkv, out);
    APART(dqkv, dout);
    DISPATCH(attention_backward);
}

void bif_attention_decode(bif_device *device, const bif_attention_decode_args *args)
{
    MEASURE(q, b, w);
    int64_t h = args->heads, g = args->kv_heads, d = args->head_dim, cap = args->cap;
    RULE(h > 0 && g > 0 && d > 0 && h % g == 0 && h * d == w && cap > 0, "the heads do not make up the row");
    NEED(q, dtype, b, w);
    NEED(k_cache, dtype, b * cap, g * d);
    NEED(v_cache, dtype, b * cap, g * d);
    NEED(lens, I32, b);
    NEED(out, dtype, b, w);
    for (int64_t i = 0; i < b; i++) {
        int32_t length = ((const int32_t *)args->lens->data)[i];
        RULE(length >= 1 && length <= cap, "a length is not in [1, cap]");
    }
    APART(out, q);
    DISPATCH(attention_decode);
}

void bif_pool_attention(bif_device *device, const bif_pool_attention_args *args)
{
    MEASURE(q, n, w);
    RULE(args->heads > 0 && args->head_dim > 0 && args->heads * args->head_dim == w, "the heads do not make up the row");
    RULE(args->kv != NULL && args->kv->rank == 2, "kv is not a matrix");
    int64_t t = args->kv->dim[0];
    NEED(q, dtype, n, w);
    NEED(kv, dtype, t, 2 * w);
    NEED(cu_seqlens, I32, n + 1);
    check_sequences(OP, args->cu_seqlens, t);
    MAYBE(bounds, I32, n + 1);
    RULE(device->kind == BIF_DEVICE_CPU || args->bounds != NULL, "the device needs bounds");
    NEED(out, dtype, n, w);
    MAYBE(lse, F32, n, args->heads);
    APART(out, q);
    APART(out, kv);
    DISPATCH(pool_attention);
}

void bif_pool_attention_backward(bif_device *device, const bif_pool_attention_backward_args *args)
{
    MEASURE(q, n, w);
    RULE(args->heads > 0 && args->head_dim > 0 && args->heads * args->head_dim == w, "the heads do not make up the row");
    RULE(args->kv != NULL && args->kv->rank == 2, "kv is not a matrix");
    int64_t t = args->kv->dim[0];
    NEED(q, dtype, n, w);
    NEED(kv, dtype, t, 2 * w);
    NEED(cu_seqlens, I32, n + 1);
    check_sequences(OP, args->cu_seqlens, t);
    MAYBE(bounds, I32, n + 1);
    RULE(device->kind == BIF_DEVICE_CPU || args->bounds != NULL, "the device needs bounds");
    NEED(out, dtype, n, w);
    NEED(lse, F32, n, args->heads);
    NEED(dout, dtype, n, w);
    NEED(dq, dtype, n, w);
    NEED(dkv, dtype, t, 2 * w);
    APART(dq, q);
    APART(dq, out);
    APART(dq, dout);
    APART(dkv, kv);
    DISPATCH(pool_attention_backward);
}

void bif_embedding(bif_device *device, const bif_embedding_args *args)
{
    MEASURE(y, t, c);
    RULE(args->table != NULL && args->table->rank == 2, "table is not a matrix");
    NEED(table, dtype, args->table->dim[0], c);
    NEED(ids, I32, t);
    NEED(y, dtype, t, c);
    APART(y, table);
    DISPATCH(embedding);
}

void bif_embedding_backward(bif_device *device, const bif_embedding_backward_args *args)
{
    MEASURE(dy, t, c);
    RULE(args->dtable != NULL && args->dtable->rank == 2, "dtable is not a matrix");
    NEED(ids, I32, t);
    NEED(dy, dtype, t, c);
    NEED(dtable, F32, args->dtable->dim[0], c);
    APART(dtable, dy);
    DISPATCH(embedding_backward);
}

void bif_gather_rows(bif_device *device, const bif_gather_rows_args *args)
{
    MEASURE(dst, r, c);
    RULE(args->src != NULL && args->src->rank == 2, "src is not a matrix");
    NEED(src, dtype, args->src->dim[0], c);
    NEED(index, I32, r);
    NEED(dst, dtype, r, c);
    APART(dst, src);
    DISPATCH(gather_rows);
}

void bif_scatter_rows(bif_device *device, const bif_scatter_rows_args *args)
{
    MEASURE(src, r, c);
    RULE(args->dst != NULL && args->dst->rank == 2, "dst is not a matrix");
    NEED(src, dtype, r, c);
    NEED(index, I32, r);
    NEED(dst, dtype, args->dst->dim[0], c);
    APART(dst, src);
    DISPATCH(scatter_rows);
}

void bif_patchify(bif_device *device, const bif_patchify_args *args)
{
    MEASURE(rows, t, k);
    const bif_tensor *pixels = args->pixels;
    RULE(pixels != NULL && pixels->rank == 4, "pixels are not pictures");
    const bool levels = pixels->dtype == BIF_DTYPE_U8;
    RULE(levels ? pixels->dim[3] == 3 && pixels->dim[1] == pixels->dim[2]
                : pixels->dtype == F32 && pixels->dim[1] == 3 && pixels->dim[2] == pixels->dim[3],
         "pixels are neither f32 [N,3,S,S] nor u8 [N,S,S,3]");
    RULE(levels == (args->table != NULL), "a table comes with u8 pixels and only with them");
    MAYBE(table, F32, 3, 256);
    int64_t p = args->patch;
    RULE(p > 0 && pixels->dim[2] >= p, "the patch is larger than the image");
    int64_t side = pixels->dim[2] / p;
    RULE(t == pixels->dim[0] * side * side && k == 3 * p * p, "rows are not [N*P, 3 p p]");
    NEED(rows, dtype, t, k);
    APART(rows, pixels);
    DISPATCH(patchify);
}

void bif_vit_embed(bif_device *device, const bif_vit_embed_args *args)
{
    MEASURE(x, t, c);
    int64_t images = args->images, cls = args->cls != NULL;
    if (t == 0 && images == 0) {
        return;
    }
    RULE(images > 0 && t % images == 0 && t / images > cls, "x does not hold the images' rows");
    NEED(patches, dtype, t - images * cls, c);
    MAYBE(cls, dtype, c);
    NEED(pos, dtype, t / images, c);
    NEED(x, dtype, t, c);
    APART(x, patches);
    DISPATCH(vit_embed);
}

void bif_vit_embed_backward(bif_device *device, const bif_vit_embed_backward_args *args)
{
    MEASURE(dx, t, c);
    int64_t images = args->images, cls = args->has_cls;
    if (t == 0 && images == 0) {
        return;
    }
    RULE(images > 0 && t % images == 0 && t / images > cls, "dx does not hold the images' rows");
    RULE(args->has_cls || args->dcls == NULL, "dcls is wanted, but there is no class token");
    NEED(dx, dtype, t, c);
    MAYBE(dpatches, dtype, t - images * cls, c);
    MAYBE(dcls, F32, c);
    MAYBE(dpos, F32, t / images, c);
    APART(dpatches, dx);
    DISPATCH(vit_embed_backward);
}

void bif_dropout(bif_device *device, const bif_dropout_args *args)
{
    MEASURE(x, t, c);
    RULE(args->p >= 0.0 && args->p < 1.0, "p is not in [0, 1)");
    NEED(x, dtype, t, c);
    NEED(index, I32, t, 2);
    MAYBE(add, dtype, t, c);
    NEED(y, dtype, t, c);
    SAME_OR_APART(y, x);
    SAME_OR_APART(y, add);
    DISPATCH(dropout);
}

void bif_take_columns(bif_device *device, const bif_take_columns_args *args)
{
    MEASURE(rows, t, w);
    RULE(args->part != NULL && args->part->rank == 2, "part is not a matrix");
    int64_t n = args->part->dim[1];
    RULE(args->first >= 0 && args->first + n <= w, "the columns do not fit the row");
    NEED(rows, dtype, t, w);
    NEED(part, dtype, t, n);
    APART(part, rows);
    DISPATCH(take_columns);
}

void bif_add_columns(bif_device *device, const bif_add_columns_args *args)
{
    MEASURE(part, t, n);
    RULE(args->rows != NULL && args->rows->rank == 2, "rows is not a matrix");
    int64_t w = args->rows->dim[1];
    RULE(args->first >= 0 && args->first + n <= w, "the columns do not fit the row");
    NEED(part, dtype, t, n);
    NEED(rows, dtype, t, w);
    APART(rows, part);
    DISPATCH(add_columns);
}

void bif_add_rows(bif_device *device, const bif_add_rows_args *args)
{
    MEASURE(y, t, c);
    RULE(args->table != NULL && args->table->rank == 2, "table is not a matrix");
    NEED(table, dtype, args->table->dim[0], c);
    NEED(pos, I32, t);
    NEED(y, dtype, t, c);
    APART(y, table);
    DISPATCH(add_rows);
}

void bif_cross_entropy(bif_device *device, const bif_cross_entropy_args *args)
{
    MEASURE(logits, r, v);
    NEED(logits, dtype, r, v);
    NEED(targets, I32, r);
    if (args->weight != NULL && !(args->weight->rank == 1 && args->weight->dim[0] == 1)) {
        NEED(weight, F32, r);
    }
    MAYBE(loss, F32, r);
    MAYBE(dlogits, dtype, r, v);
    SAME_OR_APART(dlogits, logits);
    DISPATCH(cross_entropy);
}

void bif_argmax(bif_device *device, const bif_argmax_args *args)
{
    MEASURE(x, r, v);
    RULE(v > 0, "no columns");
    NEED(x, dtype, r, v);
    NEED(index, I32, r);
    APART(index, x);
    DISPATCH(argmax);
}

void bif_l2norm(bif_device *device, const bif_l2norm_args *args)
{
    MEASURE(x, t, c);
    NEED(x, dtype, t, c);
    NEED(y, F32, t, c);
    MAYBE(inv, F32, t);
    SAME_OR_APART(y, x);
    RULE(args->y->data != args->x->data || dtype == F32 || t == 0, "y may be x only when that is f32");
    RULE(args->inv == NULL || args->y->data != args->x->data || t == 0, "y may be x only when inv is NULL");
    DISPATCH(l2norm);
}

void bif_l2norm_backward(bif_device *device, const bif_l2norm_backward_args *args)
{
    MEASURE(dx, t, c);
    NEED(y, F32, t, c);
    NEED(inv, F32, t);
    NEED(dy, F32, t, c);
    NEED(dx, dtype, t, c);
    APART(dx, y);
    SAME_OR_APART(dx, dy);
    RULE(args->dx->data != args->dy->data || dtype == F32 || t == 0, "dx may be dy only when it is f32");
    DISPATCH(l2norm_backward);
}

/* What both contrastive losses share. */
#define CONTRASTIVE()                                                                                                 \
    MEASURE(a, rows_a, e);                                                                                            \
    RULE(dtype == F32 && args->b != NULL && args->b->rank == 2, "a and b are not f32 matrices");                                            \
    int64_t rows_b = args->b->dim[0];                                                                                 \
    RULE(args->first >= 0 && args->first + rows_a <= rows_b, "the partners of a are not all in b");                   \
    NEED(a, dtype, rows_a, e);                                                                                        \
    NEED(b, dtype, rows_b, e);                                                                                        \
    NEED(loss, F32, rows_a);                                                                                          \
    MAYBE(da, dtype, rows_a, e);                                                                                      \
    MAYBE(db, dtype, rows_b, e);                                                                                      \
    MAYBE(dscale, F32, 1);                                                                                            \
    RULE((args->da != NULL) == (args->db != NULL) && (args->da != NULL) == (args->dscale != NULL),                    \
         "the gradients are wanted all or none")

void bif_infonce(bif_device *device, const bif_infonce_args *args)
{
    CONTRASTIVE();
    DISPATCH(infonce);
}

void bif_siglip(bif_device *device, const bif_siglip_args *args)
{
    CONTRASTIVE();
    MAYBE(dbias, F32, 1);
    RULE((args->da != NULL) == (args->dbias != NULL), "the gradients are wanted all or none");
    DISPATCH(siglip);
}

void bif_axpy(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y)
{
    BIF_BUG_IF(x->dtype != y->dtype || bif_numel(x) != bif_numel(y), "axpy: x and y differ in dtype or size");
    floats(device, "axpy", x->dtype);
    apart_or_same("axpy", "x and y", x, y);
    BIF_BUG_IF(device->ops->axpy == NULL, "axpy: no kernel on %s", device->name);
    device->ops->axpy(device, alpha, x, y);
}

void bif_scale(bif_device *device, float alpha, bif_tensor *x)
{
    floats(device, "scale", x->dtype);
    BIF_BUG_IF(device->ops->scale == NULL, "scale: no kernel on %s", device->name);
    device->ops->scale(device, alpha, x);
}

double bif_sumsq(bif_device *device, const bif_tensor *x)
{
    floats(device, "sumsq", x->dtype);
    BIF_BUG_IF(device->ops->sumsq == NULL, "sumsq: no kernel on %s", device->name);
    return device->ops->sumsq(device, x);
}

void bif_sum(bif_device *device, const bif_tensor *x, bif_tensor *sum)
{
    BIF_BUG_IF(x->dtype != F32 || sum->dtype != BIF_DTYPE_F64 || bif_numel(sum) != 1, "sum: wanted f32 into f64 [1]");
    BIF_BUG_IF(device->ops->sum == NULL, "sum: no kernel on %s", device->name);
    device->ops->sum(device, x, sum);
}

void bif_adamw(bif_device *device, const bif_adamw_args *args)
{
    int64_t n = args->param == NULL ? 0 : bif_numel(args->param);
    const bif_tensor *all[] = {args->m, args->v, args->grad};
    for (int i = 0; i < 3; i++) {
        RULE(all[i] != NULL && all[i]->dtype == F32 && bif_numel(all[i]) == n, "param, m, v and grad are not of one size, the last three f32");
    }
    floats(device, OP, args->param->dtype);
    const bool split = args->param->dtype == BIF_DTYPE_BF16;
    RULE(split == (args->low != NULL), "low comes with a bf16 param and only with it");
    RULE(!split || (args->low->dtype == BIF_DTYPE_U16 && bif_numel(args->low) == n), "low is not u16 of the size of param");
    RULE(args->step >= 1, "step counts from 1");
    DISPATCH(adamw);
}
