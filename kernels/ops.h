/* Everything that touches numbers, one function an operation, forward and backward spelled out.
 *
 * Letters in shapes: T tokens (rows), C width, F inner width, K/N in/out features, H query heads, G key/value heads,
 * D head size, V vocabulary, R supervised rows, n sequences, S image side, p patch side.
 *
 * Rules
 *  - NULL tensor pointer = not wanted / not there. A wanted parameter gradient is ADDED to its tensor; a wanted activation
 *    gradient is OVERWRITTEN, unless the argument says otherwise.
 *  - Floating tensors are f32 on the CPU device (bf16 or f32 on CUDA, one dtype a call). Statistics and the gradients of parameters are
 *    always f32. Index tensors are i32 and live where the device can read them.
 *  - Tensors of a call must not overlap, except where an argument says "may be X".
 *  - Empty work (T = 0) is valid and does nothing.
 *  - Shapes, dtypes and aliasing are checked once in ops.c for all devices; a mismatch is a bug of the caller and aborts
 *    with the op's name and the shapes (BIF_BUG_IF), so ops return nothing. Arithmetic failures (NaN, Inf) pass through and are
 *    caught by the guard (bif_sumsq).
 *  - An index of a row out of range ends the program: on the CPU with a message that names it; on CUDA, where the host does not see it,
 *    the kernel traps before it touches anything outside of a tensor, and the next call that waits for the device fails.
 *  - Same inputs, same number of threads: same bits. No data-dependent order of sums (CUDA attention's backward may leave this rule when
 *    the device is not `deterministic`).
 */
#pragma once
#include "kernels/device.h"
#include "kernels/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    BIF_ACT_NONE = 0,
    BIF_ACT_GELU = 1,       /* x * Phi(x), exact erf (torch nn.GELU) */
    BIF_ACT_GELU_TANH = 2,  /* tanh form (gelu_pytorch_tanh) */
    BIF_ACT_QUICK_GELU = 3, /* x * sigmoid(1.702 x) */
} bif_act;

/* y = act(x W^T + b) + residual.   x [T,K], w [N,K], b [N] or NULL, residual [T,N] or NULL (may be y), y [T,N].
 * pre [T,N] or NULL: receives x W^T + b, needed by the backward when act != NONE. */
typedef struct {
    const bif_tensor *x, *w, *b, *residual;
    bif_act act;
    bif_tensor *pre, *y;
} bif_linear_args;
void bif_linear(bif_device *device, const bif_linear_args *args);

/* dy [T,N] is the gradient of x W^T + b (after the caller applied act'). dx = dy W, dw += dy^T x, db += column sums of dy.
 * x may be NULL when dw is NULL; w may be NULL when dx is NULL.
 * dx_pre, dx_act: when x = act(pre) was produced by an activation, dx becomes (dy W) * act'(dx_pre), the gradient of pre.
 * dx_add: dx = dy W + dx_add [T,K] (may be dx); not together with dx_act. */
typedef struct {
    const bif_tensor *x, *w, *dy;
    const bif_tensor *dx_pre, *dx_add;
    bif_act dx_act;
    bif_tensor *dx, *dw, *db;
} bif_linear_backward_args;
void bif_linear_backward(bif_device *device, const bif_linear_backward_args *args);

/* dpre = dy * act'(pre), [T,N]; dpre may be dy. */
typedef struct {
    const bif_tensor *pre, *dy;
    bif_act act;
    bif_tensor *dpre;
} bif_act_backward_args;
void bif_act_backward(bif_device *device, const bif_act_backward_args *args);

/* LayerNorm: y = (x - mean) * rstd * weight + bias; biased variance; statistics in f32.
 * x, y [T,C]; weight, bias [C]; mean, rstd [T] or NULL (both) when no backward follows. y may be x when no backward follows. */
typedef struct {
    const bif_tensor *x, *weight, *bias;
    float eps;
    bif_tensor *y, *mean, *rstd;
} bif_layernorm_args;
void bif_layernorm(bif_device *device, const bif_layernorm_args *args);
/* dx = (dres or 0) + gradient through the norm. dres [T,C] is the gradient that by-passes the norm (residual stream); dx may
 * be dres or dy. dx, dweight, dbias may each be NULL. */
typedef struct {
    const bif_tensor *x, *weight, *mean, *rstd, *dy, *dres;
    bif_tensor *dx, *dweight, *dbias;
} bif_layernorm_backward_args;
void bif_layernorm_backward(bif_device *device, const bif_layernorm_backward_args *args);

/* RMSNorm: y = x * rstd * weight, rstd = 1/sqrt(mean(x^2) + eps). x, y [T,C], weight [C], rstd [T] or NULL. */
typedef struct {
    const bif_tensor *x, *weight;
    float eps;
    bif_tensor *y, *rstd;
} bif_rmsnorm_args;
void bif_rmsnorm(bif_device *device, const bif_rmsnorm_args *args);
typedef struct {
    const bif_tensor *x, *weight, *rstd, *dy, *dres;
    bif_tensor *dx, *dweight;
} bif_rmsnorm_backward_args; /* dres, dx as in LayerNorm */
void bif_rmsnorm_backward(bif_device *device, const bif_rmsnorm_backward_args *args);

/* RMSNorm of each head of a part of a packed row (q/k norm): for t, h: y[t, first + h*D ..+D) = norm(x[same]) * weight[D].
 * x, y [T,W] packed q|k|v rows; only columns [first, first + heads*D) are read and written. y may be x when rstd is NULL.
 * rstd [T,heads] or NULL. */
typedef struct {
    const bif_tensor *x, *weight;
    int64_t first, heads, head_dim;
    float eps;
    bif_tensor *y, *rstd;
} bif_head_rmsnorm_args;
void bif_head_rmsnorm(bif_device *device, const bif_head_rmsnorm_args *args);
/* In the same columns: dx = gradient through the norm; dx [T,W] may be dy. dweight [D] or NULL. */
typedef struct {
    const bif_tensor *x, *weight, *rstd, *dy;
    int64_t first, heads, head_dim;
    bif_tensor *dx, *dweight;
} bif_head_rmsnorm_backward_args;
void bif_head_rmsnorm_backward(bif_device *device, const bif_head_rmsnorm_backward_args *args);

/* SwiGLU on packed rows: gu [T,2F] = gate | up, y [T,F] = silu(gate) * up. */
typedef struct {
    const bif_tensor *gu;
    bif_tensor *y;
} bif_swiglu_args;
void bif_swiglu(bif_device *device, const bif_swiglu_args *args);
typedef struct {
    const bif_tensor *gu, *dy;
    bif_tensor *dgu; /* may be gu */
} bif_swiglu_backward_args;
void bif_swiglu_backward(bif_device *device, const bif_swiglu_backward_args *args);

/* Rotation slowed for sequences longer than a model began with. LINEAR: every frequency divided by the factor. LLAMA3: by 1 where a turn
 * takes fewer positions than original / high, by the factor where it takes more than original / low, in between by a number between. */
typedef enum { BIF_ROPE_PLAIN = 0, BIF_ROPE_LINEAR = 1, BIF_ROPE_LLAMA3 = 2 } bif_rope_kind;
typedef struct {
    bif_rope_kind kind;
    float factor;     /* LINEAR, LLAMA3; at least 1 */
    float low, high;  /* LLAMA3; 0 < low < high */
    int64_t original; /* LLAMA3: positions the model began with */
} bif_rope_scaling;
/* By what the frequency theta^(-2i/D) of pair i is divided: 1 to the factor. */
double bif_rope_divisor(const bif_rope_scaling *scaling, float theta, int64_t i, int64_t head_dim);

/* Rotary embedding, half-split (Hugging Face Llama): in place on the first `heads` heads of each packed row, pairs (i, i + D/2),
 * angle = pos * theta^(-2i/D) / divisor. rows [T,W], pos i32 [T]. inverse = true rotates by minus the angle (the backward). */
typedef struct {
    bif_tensor *rows;
    const bif_tensor *pos;
    int64_t heads, head_dim;
    float theta;
    bif_rope_scaling scaling;
    bool inverse;
} bif_rope_args;
/* Radians a position of pair i: in double, rounded to f32 once. */
float bif_rope_frequency(const bif_rope_args *args, int64_t i);
void bif_rope(bif_device *device, const bif_rope_args *args);

/* Variable-length attention on packed rows. qkv [T, (H + 2G) D] = H query heads | G key heads | G value heads; query head h reads
 * key head h / (H/G). cu_seqlens i32 [n+1], cu_seqlens[0] = 0, cu_seqlens[n] = T, non-decreasing, readable on the HOST; bounds: the same numbers where the
 * device reads them (NULL on the CPU). A CUDA launch depends on T, n and the heads only, so a graph of it serves other bounds of as many
 * sequences.
 * out [T, H D]; lse f32 [T, H] or NULL = logsumexp of the scaled scores of a row. causal: key position <= query position.
 * scale is applied to q.k (usually D^-0.5). Never stores a T x T matrix. */
typedef struct {
    const bif_tensor *qkv, *cu_seqlens, *bounds;
    int64_t heads, kv_heads, head_dim;
    bool causal;
    float scale;
    bif_tensor *out, *lse;
} bif_attention_args;
void bif_attention(bif_device *device, const bif_attention_args *args);
/* dqkv [T, (H+2G) D] is overwritten (all of it). */
typedef struct {
    const bif_tensor *qkv, *cu_seqlens, *bounds, *out, *lse, *dout;
    int64_t heads, kv_heads, head_dim;
    bool causal;
    float scale;
    bif_tensor *dqkv;
} bif_attention_backward_args;
void bif_attention_backward(bif_device *device, const bif_attention_backward_args *args);

/* One decoding step: query b attends to the first lens[b] rows of its cache. q [B, H D]; k_cache, v_cache [B*cap, G D] (sequence b
 * owns rows b*cap ..); lens i32 [B] on the host, 1 <= lens[b] <= cap; out [B, H D]. */
typedef struct {
    const bif_tensor *q, *k_cache, *v_cache, *lens;
    int64_t heads, kv_heads, head_dim, cap;
    float scale;
    bif_tensor *out;
} bif_attention_decode_args;
void bif_attention_decode(bif_device *device, const bif_attention_decode_args *args);

/* Attention with one query a sequence, which reads all rows of its own sequence (pooling). q [n, H D]; kv [T, 2 H D] = H key heads |
 * H value heads; cu_seqlens, bounds and scale as in bif_attention. out [n, H D]; lse f32 [n, H] or NULL. A sequence without rows gives
 * zeros. */
typedef struct {
    const bif_tensor *q, *kv, *cu_seqlens, *bounds;
    int64_t heads, head_dim;
    float scale;
    bif_tensor *out, *lse;
} bif_pool_attention_args;
void bif_pool_attention(bif_device *device, const bif_pool_attention_args *args);
/* dq [n, H D] and dkv [T, 2 H D] are overwritten. */
typedef struct {
    const bif_tensor *q, *kv, *cu_seqlens, *bounds, *out, *lse, *dout;
    int64_t heads, head_dim;
    float scale;
    bif_tensor *dq, *dkv;
} bif_pool_attention_backward_args;
void bif_pool_attention_backward(bif_device *device, const bif_pool_attention_backward_args *args);

/* y[t] = table[ids[t]]; ids < 0 leave row t of y as it is (the splice fills it). table [V,C], ids i32 [T], y [T,C]. */
typedef struct {
    const bif_tensor *table, *ids;
    bif_tensor *y;
} bif_embedding_args;
void bif_embedding(bif_device *device, const bif_embedding_args *args);
typedef struct {
    const bif_tensor *ids, *dy;
    bif_tensor *dtable; /* [V,C], added; the order of the sum over equal ids is by t */
} bif_embedding_backward_args;
void bif_embedding_backward(bif_device *device, const bif_embedding_backward_args *args);

/* dst[i] = src[index[i]]; index < 0 leaves dst[i] as it is. dst [R,C], src [T,C], index i32 [R]. */
typedef struct {
    const bif_tensor *src, *index;
    bif_tensor *dst;
} bif_gather_rows_args;
void bif_gather_rows(bif_device *device, const bif_gather_rows_args *args);
/* dst[index[i]] = src[i] (add: += in order of i); index < 0 skips row i. Without add the indices >= 0 must be distinct. */
typedef struct {
    const bif_tensor *src, *index;
    bool add;
    bif_tensor *dst;
} bif_scatter_rows_args;
void bif_scatter_rows(bif_device *device, const bif_scatter_rows_args *args);

/* Pixels to rows: pixels f32 [N,3,S,S], or u8 [N,S,S,3] with table f32 [3,256] (the normalised value of each level of a channel; NULL with
 * f32) -> rows [N*P, 3 p p], P = (S/p)^2 patches in row-major order (S/p = floor, as a convolution
 * without padding), a row in the order channel, y, x (the layout of a convolution weight [C,3,p,p]). */
typedef struct {
    const bif_tensor *pixels, *table;
    int64_t patch;
    bif_tensor *rows;
} bif_patchify_args;
void bif_patchify(bif_device *device, const bif_patchify_args *args);

/* Class token and positions: x[n,0] = cls + pos[0]; x[n,1+i] = patches[n,i] + pos[1+i].
 * patches [N*P,C]; cls [C] or NULL (then x has P rows an image and pos P rows); pos [P+1,C]; x [N*(P+1),C]. */
typedef struct {
    const bif_tensor *patches, *cls, *pos;
    int64_t images;
    bif_tensor *x;
} bif_vit_embed_args;
void bif_vit_embed(bif_device *device, const bif_vit_embed_args *args);
typedef struct {
    const bif_tensor *dx;
    int64_t images;
    bif_tensor *dpatches, *dcls, *dpos; /* dpatches overwritten; dcls, dpos added; has_cls = rows of dx a image > patches */
    bool has_cls;
} bif_vit_embed_backward_args;
void bif_vit_embed_backward(bif_device *device, const bif_vit_embed_backward_args *args);

/* Inverted dropout: y = (add or 0) + (kept ? x / (1 - p) : 0), each element kept with probability 1 - p. x, y, add [T,C]; y may
 * be x or add. Whether (t, c) is kept is a function of (seed, index[t], c) alone, the same on all devices: word c % 4 of
 * bif_philox(seed, BIF_RNG_DROPOUT, index[t][0] | index[t][1] << 32, c / 4) is at least p * 2^32, rounded down. index i32 [T,2],
 * any bits; 0 <= p < 1. Applied to a gradient with the same numbers it is its own backward. */
typedef struct {
    const bif_tensor *x, *add, *index;
    uint64_t seed;
    double p;
    bif_tensor *y;
} bif_dropout_args;
void bif_dropout(bif_device *device, const bif_dropout_args *args);

/* N columns of packed rows, from column `first` on. rows [T,W], part [T,N], first + N <= W.
 * take_columns: part = those columns of rows. add_columns: those columns of rows += part. */
typedef struct {
    const bif_tensor *rows;
    int64_t first;
    bif_tensor *part;
} bif_take_columns_args;
void bif_take_columns(bif_device *device, const bif_take_columns_args *args);
typedef struct {
    const bif_tensor *part;
    int64_t first;
    bif_tensor *rows;
} bif_add_columns_args;
void bif_add_columns(bif_device *device, const bif_add_columns_args *args);

/* y[t] += table[pos[t]] (learned positions of a text tower). y [T,C], table [L,C], pos i32 [T]. */
typedef struct {
    const bif_tensor *table, *pos;
    bif_tensor *y;
} bif_add_rows_args;
void bif_add_rows(bif_device *device, const bif_add_rows_args *args);

/* Softmax cross-entropy of each row. logits [R,V]; targets i32 [R] in [0,V); weight f32 [R], or [1] for all rows, or NULL (1).
 * loss f32 [R] or NULL = weight * (lse - logit[target]). dlogits [R,V] or NULL = weight * (softmax - onehot); may be logits.
 * A target outside of [0,V) aborts on the CPU; CUDA, where the host does not see it, makes the row's loss and gradient NaN. */
typedef struct {
    const bif_tensor *logits, *targets, *weight;
    bif_tensor *loss, *dlogits;
} bif_cross_entropy_args;
void bif_cross_entropy(bif_device *device, const bif_cross_entropy_args *args);

/* index[i] = argmax of row i, first of equals. x [R,V], index i32 [R]. NaN counts as minus infinity. */
typedef struct {
    const bif_tensor *x;
    bif_tensor *index;
} bif_argmax_args;
void bif_argmax(bif_device *device, const bif_argmax_args *args);

/* y = x / max(||x||, 1e-12); inv f32 [T] or NULL = 1/max(||x||, 1e-12). y is f32; it may be x when that is f32 and inv is NULL. */
typedef struct {
    const bif_tensor *x;
    bif_tensor *y, *inv;
} bif_l2norm_args;
void bif_l2norm(bif_device *device, const bif_l2norm_args *args);
typedef struct {
    const bif_tensor *y, *inv, *dy;
    bif_tensor *dx; /* y and dy are f32, dx of any floating dtype; may be dy when f32 */
} bif_l2norm_backward_args;
void bif_l2norm_backward(bif_device *device, const bif_l2norm_backward_args *args);

/* One direction of InfoNCE over tiles; the [B,Gn] matrix never exists as a whole. All tensors of the contrastive losses are f32.
 * a [B,E] this rank's rows; b [Gn,E] all ranks' rows of the other tower; the partner of row i is b[first + i].
 * s = scale * a b^T. loss f32 [B] = lse(row) - s[i, first+i]. With gradients wanted (all three or none):
 * da += weight * dloss/da, db += weight * dloss/db, dscale f32 [1] += weight * dloss/dscale, summed over the rows of a. */
typedef struct {
    const bif_tensor *a, *b;
    int64_t first;
    float scale, weight;
    bif_tensor *loss, *da, *db, *dscale;
} bif_infonce_args;
void bif_infonce(bif_device *device, const bif_infonce_args *args);

/* Sigmoid loss (SigLIP) over tiles: s = scale * a b^T + bias; loss[i] = sum_j softplus(-z_ij s_ij), z = +1 for j = first + i else -1.
 * dbias f32 [1] besides the gradients of InfoNCE. */
typedef struct {
    const bif_tensor *a, *b;
    int64_t first;
    float scale, bias, weight;
    bif_tensor *loss, *da, *db, *dscale, *dbias;
} bif_siglip_args;
void bif_siglip(bif_device *device, const bif_siglip_args *args);

/* y += alpha * x; same shape. */
void bif_axpy(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y);
/* x *= alpha. */
void bif_scale(bif_device *device, float alpha, bif_tensor *x);

/* Sum of squares in double with a fixed order of blocks, on the host; NaN or Inf in x gives a non-finite result.
 * Synchronises. */
double bif_sumsq(bif_device *device, const bif_tensor *x);
/* sum f64 [1] += the sum of x, f32 [n], in a fixed order. Does not synchronise. */
void bif_sum(bif_device *device, const bif_tensor *x, bif_tensor *sum);

/* AdamW (decoupled decay, torch.optim.AdamW): g = grad * grad_scale; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
 * p = p (1 - lr wd) - lr * (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps),
 * then p is limited to [min, max]. m, v, grad f32, same numel; step counts from 1. param is f32 (low NULL), or bf16 with low u16: then p is the
 * f32 number with the bits (param << 16) + (int16)low, so that param is p rounded to the nearest bf16 (ties away from zero) and p is exact. */
typedef struct {
    bif_tensor *param, *low, *m, *v;
    const bif_tensor *grad;
    double lr, beta1, beta2, eps, weight_decay, grad_scale;
    float min, max; /* -INFINITY, INFINITY: no limit */
    int64_t step;
} bif_adamw_args;
void bif_adamw(bif_device *device, const bif_adamw_args *args);

/* The table a device fills: one entry an op above, same names, same contracts; called only by ops.c after its checks. */
#define BIF_OPS(X)                                                                                                      \
    X(linear) X(linear_backward) X(act_backward) X(layernorm) X(layernorm_backward) X(rmsnorm) X(rmsnorm_backward)      \
    X(head_rmsnorm) X(head_rmsnorm_backward) X(swiglu) X(swiglu_backward) X(rope) X(attention) X(attention_backward)    \
    X(attention_decode) X(pool_attention) X(pool_attention_backward)                                                     \
    X(embedding) X(embedding_backward) X(gather_rows) X(scatter_rows) X(patchify) X(vit_embed)      \
    X(vit_embed_backward) X(dropout) X(take_columns) X(add_columns) X(add_rows) X(cross_entropy) X(argmax) X(l2norm)    \
    X(l2norm_backward) X(infonce) X(siglip) X(adamw)

struct bif_ops_table {
#define X(op) void (*op)(bif_device * device, const bif_##op##_args *args);
    BIF_OPS(X)
#undef X
    void (*axpy)(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y);
    void (*scale)(bif_device *device, float alpha, bif_tensor *x);
    double (*sumsq)(bif_device *device, const bif_tensor *x);
    void (*sum)(bif_device *device, const bif_tensor *x, bif_tensor *sum);
};

#ifdef __cplusplus
}
#endif
