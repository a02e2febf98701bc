/* Attention by cuDNN 9, for bf16 on GPUs of compute capability 9.x and 10.x. Not part of a build unless asked for (BIFOCAL_CUDNN).
 *
 * A plan (a graph that cuDNN has compiled) serves all calls of its key, whatever the bounds of the sequences are: it is built for as many
 * sequences and tokens as the call has, rounded up, each sequence as long as all tokens together; where sequences begin and how long they
 * are it reads from lists on the device, made from `bounds` at each call. So a recorded graph (record_cuda.cu) may replay it.
 *
 * A plan is built at the first call of its key, but never while a graph is recorded. Then both run on the tensors of this call: cuDNN's is
 * kept only if its results are those of our kernels and it takes at least 3 % less time. What a clock decides may fall differently in the
 * next run, with other bits: a device that is `deterministic` runs our kernels. BIFOCAL_CUDNN=0 does so always; BIFOCAL_CUDNN=1 takes
 * cuDNN wherever it can, unmeasured and unchecked (for tests), then with its deterministic backward if the device asks for one. */
#include <cstdlib>
#include <cstring>

#include <cudnn_frontend.h>

#include "base/log.h"
#include "kernels/attention_cudnn.cuh"
#include "kernels/cuda.cuh"

namespace fe = cudnn_frontend;

enum { PLANS = 64, ROUNDS = 4, THREADS = 256, CHECK_BLOCKS = 256 };
enum { NEVER, MEASURED, ALWAYS };
static const float WORTH = 0.97f; /* of our time */
/* Of the root mean square. bf16 rounds by 0.2 %, and the two round probabilities and outputs at different points. */
static const double TOLERANCE = 0.02;

typedef std::shared_ptr<fe::graph::Tensor_attributes> tensor_ref;
typedef std::shared_ptr<fe::graph::Graph> graph_ref;

/* A call of either op. */
typedef struct {
    bif_device *device;
    const bif_attention_args *forward; /* one of these two is NULL */
    const bif_attention_backward_args *backward;
    void (*own_forward)(bif_device *, const bif_attention_args *);
    void (*own_backward)(bif_device *, const bif_attention_backward_args *);
    const bif_tensor *qkv, *bounds, *out, *lse, *dout, *dqkv; /* dout, dqkv: NULL in a forward; lse may be */
    int64_t heads, kv_heads, dim;
} attention_call;

/* Compared byte by byte, so without padding. */
typedef struct {
    int64_t tokens, sequences; /* rounded up */
    int32_t heads, kv_heads, dim;
    float scale;
    bool causal, backward, stats, deterministic;
    int32_t spare;
} plan_key;
static_assert(sizeof(plan_key) == 40, "the key has no padding");

typedef struct {
    plan_key key;
    bool use; /* false: our kernels take this key */
    graph_ref graph;
    size_t workspace_bytes;
} attention_plan;

/* bif_cuda.cudnn */
typedef struct {
    int wish;
    bool started, full;
    cudnnHandle_t handle; /* NULL: no call is taken */
    void *workspace;      /* of plans that need more than the scratch has; grows when a plan is built */
    size_t workspace_bytes;
    int count;
    attention_plan plans[PLANS];
} attention_plans;

/* ---- lists ---- */

/* Four lists of `pitch` numbers in the scratch: where each sequence begins in qkv, in out and in lse, in elements, and its length.
 * Sequences from n on, which only the plan has, are empty. */
static __global__ void __launch_bounds__(THREADS)
list_sequences(const int32_t *bounds, int n, int planned, int pitch, int qkv_row, int out_row, int lse_row, int32_t *lists)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i <= planned) {
        const int32_t begin = bounds[i < n ? i : n], end = bounds[i + 1 < n ? i + 1 : n];
        lists[i] = begin * qkv_row;
        lists[pitch + i] = begin * out_row;
        lists[2 * pitch + i] = begin * lse_row;
        lists[3 * pitch + i] = end - begin;
    }
}

static int64_t list_pitch(const plan_key *key)
{
    return bif_blocks_of(key->sequences + 1, 64) * 64;
}

static size_t lists_bytes(const plan_key *key)
{
    return (size_t)list_pitch(key) * 4 * sizeof(int32_t); /* a multiple of 1024 */
}

/* ---- building a plan ---- */


/* Names of a graph's tensors. */
enum { Q = 1, K, V, OUT, LSE, DOUT, DQ, DK, DV, Q_BEGINS, K_BEGINS, V_BEGINS, OUT_BEGINS, LSE_BEGINS, Q_LENGTHS, K_LENGTHS };

static tensor_ref list_of(const graph_ref &graph, int64_t name, int64_t length)
{
    return graph->tensor(fe::graph::Tensor_attributes().set_name(std::to_string(name)).set_uid(name).set_data_type(fe::DataType_t::INT32)
                             .set_dim({length, 1, 1, 1}).set_stride({1, 1, 1, 1}));
}

/* Rows of `heads` x `dim` within rows of `row` elements. */
static void lay_out(fe::graph::Tensor_attributes *t, int64_t name, const plan_key *key, int64_t heads, int64_t dim, int64_t row,
                    const tensor_ref &begins)
{
    t->set_name(std::to_string(name)).set_uid(name).set_dim({key->sequences, heads, key->tokens, dim})
        .set_stride({key->tokens * row, dim, row, 1}).set_ragged_offset(begins);
}

static tensor_ref input_of(const graph_ref &graph, int64_t name, const plan_key *key, int64_t heads, int64_t dim, int64_t row,
                           const tensor_ref &begins)
{
    fe::graph::Tensor_attributes t;
    lay_out(&t, name, key, heads, dim, row, begins);
    t.set_data_type(name == LSE ? fe::DataType_t::FLOAT : fe::DataType_t::BFLOAT16);
    return graph->tensor(t);
}

static graph_ref graph_of(const plan_key *key)
{
    const int64_t h = key->heads, g = key->kv_heads, d = key->dim, row = (h + 2 * g) * d;
    const graph_ref graph = std::make_shared<fe::graph::Graph>();
    graph->set_io_data_type(fe::DataType_t::BFLOAT16).set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    const int64_t n = key->sequences;
    const tensor_ref q_begins = list_of(graph, Q_BEGINS, n + 1), k_begins = list_of(graph, K_BEGINS, n + 1);
    const tensor_ref v_begins = list_of(graph, V_BEGINS, n + 1), out_begins = list_of(graph, OUT_BEGINS, n + 1);
    const tensor_ref lse_begins = key->stats ? list_of(graph, LSE_BEGINS, n + 1) : tensor_ref();
    const tensor_ref q_lengths = list_of(graph, Q_LENGTHS, n), k_lengths = list_of(graph, K_LENGTHS, n);
    const tensor_ref q = input_of(graph, Q, key, h, d, row, q_begins), k = input_of(graph, K, key, g, d, row, k_begins);
    const tensor_ref v = input_of(graph, V, key, g, d, row, v_begins);
    if (!key->backward) {
        fe::graph::SDPA_attributes wish;
        wish.set_name("attention").set_generate_stats(key->stats).set_attn_scale(key->scale);
        wish.set_padding_mask(true).set_seq_len_q(q_lengths).set_seq_len_kv(k_lengths);
        if (key->causal) {
            wish.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
        }
        const auto made = graph->sdpa(q, k, v, wish);
        lay_out(made[0].get(), OUT, key, h, d, h * d, out_begins);
        made[0]->set_output(true);
        if (key->stats) {
            lay_out(made[1].get(), LSE, key, h, 1, h, lse_begins);
            made[1]->set_output(true).set_data_type(fe::DataType_t::FLOAT);
        }
        return graph;
    }
    const tensor_ref out = input_of(graph, OUT, key, h, d, h * d, out_begins);
    const tensor_ref dout = input_of(graph, DOUT, key, h, d, h * d, out_begins), lse = input_of(graph, LSE, key, h, 1, h, lse_begins);
    fe::graph::SDPA_backward_attributes wish;
    wish.set_name("attention_backward").set_attn_scale(key->scale).set_deterministic_algorithm(key->deterministic);
    wish.set_padding_mask(true).set_seq_len_q(q_lengths).set_seq_len_kv(k_lengths);
    /* Or its f32 sums of dQ would have room for `sequences` times all tokens. */
    wish.set_max_total_seq_len_q(key->tokens).set_max_total_seq_len_kv(key->tokens);
    if (key->causal) {
        wish.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
    }
    const auto made = graph->sdpa_backward(q, k, v, out, dout, lse, wish);
    lay_out(made[0].get(), DQ, key, h, d, row, q_begins);
    lay_out(made[1].get(), DK, key, g, d, row, k_begins);
    lay_out(made[2].get(), DV, key, g, d, row, v_begins);
    for (int i = 0; i < 3; i++) {
        made[i]->set_output(true);
    }
    return graph;
}

/* True when there is memory for a plan of so many bytes: in the scratch behind the lists, or else in a workspace that all plans share.
 * What was recorded names the old one, and the device forgets it on release. At most a quarter of what is free: a backward may ask for
 * gigabytes. */
static bool make_room(bif_device *device, attention_plans *all, const plan_key *key, size_t bytes)
{
    if (lists_bytes(key) + bytes <= bif_cuda_of(device)->scratch_bytes || bytes <= all->workspace_bytes) {
        return true;
    }
    if (bytes > device->free_bytes(device) / 4) {
        return false;
    }
    void *larger = NULL;
    if (device->alloc(device, bytes, &larger) != BIF_OK) {
        bif_error_clear();
        return false; /* with the old one in place: other plans run in it */
    }
    device->release(device, all->workspace);
    all->workspace = larger;
    all->workspace_bytes = bytes;
    return true;
}

static const char *name_of(const plan_key *key)
{
    return key->backward ? "attention backward" : "attention";
}

static std::string trouble_of(fe::error_t result)
{
    return result.is_good() ? std::string() : "not supported: " + result.get_message();
}

/* False when cuDNN does not take this key, or memory for it is not to be had. */
static bool build(bif_device *device, attention_plans *all, attention_plan *plan)
{
    graph_ref graph;
    int64_t bytes = 0;
    std::string trouble;
    try { /* the frontend throws where its older half is in use */
        graph = graph_of(&plan->key);
        trouble = trouble_of(graph->build(all->handle, {fe::HeurMode_t::A}));
        trouble = trouble.empty() ? trouble_of(graph->get_workspace_size(bytes)) : trouble;
    } catch (const std::exception &e) {
        trouble = e.what();
    }
    (void)cudaGetLastError(); /* or the next launch would be blamed for it */
    if (trouble.empty() && !make_room(device, all, &plan->key, (size_t)bytes)) {
        trouble = "it asks for " + std::to_string(bytes >> 20) + " MiB";
    }
    if (!trouble.empty()) {
        bif_info("%s, heads of %d: not by cuDNN (%s)", name_of(&plan->key), (int)plan->key.dim, trouble.c_str());
        return false;
    }
    plan->graph = graph;
    plan->workspace_bytes = (size_t)bytes;
    return true;
}

/* ---- running ---- */

static bool run(const attention_plans *all, const attention_plan *plan, const attention_call *call)
{
    const bif_cuda *cuda = bif_cuda_of(call->device);
    const plan_key *key = &plan->key;
    const int64_t h = call->heads, g = call->kv_heads, d = call->dim, pitch = list_pitch(key);
    int32_t *lists = (int32_t *)cuda->scratch;
    BIF_LAUNCH(list_sequences, (unsigned)bif_blocks_of(key->sequences + 1, THREADS), THREADS, 0, cuda->stream,
               bif_at<const int32_t>(call->bounds), (int)call->bounds->dim[0] - 1, (int)key->sequences, (int)pitch, (int)((h + 2 * g) * d),
               (int)(h * d), (int)h, lists);
    BIF_LAUNCHED("attention: lists of sequences");
    bif_bf16 *const qkv = bif_at<bif_bf16>(call->qkv), *const dqkv = bif_at<bif_bf16>(call->dqkv);
    std::unordered_map<int64_t, void *> at = {
        {Q, qkv}, {K, qkv + h * d}, {V, qkv + (h + g) * d}, {OUT, call->out->data}, {Q_BEGINS, lists}, {K_BEGINS, lists},
        {V_BEGINS, lists}, {OUT_BEGINS, lists + pitch}, {Q_LENGTHS, lists + 3 * pitch}, {K_LENGTHS, lists + 3 * pitch}};
    if (key->stats) {
        at[LSE] = call->lse->data;
        at[LSE_BEGINS] = lists + 2 * pitch;
    }
    if (key->backward) {
        at[DOUT] = call->dout->data;
        at[DQ] = dqkv;
        at[DK] = dqkv + h * d;
        at[DV] = dqkv + (h + g) * d;
    }
    const bool scratch = lists_bytes(key) + plan->workspace_bytes <= cuda->scratch_bytes;
    void *workspace = scratch ? (unsigned char *)cuda->scratch + lists_bytes(key) : all->workspace;
    fe::error_t result = plan->graph->execute(all->handle, at, workspace);
    if (result.is_bad()) {
        (void)cudaGetLastError();
        bif_warn("%s: cuDNN failed (%s); our kernels go on", name_of(key), result.get_message().c_str());
    }
    return result.is_good();
}

static void run_own(const attention_call *call)
{
    if (call->backward != NULL) {
        call->own_backward(call->device, call->backward);
    } else {
        call->own_forward(call->device, call->forward);
    }
}

/* ---- the choice ---- */

/* sums[block] = the squares of a - b, and of a, over `columns` from `first` on of rows of `width`. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
squares(const T *a, const T *b, int64_t rows, int64_t width, int64_t first, int64_t columns, float2 *sums)
{
    BIF_SHARED(float, shared);
    float apart = 0.0f, whole = 0.0f;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < rows * columns; i += (int64_t)gridDim.x * THREADS) {
        const int64_t at = i / columns * width + first + i % columns;
        const float x = bif_to_float(a[at]), y = x - bif_to_float(b[at]);
        apart = fmaf(y, y, apart);
        whole = fmaf(x, x, whole);
    }
    apart = bif_block_sum(apart, shared);
    whole = bif_block_sum(whole, shared);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = make_float2(apart, whole);
    }
}

/* Whether columns of a tensor and a copy agree; a NaN agrees with nothing. Waits for the device. */
static bool agree(bif_device *device, const bif_tensor *ours, const void *theirs, int64_t first, int64_t columns)
{
    const bif_cuda *cuda = bif_cuda_of(device);
    float2 *sums = (float2 *)cuda->scratch, host[CHECK_BLOCKS];
    BIF_EACH_FLOAT(ours->dtype, BIF_LAUNCH((squares<T>), CHECK_BLOCKS, THREADS, 32 * sizeof(float), cuda->stream, bif_at<const T>(ours),
                                           (const T *)theirs, ours->dim[0], ours->dim[1], first, columns, sums));
    BIF_LAUNCHED("attention: comparison");
    device->copy_out(device, host, sums, sizeof host);
    double apart = 0.0, whole = 0.0;
    for (int i = 0; i < CHECK_BLOCKS; i++) {
        apart += host[i].x;
        whole += host[i].y;
    }
    return apart <= TOLERANCE * TOLERANCE * whole;
}

/* Milliseconds of a call, by cuDNN or (plan NULL) by our kernels; what runs first is not counted. Infinite when cuDNN fails. */
static float time_of(const attention_plans *all, const attention_plan *plan, const attention_call *call)
{
    cudaStream_t stream = bif_cuda_of(call->device)->stream;
    cudaEvent_t from, to;
    BIF_CUDA_MUST(cudaEventCreate(&from), "attention: timing");
    BIF_CUDA_MUST(cudaEventCreate(&to), "attention: timing");
    bool good = true;
    for (int round = 0; round <= ROUNDS && good; round++) {
        if (round == 1) {
            BIF_CUDA_MUST(cudaEventRecord(from, stream), "attention: timing");
        }
        if (plan == NULL) {
            run_own(call);
        } else {
            good = run(all, plan, call);
        }
    }
    float took = INFINITY;
    if (good) {
        BIF_CUDA_MUST(cudaEventRecord(to, stream), "attention: timing");
        BIF_CUDA_MUST(cudaEventSynchronize(to), "attention: timing");
        BIF_CUDA_MUST(cudaEventElapsedTime(&took, from, to), "attention: timing");
    }
    BIF_CUDA_MUST(cudaEventDestroy(from), "attention: timing");
    BIF_CUDA_MUST(cudaEventDestroy(to), "attention: timing");
    return took / ROUNDS;
}

/* Runs the call both ways, ours last: its results stay. */
static bool is_worth_it(const attention_plans *all, const attention_plan *plan, const attention_call *call)
{
    bif_device *device = call->device;
    const plan_key *key = &plan->key;
    const bif_tensor *made = key->backward ? call->dqkv : call->out, *lse = key->backward ? NULL : call->lse;
    const size_t bytes = (bif_bytes(made) + 15) / 16 * 16;
    unsigned char *aside = NULL;
    if (cudaMalloc((void **)&aside, bytes + (lse == NULL ? 0 : bif_bytes(lse))) != cudaSuccess) {
        (void)cudaGetLastError();
        bif_info("%s: no memory to check cuDNN's results; our kernels are used", name_of(key));
        run_own(call);
        return false;
    }
    const float theirs = time_of(all, plan, call);
    device->copy(device, aside, made->data, bif_bytes(made));
    if (lse != NULL) {
        device->copy(device, aside + bytes, lse->data, bif_bytes(lse));
    }
    const float ours = time_of(all, NULL, call);
    const int64_t q = call->heads * call->dim, k = call->kv_heads * call->dim;
    bool same = agree(device, made, aside, 0, q);
    if (key->backward) {
        same = agree(device, made, aside, q, k) && same;
        same = agree(device, made, aside, q + k, k) && same;
    }
    if (lse != NULL) {
        same = agree(device, lse, aside + bytes, 0, call->heads) && same;
    }
    BIF_CUDA_MUST(cudaFree(aside), "attention: comparison"); /* agree has waited */
    if (!same && theirs < INFINITY) {
        bif_warn("%s: cuDNN's results are not ours (heads of %d, %lld tokens); our kernels are used", name_of(key), (int)key->dim,
                 (long long)made->dim[0]);
    }
    const bool worth = same && theirs <= WORTH * ours;
    bif_info("%s, %lld tokens in %lld sequences, %d heads of %d: cuDNN %.3f ms, our kernels %.3f ms; %s", name_of(key),
             (long long)made->dim[0], (long long)call->bounds->dim[0] - 1, (int)key->heads, (int)key->dim, theirs, ours,
             worth ? "cuDNN is used" : "our kernels are used");
    return worth;
}

/* n rounded up to one of `parts` steps between two powers of two. */
static int64_t round_up(int64_t n, int64_t parts)
{
    int64_t power = 1;
    while (power * 2 <= n) {
        power *= 2;
    }
    const int64_t step = power > parts ? power / parts : 1;
    return bif_blocks_of(n, step) * step;
}

static attention_plans *plans_of(bif_cuda *cuda)
{
    if (cuda->cudnn == NULL) {
        attention_plans *all = new attention_plans();
        const char *wish = getenv("BIFOCAL_CUDNN");
        all->wish = wish == NULL ? MEASURED : strcmp(wish, "0") == 0 ? NEVER : strcmp(wish, "1") == 0 ? ALWAYS : MEASURED;
        cuda->cudnn = all;
    }
    return (attention_plans *)cuda->cudnn;
}

static bool is_recording(const bif_cuda *cuda)
{
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    BIF_CUDA_MUST(cudaStreamIsCapturing(cuda->stream, &capture), "attention");
    return capture != cudaStreamCaptureStatusNone;
}

/* Makes the handle, or leaves it NULL where cuDNN is not to be used. */
static void start(bif_device *device, attention_plans *all)
{
    const bif_cuda *cuda = bif_cuda_of(device);
    all->started = true;
    /* 9.6: grouped heads of packed sequences, and sums sized by tokens; 9.10.0 and 9.10.1 compute wrongly. */
    const size_t version = cudnnGetVersion();
    int major = 0;
    BIF_CUDA_MUST(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, cuda->index), "asking for the compute capability");
    if (version < 90600 || version == 91000 || version == 91001 || (major != 9 && major != 10)) {
        bif_info("%s: cuDNN %zu has no attention for this GPU here; our kernels are used", device->name, version);
        return;
    }
    if (cudnnCreate(&all->handle) != CUDNN_STATUS_SUCCESS || cudnnSetStream(all->handle, cuda->stream) != CUDNN_STATUS_SUCCESS) {
        (void)cudaGetLastError();
        bif_warn("%s: cuDNN does not start; our attention kernels are used", device->name);
        if (all->handle != NULL) {
            (void)cudnnDestroy(all->handle);
        }
        all->handle = NULL;
    }
}

/* The place of a key, new (use = false, graph NULL) if there is none yet; NULL when the table is full. */
static attention_plan *place_of(attention_plans *all, const plan_key *key, bool *is_new)
{
    *is_new = false;
    for (int i = 0; i < all->count; i++) {
        if (memcmp(&all->plans[i].key, key, sizeof *key) == 0) {
            return &all->plans[i];
        }
    }
    if (all->count == PLANS) {
        return NULL;
    }
    *is_new = true;
    all->plans[all->count].key = *key;
    return &all->plans[all->count];
}

static bool take(const attention_call *call, bool causal, float scale)
{
    bif_device *device = call->device;
    bif_cuda *cuda = bif_cuda_of(device);
    const int64_t n = call->bounds->dim[0] - 1, tokens = call->qkv->dim[0], d = call->dim;
    /* Positions in qkv are 32-bit numbers. cuDNN's backward sizes its sums by tokens only for heads of a multiple of 16. */
    if (call->qkv->dtype != BIF_DTYPE_BF16 || tokens == 0 || n < 1 || n > 65536 || scale <= 0.0f || d > 128 ||
        d % (call->backward != NULL ? 16 : 8) != 0 || round_up(tokens, 4) * call->qkv->dim[1] > INT32_MAX || !bif_wide(call->qkv, d) ||
        !bif_wide(call->out, d) || !bif_wide(call->dout, d) || !bif_wide(call->dqkv, d) || !bif_wide(call->lse, 4)) {
        return false;
    }
    attention_plans *all = plans_of(cuda);
    if (all->wish == NEVER || (device->deterministic && all->wish != ALWAYS) || (!all->started && is_recording(cuda))) {
        return false;
    }
    if (!all->started) {
        start(device, all);
    }
    if (all->handle == NULL) {
        return false;
    }
    plan_key key = {};
    key.tokens = tokens < 128 ? 128 : round_up(tokens, 4);
    key.sequences = round_up(n, 1);
    key.heads = (int32_t)call->heads;
    key.kv_heads = (int32_t)call->kv_heads;
    key.dim = (int32_t)d;
    key.scale = scale;
    key.causal = causal;
    key.backward = call->backward != NULL;
    key.stats = call->lse != NULL;
    key.deterministic = key.backward && device->deterministic;
    bool is_new = false;
    attention_plan *plan = place_of(all, &key, &is_new);
    if (plan == NULL && !all->full) {
        all->full = true;
        bif_info("attention: %d kinds of calls have a choice between cuDNN and our kernels; others take ours", (int)PLANS);
    }
    if (plan == NULL || (is_new && is_recording(cuda))) {
        return false;
    }
    if (!is_new) {
        plan->use = plan->use && run(all, plan, call);
        return plan->use;
    }
    all->count++;
    if (!build(device, all, plan)) {
        return false;
    }
    if (all->wish == ALWAYS) {
        plan->use = run(all, plan, call);
        return plan->use;
    }
    plan->use = is_worth_it(all, plan, call);
    if (!plan->use) {
        plan->graph.reset();
    }
    return true;
}

extern "C" bool bif_cudnn_attention(bif_device *device, const bif_attention_args *args,
                                    void (*own)(bif_device *, const bif_attention_args *))
{
    attention_call call = {};
    call.device = device;
    call.forward = args;
    call.own_forward = own;
    call.qkv = args->qkv;
    call.bounds = args->bounds;
    call.out = args->out;
    call.lse = args->lse;
    call.heads = args->heads;
    call.kv_heads = args->kv_heads;
    call.dim = args->head_dim;
    return take(&call, args->causal, args->scale);
}

extern "C" bool bif_cudnn_attention_backward(bif_device *device, const bif_attention_backward_args *args,
                                             void (*own)(bif_device *, const bif_attention_backward_args *))
{
    attention_call call = {};
    call.device = device;
    call.backward = args;
    call.own_backward = own;
    call.qkv = args->qkv;
    call.bounds = args->bounds;
    call.out = args->out;
    call.lse = args->lse;
    call.dout = args->dout;
    call.dqkv = args->dqkv;
    call.heads = args->heads;
    call.kv_heads = args->kv_heads;
    call.dim = args->head_dim;
    return take(&call, args->causal, args->scale);
}

extern "C" void bif_cudnn_release(bif_device *device)
{
    bif_cuda *cuda = bif_cuda_of(device);
    attention_plans *all = (attention_plans *)cuda->cudnn;
    if (all == NULL) {
        return;
    }
    for (int i = 0; i < all->count; i++) {
        all->plans[i].graph.reset();
    }
    if (all->handle != NULL) {
        (void)cudnnDestroy(all->handle);
    }
    (void)cudaFree(all->workspace);
    delete all;
    cuda->cudnn = NULL;
}
