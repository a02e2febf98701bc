/* The table of parameters. Freezing, learning-rate groups, ZeRO sharding, checkpoints, import and export all read it.
 *
 * Memory: `values` of trainable parameters lie end to end in table order (each start aligned to 16 elements, unless it is fused with its
 * predecessor), and gradients lie in a second buffer with the same offsets: the flat space that is reduced, sharded and gathered.
 * Frozen parameters lie in a third buffer and have grad.data == NULL. Padding elements stay 0.
 *
 * Values are of one dtype: f32, or bf16 on a CUDA device. Gradients are always f32. What is drawn or loaded into a bf16 table is rounded
 * to the nearest bf16, and the optimiser's f32 master of it starts there. */
#pragma once
#include "kernels/device.h"
#include "kernels/tensor.h"

typedef enum {
    BIF_GROUP_ENCODER = 0, /* vision tower */
    BIF_GROUP_PROJECTOR = 1,
    BIF_GROUP_DECODER = 2,
    BIF_GROUP_TEXT = 3, /* CLIP text tower */
    BIF_GROUP_JOINT = 4, /* CLIP projections, logit_scale, logit_bias */
    BIF_GROUP_LORA = 5, /* low-rank adapters of the decoder */
    BIF_GROUPS = 6,
} bif_group;
const char *bif_group_name(bif_group group); /* "encoder", ... */

typedef enum {
    BIF_INIT_ZERO = 0,
    BIF_INIT_ONE = 1,
    BIF_INIT_NORMAL = 2,  /* N(0, scale^2) */
    BIF_INIT_UNIFORM = 3, /* U(-scale, scale) */
    BIF_INIT_CONSTANT = 4, /* scale */
} bif_init;

typedef struct bif_param bif_param;
/* Called by a backward whenever the gradients of the flat space from `offset` to its end are final; reached NULL = nobody wants to know. */
typedef struct {
    void (*reached)(void *context, int64_t offset);
    float (*scalar)(void *context, const bif_param *param); /* the exact value of a scalar row (bif_optimizer_scalar); NULL = as it is stored */
    void *context;
} bif_params_hook;

struct bif_param {
    char name[160]; /* Hugging Face name */
    bif_tensor value, grad;
    bif_group group;
    bool decay;     /* weight decay applies (matrices; not norms, biases, embeddings of positions, scalars) */
    bool trainable;
    bool fused;     /* lies directly behind its predecessor: q|k|v and gate|up are read as one matrix */
    bif_init init;
    float init_scale;
    const bif_params_hook *hook;
    int64_t offset; /* first element in the flat space (trainable) or in the frozen buffer */
    double lr;      /* learning-rate factor's base: the group's rate, set by the trainer */
    int64_t spare;  /* last rows that a folder may lack; bif_hf_load then draws them (train/vocabulary.h) */
    float min, max; /* the optimiser keeps the value within; -INFINITY, INFINITY: no limit */
};

typedef struct {
    bif_param *items;
    int64_t count, capacity;
    bif_device *device; /* set by allocate */
    bif_dtype dtype;    /* of all values: f32 (0) or bf16 */
    int64_t flat;       /* elements of the flat space, a multiple of `world` * 16 */
    void *values;       /* [flat] of dtype, device memory */
    float *grads;       /* [flat] */
    void *frozen;       /* [frozen_elements] of dtype */
    int64_t frozen_elements;
    uint64_t seed;         /* of the last bif_params_init; what a folder's rows are continued with */
    bif_params_hook *hook; /* owned; every row points to it */
} bif_params;

/* Adds a row; names are unique (a second one is a bug). Shape: dims[0..rank). */
bif_param *bif_params_add(bif_params *params, const char *name, bif_group group, int rank, const int64_t *dims, bool decay,
                          bif_init init, float init_scale);
/* The same, lying directly behind the previous row, which must have the same columns and group. */
bif_param *bif_params_add_fused(bif_params *params, const char *name, bif_group group, int rank, const int64_t *dims, bool decay,
                                bif_init init, float init_scale);
/* Row by name, or NULL. */
bif_param *bif_params_find(const bif_params *params, const char *name);
/* Sets `trainable` of a whole group. Before allocate. */
void bif_params_train_group(bif_params *params, bif_group group, bool trainable);
/* Sets the dtype of all values (f32 or bf16). Before measuring or allocating. */
void bif_params_set_dtype(bif_params *params, bif_dtype dtype);
/* What a dtype of values is called in recipes, messages and checkpoints: "fp32" or "bf16". */
const char *bif_precision_name(bif_dtype dtype);
/* Lays out and allocates values, gradients (zero) and frozen values. world: ranks that will share the optimiser. */
bif_status bif_params_allocate(bif_params *params, bif_device *device, int world);
void bif_params_free(bif_params *params);
/* Bytes allocate would take, without doing it (for the memory plan). */
size_t bif_params_bytes(const bif_params *params, int world);
/* Draws the values of the groups in the mask (1 << group) from (seed, name, element): the same for any world size, order and device. 52 ns an
 * element, so what a folder will bring is better left out. */
void bif_params_init(bif_params *params, uint64_t seed, unsigned groups);
void bif_params_zero_grads(bif_params *params);
/* Of a backward: the gradients of this row and of all behind it are final. */
static inline void bif_params_reached(const bif_param *param)
{
    if (param->hook->reached != NULL && param->trainable) {
        param->hook->reached(param->hook->context, param->offset);
    }
}
/* A view over `count` fused rows starting at `first` (q|k|v -> [(H+2G)D, C]); also for their gradients. */
bif_tensor bif_params_fused_value(const bif_param *first, int64_t count);
bif_tensor bif_params_fused_grad(const bif_param *first, int64_t count); /* data NULL when frozen */
/* Digest over names and values (their bytes) of all rows with trainable == which, in table order. 32 hex digits. */
void bif_params_digest(const bif_params *params, bool which, char hex[33]);
int64_t bif_params_elements(const bif_params *params, bif_group group, bool trainable_only);
