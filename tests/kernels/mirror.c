#include "mirror.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* tests/emu has it (emu/emu.h), a real GPU does not: reading this memory before it is written becomes a fault. */
void emu_forget(void *memory, size_t bytes) __attribute__((weak));
/* Linked with the emulation only: mirror_emulated.cu. */
void mirror_set_scratch(bif_device *device, size_t bytes) __attribute__((weak));
void mirror_forget_scratch(bif_device *device) __attribute__((weak));

/* ---- what each op does with its tensors ---- */

typedef enum { READ = 1, WRITE = 2, BOTH = 3 } role; /* BOTH: added to, in place, or partly left as it is */
typedef enum { FLOAT, SAME } kind;                   /* of the mode's dtype, or of the same dtype everywhere (statistics, indices) */

typedef struct {
    const char *name;
    size_t at; /* of the tensor pointer in the op's arguments */
    role role;
    kind kind;
} field;

/* The first field of a list is one that is always there. Missing here: what an op reads on the host (cu_seqlens, lens). */
#define F(op, name, role, kind) {#name, offsetof(bif_##op##_args, name), role, kind}
#define END {NULL, 0, READ, SAME}

static const field linear_fields[] = {F(linear, x, READ, FLOAT),        F(linear, w, READ, FLOAT),    F(linear, b, READ, FLOAT),
                                      F(linear, residual, READ, FLOAT), F(linear, pre, WRITE, FLOAT), F(linear, y, WRITE, FLOAT),
                                      END};
static const field linear_backward_fields[] = {
    F(linear_backward, dy, READ, FLOAT),     F(linear_backward, x, READ, FLOAT),      F(linear_backward, w, READ, FLOAT),
    F(linear_backward, dx_pre, READ, FLOAT), F(linear_backward, dx_add, READ, FLOAT), F(linear_backward, dx, WRITE, FLOAT),
    F(linear_backward, dw, BOTH, SAME),      F(linear_backward, db, BOTH, SAME),      END};
static const field act_backward_fields[] = {F(act_backward, pre, READ, FLOAT), F(act_backward, dy, READ, FLOAT),
                                            F(act_backward, dpre, WRITE, FLOAT), END};
static const field layernorm_fields[] = {F(layernorm, x, READ, FLOAT),    F(layernorm, weight, READ, FLOAT),
                                         F(layernorm, bias, READ, FLOAT), F(layernorm, y, WRITE, FLOAT),
                                         F(layernorm, mean, WRITE, SAME), F(layernorm, rstd, WRITE, SAME),
                                         END};
static const field layernorm_backward_fields[] = {
    F(layernorm_backward, x, READ, FLOAT),      F(layernorm_backward, weight, READ, FLOAT), F(layernorm_backward, mean, READ, SAME),
    F(layernorm_backward, rstd, READ, SAME),    F(layernorm_backward, dy, READ, FLOAT),     F(layernorm_backward, dres, READ, FLOAT),
    F(layernorm_backward, dx, WRITE, FLOAT),    F(layernorm_backward, dweight, BOTH, SAME), F(layernorm_backward, dbias, BOTH, SAME),
    END};
static const field rmsnorm_fields[] = {F(rmsnorm, x, READ, FLOAT), F(rmsnorm, weight, READ, FLOAT), F(rmsnorm, y, WRITE, FLOAT),
                                       F(rmsnorm, rstd, WRITE, SAME), END};
static const field rmsnorm_backward_fields[] = {
    F(rmsnorm_backward, x, READ, FLOAT),    F(rmsnorm_backward, weight, READ, FLOAT), F(rmsnorm_backward, rstd, READ, SAME),
    F(rmsnorm_backward, dy, READ, FLOAT),   F(rmsnorm_backward, dres, READ, FLOAT),   F(rmsnorm_backward, dx, WRITE, FLOAT),
    F(rmsnorm_backward, dweight, BOTH, SAME), END};
static const field head_rmsnorm_fields[] = {F(head_rmsnorm, x, READ, FLOAT), F(head_rmsnorm, weight, READ, FLOAT),
                                            F(head_rmsnorm, y, BOTH, FLOAT), F(head_rmsnorm, rstd, WRITE, SAME), END};
static const field head_rmsnorm_backward_fields[] = {
    F(head_rmsnorm_backward, x, READ, FLOAT),  F(head_rmsnorm_backward, weight, READ, FLOAT), F(head_rmsnorm_backward, rstd, READ, SAME),
    F(head_rmsnorm_backward, dy, READ, FLOAT), F(head_rmsnorm_backward, dx, BOTH, FLOAT),     F(head_rmsnorm_backward, dweight, BOTH, SAME),
    END};
static const field swiglu_fields[] = {F(swiglu, gu, READ, FLOAT), F(swiglu, y, WRITE, FLOAT), END};
static const field swiglu_backward_fields[] = {F(swiglu_backward, gu, READ, FLOAT), F(swiglu_backward, dy, READ, FLOAT),
                                               F(swiglu_backward, dgu, WRITE, FLOAT), END};
static const field rope_fields[] = {F(rope, rows, BOTH, FLOAT), F(rope, pos, READ, SAME), END};
static const field attention_fields[] = {F(attention, qkv, READ, FLOAT), F(attention, bounds, READ, SAME), F(attention, out, WRITE, FLOAT),
                                         F(attention, lse, WRITE, SAME), END};
static const field attention_backward_fields[] = {
    F(attention_backward, qkv, READ, FLOAT), F(attention_backward, bounds, READ, SAME), F(attention_backward, out, READ, FLOAT),
    F(attention_backward, lse, READ, SAME),  F(attention_backward, dout, READ, FLOAT),  F(attention_backward, dqkv, WRITE, FLOAT),
    END};
static const field attention_decode_fields[] = {F(attention_decode, q, READ, FLOAT), F(attention_decode, k_cache, READ, FLOAT),
                                                F(attention_decode, v_cache, READ, FLOAT), F(attention_decode, out, WRITE, FLOAT), END};
static const field pool_attention_fields[] = {F(pool_attention, q, READ, FLOAT),    F(pool_attention, kv, READ, FLOAT),
                                              F(pool_attention, bounds, READ, SAME), F(pool_attention, out, WRITE, FLOAT),
                                              F(pool_attention, lse, WRITE, SAME),   END};
static const field pool_attention_backward_fields[] = {
    F(pool_attention_backward, q, READ, FLOAT),     F(pool_attention_backward, kv, READ, FLOAT),
    F(pool_attention_backward, bounds, READ, SAME), F(pool_attention_backward, out, READ, FLOAT),
    F(pool_attention_backward, lse, READ, SAME),    F(pool_attention_backward, dout, READ, FLOAT),
    F(pool_attention_backward, dq, WRITE, FLOAT),   F(pool_attention_backward, dkv, WRITE, FLOAT), END};
static const field embedding_fields[] = {F(embedding, y, BOTH, FLOAT), F(embedding, table, READ, FLOAT), F(embedding, ids, READ, SAME),
                                         END};
static const field embedding_backward_fields[] = {F(embedding_backward, dy, READ, FLOAT), F(embedding_backward, ids, READ, SAME),
                                                  F(embedding_backward, dtable, BOTH, SAME), END};
static const field gather_rows_fields[] = {F(gather_rows, dst, BOTH, FLOAT), F(gather_rows, src, READ, FLOAT),
                                           F(gather_rows, index, READ, SAME), END};
static const field scatter_rows_fields[] = {F(scatter_rows, src, READ, FLOAT), F(scatter_rows, index, READ, SAME),
                                            F(scatter_rows, dst, BOTH, FLOAT), END};
static const field patchify_fields[] = {F(patchify, rows, WRITE, FLOAT), F(patchify, pixels, READ, SAME), F(patchify, table, READ, SAME),
                                        END};
static const field vit_embed_fields[] = {F(vit_embed, x, WRITE, FLOAT), F(vit_embed, patches, READ, FLOAT), F(vit_embed, cls, READ, FLOAT),
                                         F(vit_embed, pos, READ, FLOAT), END};
static const field vit_embed_backward_fields[] = {F(vit_embed_backward, dx, READ, FLOAT), F(vit_embed_backward, dpatches, WRITE, FLOAT),
                                                  F(vit_embed_backward, dcls, BOTH, SAME), F(vit_embed_backward, dpos, BOTH, SAME), END};
static const field dropout_fields[] = {F(dropout, x, READ, FLOAT), F(dropout, add, READ, FLOAT), F(dropout, index, READ, SAME),
                                       F(dropout, y, WRITE, FLOAT), END};
static const field take_columns_fields[] = {F(take_columns, rows, READ, FLOAT), F(take_columns, part, WRITE, FLOAT), END};
static const field add_columns_fields[] = {F(add_columns, part, READ, FLOAT), F(add_columns, rows, BOTH, FLOAT), END};
static const field add_rows_fields[] = {F(add_rows, y, BOTH, FLOAT), F(add_rows, table, READ, FLOAT), F(add_rows, pos, READ, SAME), END};
static const field cross_entropy_fields[] = {F(cross_entropy, logits, READ, FLOAT), F(cross_entropy, targets, READ, SAME),
                                             F(cross_entropy, weight, READ, SAME), F(cross_entropy, loss, WRITE, SAME),
                                             F(cross_entropy, dlogits, WRITE, FLOAT), END};
static const field argmax_fields[] = {F(argmax, x, READ, FLOAT), F(argmax, index, WRITE, SAME), END};
static const field l2norm_fields[] = {F(l2norm, x, READ, FLOAT), F(l2norm, y, WRITE, SAME), F(l2norm, inv, WRITE, SAME), END};
static const field l2norm_backward_fields[] = {F(l2norm_backward, dx, WRITE, FLOAT), F(l2norm_backward, y, READ, SAME),
                                               F(l2norm_backward, inv, READ, SAME), F(l2norm_backward, dy, READ, SAME), END};
static const field infonce_fields[] = {F(infonce, a, READ, SAME),  F(infonce, b, READ, SAME),  F(infonce, loss, WRITE, SAME),
                                       F(infonce, da, BOTH, SAME), F(infonce, db, BOTH, SAME), F(infonce, dscale, BOTH, SAME), END};
static const field siglip_fields[] = {F(siglip, a, READ, SAME),  F(siglip, b, READ, SAME),      F(siglip, loss, WRITE, SAME),
                                      F(siglip, da, BOTH, SAME), F(siglip, db, BOTH, SAME),     F(siglip, dscale, BOTH, SAME),
                                      F(siglip, dbias, BOTH, SAME), END};
static const field adamw_fields[] = {F(adamw, param, BOTH, SAME), F(adamw, low, BOTH, SAME),  F(adamw, m, BOTH, SAME),
                                     F(adamw, v, BOTH, SAME),     F(adamw, grad, READ, SAME), END};

/* The ops without an argument struct. */
typedef struct {
    float alpha;
    const bif_tensor *x;
    bif_tensor *y;
    double result;
} bif_flat_args;
static const field axpy_fields[] = {F(flat, x, READ, FLOAT), F(flat, y, BOTH, FLOAT), END};
static const field scale_fields[] = {F(flat, y, BOTH, FLOAT), END};
static const field sumsq_fields[] = {F(flat, x, READ, FLOAT), END};
static const field sum_fields[] = {F(flat, x, READ, SAME), F(flat, y, BOTH, SAME), END};

/* ---- copies on the device ---- */

enum { GUARD = 256, MAX_FIELDS = 16 };

/* The device's copy of one piece of host memory; fields with the same memory share it. */
typedef struct {
    const bif_tensor *host;
    const char *name;
    unsigned roles;
    bool same;            /* a field of kind SAME is among them: it keeps its dtype */
    size_t bytes, lead;   /* on the device; lead: from the block's start to the tensor */
    size_t guard;         /* after it; the emulation watches the ends of a block itself */
    unsigned char *block; /* on the device */
    unsigned char *image; /* what was put there */
} piece;

static struct {
    bif_device *real, face;
    bif_ops_table table;
    mirror_mode mode;
    bool small_scratch;
} mirror;

float mirror_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) {
        return x;
    }
    bits = (bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void narrow(unsigned char *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float rounded = mirror_round(from[i]);
        memcpy(to + 2 * i, (unsigned char *)&rounded + 2, 2);
    }
}

static void widen(float *to, const unsigned char *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        unsigned char bits[4] = {0, 0, from[2 * i], from[2 * i + 1]};
        memcpy(&to[i], bits, sizeof bits);
    }
}

static bool narrowed(const piece *p)
{
    return mirror.mode == MIRROR_BF16 && !p->same;
}

static bool only_written(const piece *p)
{
    return p->roles == WRITE;
}

static void put(piece *p, bool off)
{
    const int64_t n = bif_numel(p->host);
    const size_t size = narrowed(p) ? 2 : bif_dtype_size(p->host->dtype);
    p->bytes = (size_t)n * size;
    p->guard = mirror_emulated() ? 0 : GUARD;
    p->lead = p->guard + (off ? size : 0);
    const size_t all = p->lead + p->bytes + p->guard;
    p->image = malloc(all);
    memset(p->image, 0xAB, all);
    unsigned char *data = p->image + p->lead;
    if (only_written(p)) {
        memset(data, 0xFF, p->bytes); /* NaN in every floating dtype */
    } else if (narrowed(p)) {
        narrow(data, p->host->data, n);
    } else {
        memcpy(data, p->host->data, p->bytes);
    }
    void *block = NULL;
    cr_assert_eq(mirror.real->alloc(mirror.real, all, &block), BIF_OK, "%s", bif_error_message());
    p->block = block;
    mirror.real->copy_in(mirror.real, block, p->image, all);
    if (only_written(p) && mirror_emulated()) {
        emu_forget(p->block + p->lead, p->bytes);
    }
}

static void take_back(piece *p, const char *op)
{
    const size_t all = p->lead + p->bytes + p->guard;
    unsigned char *now = malloc(all);
    mirror.real->copy_out(mirror.real, now, p->block, all);
    mirror.real->release(mirror.real, p->block);
    cr_assert(memcmp(now, p->image, p->lead) == 0, "%s wrote before the beginning of %s", op, p->name);
    cr_assert(memcmp(now + p->lead + p->bytes, p->image + p->lead + p->bytes, p->guard) == 0, "%s wrote past the end of %s", op, p->name);
    if (p->roles == READ) {
        cr_assert(memcmp(now, p->image, all) == 0, "%s wrote to its input %s", op, p->name);
    } else if (narrowed(p)) {
        widen(p->host->data, now + p->lead, bif_numel(p->host));
    } else {
        memcpy(p->host->data, now + p->lead, p->bytes);
    }
    free(now);
    free(p->image);
}

static const bif_tensor **tensor_of(void *args, const field *f)
{
    return (const bif_tensor **)((unsigned char *)args + f->at);
}

/* Calls `call` with the tensors of `args` (a copy of the caller's arguments) replaced by their copies on the device. */
static void across(const char *op, const field *fields, void *args, void (*call)(void *args))
{
    piece pieces[MAX_FIELDS] = {0}, *of[MAX_FIELDS] = {NULL};
    bif_tensor there[MAX_FIELDS];
    int count = 0;
    const bif_tensor *first = *tensor_of(args, &fields[0]);
    const bool off = first->dim[0] > 1 && first->dim[0] % 32 == 1;
    for (int i = 0; fields[i].name != NULL; i++) {
        const bif_tensor *host = *tensor_of(args, &fields[i]);
        if (host == NULL || bif_numel(host) == 0) {
            continue;
        }
        for (int j = 0; j < count && of[i] == NULL; j++) {
            of[i] = pieces[j].host->data == host->data ? &pieces[j] : NULL;
        }
        if (of[i] == NULL) {
            of[i] = &pieces[count++];
            *of[i] = (piece){.host = host, .name = fields[i].name};
        }
        cr_assert_eq(bif_numel(of[i]->host), bif_numel(host), "%s: %s and %s share memory in part", op, of[i]->name, fields[i].name);
        of[i]->roles |= fields[i].role;
        of[i]->same |= fields[i].kind == SAME;
    }
    for (int i = 0; i < count; i++) {
        put(&pieces[i], off);
    }
    for (int i = 0; fields[i].name != NULL; i++) {
        const bif_tensor **slot = tensor_of(args, &fields[i]);
        if (*slot == NULL) {
            continue;
        }
        there[i] = **slot;
        there[i].data = of[i] == NULL ? NULL : of[i]->block + of[i]->lead;
        if (mirror.mode == MIRROR_BF16 && (of[i] == NULL ? fields[i].kind == FLOAT : narrowed(of[i]))) {
            there[i].dtype = BIF_DTYPE_BF16;
        }
        *slot = &there[i];
    }
    if (mirror.small_scratch) {
        mirror_forget_scratch(mirror.real);
    }
    call(args);
    mirror.real->sync(mirror.real);
    for (int i = 0; i < count; i++) {
        take_back(&pieces[i], op);
    }
}

/* ---- the table ---- */

#define X(op)                                                                      \
    static void call_##op(void *args)                                              \
    {                                                                              \
        bif_##op(mirror.real, args);                                               \
    }                                                                              \
    static void mirror_##op(bif_device *device, const bif_##op##_args *args)       \
    {                                                                              \
        mirror.real->deterministic = device->deterministic;                        \
        bif_##op##_args mine = *args;                                              \
        across(#op, op##_fields, &mine, call_##op);                                \
    }
BIF_OPS(X)
#undef X

/* The device reads the bounds of sequences in its own memory. */
static void bounded_attention(bif_device *device, const bif_attention_args *args)
{
    bif_attention_args mine = *args;
    mine.bounds = args->cu_seqlens;
    mirror_attention(device, &mine);
}

static void bounded_attention_backward(bif_device *device, const bif_attention_backward_args *args)
{
    bif_attention_backward_args mine = *args;
    mine.bounds = args->cu_seqlens;
    mirror_attention_backward(device, &mine);
}

static void bounded_pool_attention(bif_device *device, const bif_pool_attention_args *args)
{
    bif_pool_attention_args mine = *args;
    mine.bounds = args->cu_seqlens;
    mirror_pool_attention(device, &mine);
}

static void bounded_pool_attention_backward(bif_device *device, const bif_pool_attention_backward_args *args)
{
    bif_pool_attention_backward_args mine = *args;
    mine.bounds = args->cu_seqlens;
    mirror_pool_attention_backward(device, &mine);
}

/* In bf16 the f32 parameter is split in two halves, and joined after the step (see bif_adamw_args). */
static void split_adamw(bif_device *device, const bif_adamw_args *args)
{
    const int64_t n = bif_numel(args->param);
    uint32_t *bits = args->param->data;
    uint16_t *halves = malloc(2 * sizeof(uint16_t) * (size_t)n + 1);
    for (int64_t i = 0; i < n; i++) {
        halves[n + i] = (uint16_t)bits[i];
        halves[i] = (uint16_t)((bits[i] + 0x8000u) >> 16); /* what the low half, read as int16, leaves */
    }
    bif_tensor param = *args->param, low = *args->param;
    param.dtype = BIF_DTYPE_BF16, param.data = halves;
    low.dtype = BIF_DTYPE_U16, low.data = halves + n;
    bif_adamw_args mine = *args;
    mine.param = &param, mine.low = &low;
    mirror_adamw(device, &mine);
    for (int64_t i = 0; i < n; i++) {
        bits[i] = ((uint32_t)halves[i] << 16) + halves[n + i] - (halves[n + i] >= 0x8000u ? 0x10000u : 0u);
    }
    free(halves);
}

static void call_axpy(void *args)
{
    bif_flat_args *flat = args;
    bif_axpy(mirror.real, flat->alpha, flat->x, flat->y);
}

static void mirror_axpy(bif_device *device, float alpha, const bif_tensor *x, bif_tensor *y)
{
    (void)device;
    across("axpy", axpy_fields, &(bif_flat_args){.alpha = alpha, .x = x, .y = y}, call_axpy);
}

static void call_scale(void *args)
{
    bif_flat_args *flat = args;
    bif_scale(mirror.real, flat->alpha, flat->y);
}

static void mirror_scale(bif_device *device, float alpha, bif_tensor *x)
{
    (void)device;
    across("scale", scale_fields, &(bif_flat_args){.alpha = alpha, .y = x}, call_scale);
}

static void call_sumsq(void *args)
{
    bif_flat_args *flat = args;
    flat->result = bif_sumsq(mirror.real, flat->x);
}

static double mirror_sumsq(bif_device *device, const bif_tensor *x)
{
    (void)device;
    bif_flat_args flat = {.x = x};
    across("sumsq", sumsq_fields, &flat, call_sumsq);
    return flat.result;
}

static void call_sum(void *args)
{
    bif_flat_args *flat = args;
    bif_sum(mirror.real, flat->x, flat->y);
}

static void mirror_sum(bif_device *device, const bif_tensor *x, bif_tensor *sum)
{
    (void)device;
    across("sum", sum_fields, &(bif_flat_args){.x = x, .y = sum}, call_sum);
}

static const bif_ops_table mirror_table = {
#define X(op) .op = mirror_##op,
    BIF_OPS(X)
#undef X
    .axpy = mirror_axpy,
    .scale = mirror_scale,
    .sumsq = mirror_sumsq,
    .sum = mirror_sum,
};

/* ---- opening ---- */

static void keep_open(bif_device *device)
{
    (void)device;
}

mirror_mode mirror_wanted(void)
{
    static bool known;
    static mirror_mode wanted; /* asked for by every number that a test draws */
    const char *name = known ? NULL : getenv("BIFOCAL_TEST_DEVICE");
    known = true;
    if (name == NULL || name[0] == '\0') {
        return wanted;
    }
    if (strcmp(name, "cuda-f32") != 0 && strcmp(name, "cuda-bf16") != 0) {
        fprintf(stderr, "BIFOCAL_TEST_DEVICE=%s is neither cuda-f32 nor cuda-bf16\n", name);
        _exit(64);
    }
    wanted = strcmp(name, "cuda-f32") == 0 ? MIRROR_F32 : MIRROR_BF16;
    return wanted;
}

bool mirror_emulated(void)
{
    return emu_forget != NULL;
}

bif_device *mirror_device(void)
{
    if (mirror.real == NULL) {
        cr_assert_eq(bif_device_open("cuda", 0, &mirror.real), BIF_OK, "%s", bif_error_message());
        mirror.mode = mirror_wanted();
        const char *scratch = getenv("BIFOCAL_TEST_SCRATCH");
        if (scratch != NULL && mirror_set_scratch != NULL) {
            mirror.small_scratch = true;
            mirror_set_scratch(mirror.real, strtoul(scratch, NULL, 10));
        }
        mirror.table = mirror_table;
        mirror.table.attention = bounded_attention;
        mirror.table.attention_backward = bounded_attention_backward;
        mirror.table.pool_attention = bounded_pool_attention;
        mirror.table.pool_attention_backward = bounded_pool_attention_backward;
        if (mirror.mode == MIRROR_BF16) {
            mirror.table.adamw = split_adamw;
        }
        mirror.face = (bif_device){.kind = BIF_DEVICE_CPU, .threads = 1, .deterministic = true, .ops = &mirror.table, .close = keep_open};
        snprintf(mirror.face.name, sizeof mirror.face.name, "mirror of %.80s", mirror.real->name);
    }
    return &mirror.face;
}

/* Before the first test, in the process that only starts the tests': a skipped program must not report tests as passed. */
ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    bif_device *device = NULL;
    if (mirror_wanted() != MIRROR_NONE && bif_device_open("cuda", 0, &device) != BIF_OK) {
        printf("SKIPPED: no GPU (%s)\n", bif_error_message());
        fflush(stdout);
        _exit(77);
    }
    bif_device_close(device);
}
