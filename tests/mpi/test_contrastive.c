// mpirun 1 contrastive/infonce
// mpirun 2 contrastive/infonce
// mpirun 3 contrastive/infonce
// mpirun 4 contrastive/infonce
// mpirun 1 contrastive/sigmoid
// mpirun 2 contrastive/sigmoid
// mpirun 3 contrastive/sigmoid
// mpirun 4 contrastive/sigmoid
// mpirun 1 contrastive/dropout
// mpirun 2 contrastive/dropout
// mpirun 3 contrastive/dropout
// mpirun 4 contrastive/dropout
// The gradient of every parameter of both towers, of the scale and of the bias, and the loss: those of PyTorch on one process, however the
// pairs are shared over ranks and cut into micro-batches.
#include "tests/train/network_case.h"

#include "train/stage.h"

enum { PAIRS = 12, CUTS = 4 };

static bif_comm *comm;
static int rank, world;

static void start(void)
{
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK, "%s", bif_error_message());
    rank = bif_comm_rank(comm);
    world = bif_comm_world(comm);
    cr_assert_eq(PAIRS % world, 0);
}

static void stop(void)
{
    bif_comm_finish(comm);
}

TestSuite(contrastive, .init = start, .fini = stop);

/* Pairs [from, to) of a batch; a view but for the bounds and the last rows, which are the caller's. */
static bif_batch part_of(const bif_batch *b, int64_t side, int64_t from, int64_t to, int32_t *bounds, int32_t *eot)
{
    const int32_t base = b->cu_seqlens[from];
    for (int64_t i = from; i <= to; i++) {
        bounds[i - from] = b->cu_seqlens[i] - base;
        eot[i - from] = i < to ? b->eot[i] - base : 0;
    }
    return (bif_batch){.tokens = b->cu_seqlens[to] - base,
                       .sequences = to - from,
                       .images = to - from,
                       .ids = b->ids + base,
                       .pos = b->pos + base,
                       .labels = b->labels + base,
                       .image_row = b->image_row + base,
                       .rows = b->rows,
                       .targets = b->targets,
                       .cu_seqlens = bounds,
                       .eot = eot,
                       .pixels = b->pixels + from * side * side * 3};
}

/* Into *run, which points into itself. */
static void open_run(bif_stage_run *run, const bif_config *config, const bif_safetensors *file, const bif_batch *batch, bool bias)
{
    *run = (bif_stage_run){.config = config, .comm = comm, .model = case_config("clip")};
    run->model.logit_bias = bias;
    cr_assert_eq(bif_device_open("cpu", 1, &run->device), BIF_OK, "%s", bif_error_message());
    bif_clip_declare(&run->clip, &run->model);
    cr_assert_eq(bif_clip_allocate(&run->clip, run->device, world), BIF_OK, "%s", bif_error_message());
    load_weights(&run->clip.params, file);
    set_table(&run->clip.vit, run->device);
    run->params = &run->clip.params;
    const bif_batch_limits limits = limits_of(batch, &run->model);
    cr_assert_eq(bif_stage_allocate(run, &limits), BIF_OK, "%s", bif_error_message());
}

/* One step with this rank's pairs in micro-batches of `cut` (the last one smaller), its gradients summed over the ranks. */
static double step_of(bif_stage_run *run, const bif_batch *all, int64_t cut)
{
    const int64_t local = PAIRS / world;
    int32_t bounds[PAIRS][PAIRS + 1], eot[PAIRS][PAIRS + 1];
    bif_batch part[PAIRS], *list[PAIRS];
    bif_step step = {.step = 3, .batch = list};
    bif_step_result result;
    for (int64_t from = rank * local; from < (rank + 1) * local; from += cut, step.batches++) {
        const int64_t to = from + cut < (rank + 1) * local ? from + cut : (rank + 1) * local, n = step.batches;
        part[n] = part_of(all, run->model.vit.image, from, to, bounds[n], eot[n]);
        list[n] = &part[n];
    }
    bif_params_zero_grads(run->params);
    bif_stage_step(run, &step, true, &result);
    bif_tensor flat = bif_tensor1(run->params->grads, BIF_DTYPE_F32, run->params->flat);
    bif_comm_reduce_scatter(comm, run->device, &flat);
    bif_comm_allgather(comm, run->device, &flat);
    bif_stage_read_loss(run, &result);
    cr_expect_eq(result.samples, PAIRS);
    return result.loss;
}

static void check(const char *name, bif_contrastive loss, double patch_dropout)
{
    static const int64_t cuts[CUTS] = {PAIRS, 1, 2, 5};
    bif_safetensors *file = golden_open(name);
    bif_batch all = golden_batch(file, 16);
    bif_config config = {.seed = 5, .batch.samples = PAIRS, .clip = {.loss = loss, .patch_dropout = patch_dropout}};
    bif_stage_run run;
    open_run(&run, &config, file, &all, loss == BIF_CONTRASTIVE_SIGMOID);
    int64_t count = 0;
    float *wanted = golden_floats(file, "out.", "loss", &count);
    cr_assert_eq(all.sequences, PAIRS);
    for (int k = 0; k < 2 * CUTS; k++) { /* the second time with blocks run again in the backward */
        bif_stage_set_recompute(&run, k >= CUTS);
        const double got = step_of(&run, &all, cuts[k % CUTS]);
        cr_expect(fabs(got - (double)wanted[0]) < 1e-6 * (double)wanted[0], "%d ranks, micro-batches of %d: loss %.9g, PyTorch has %.9g",
                  world, (int)cuts[k % CUTS], got, (double)wanted[0]);
        expect_gradients(run.params, file, 1e-5);
    }
    run.device->release(run.device, run.arena.base);
    bif_clip_free(&run.clip);
    bif_device_close(run.device);
    free(wanted);
    batch_free(&all);
    bif_safetensors_close(file);
}

Test(contrastive, infonce)
{
    check("infonce", BIF_CONTRASTIVE_INFONCE, 0.0);
}

Test(contrastive, sigmoid)
{
    check("sigmoid", BIF_CONTRASTIVE_SIGMOID, 0.0);
}

/* Half of each picture's patches; the choice belongs to the pair, wherever it is computed. */
Test(contrastive, dropout)
{
    check("dropout", BIF_CONTRASTIVE_INFONCE, 0.5);
}
