// mpirun 1 comm/collectives
// mpirun 2 comm/collectives
// mpirun 4 comm/collectives
// mpirun 1 comm/large
// mpirun 2 comm/large
// mpirun 2 comm/agreement
// mpirun 3 comm/bytes
// mpirun 1 comm/counter
// mpirun 4 comm/counter
// mpirun 3 comm_far/counter
// Each launch runs one test on all ranks.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/comm.h"

static bif_comm *comm;
static bif_device *device;
static int rank, world;

static void start(void)
{
    cr_assert_eq(bif_comm_start(NULL, NULL, &comm), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_device_open("cpu", 1, &device), BIF_OK);
    rank = bif_comm_rank(comm);
    world = bif_comm_world(comm);
}

static void stop(void)
{
    bif_device_close(device);
    bif_comm_finish(comm);
}

TestSuite(comm, .init = start, .fini = stop);

enum { PART = 37 };

Test(comm, collectives)
{
    float x[4 * PART];
    bif_tensor all = bif_tensor1(x, BIF_DTYPE_F32, world * PART);
    for (int i = 0; i < world * PART; i++) {
        x[i] = (float)(i + 100 * rank);
    }
    bif_comm_reduce_scatter(comm, device, &all);
    const float others = 100.0f * (float)(world * (world - 1)) / 2.0f;
    for (int i = rank * PART; i < (rank + 1) * PART; i++) {
        cr_assert_eq(x[i], (float)(i * world) + others, "element %d is %g", i, x[i]);
    }
    bif_comm_allgather(comm, device, &all);
    for (int i = 0; i < world * PART; i++) {
        cr_assert_eq(x[i], (float)(i * world) + others, "gathered element %d is %g", i, x[i]);
    }
    int32_t ids[4] = {-1, -1, -1, -1};
    ids[rank] = rank * 7;
    bif_tensor integers = bif_tensor1(ids, BIF_DTYPE_I32, world);
    bif_comm_allgather(comm, device, &integers);
    for (int r = 0; r < world; r++) {
        cr_assert_eq(ids[r], r * 7);
    }
    uint16_t halves[4 * PART]; /* bf16 values */
    for (int i = 0; i < world * PART; i++) {
        halves[i] = (uint16_t)(i / PART == rank ? 3 * i + 1 : 0);
    }
    bif_tensor bf16 = bif_tensor1(halves, BIF_DTYPE_BF16, world * PART);
    bif_comm_allgather(comm, device, &bf16);
    for (int i = 0; i < world * PART; i++) {
        cr_assert_eq(halves[i], 3 * i + 1, "gathered bf16 element %d", i);
    }
    double sums[2] = {1.0, rank}, most = rank;
    bif_comm_sum_f64(comm, sums, 2);
    bif_comm_max_f64(comm, &most, 1);
    cr_assert(sums[0] == world && sums[1] == world * (world - 1) / 2.0 && most == world - 1);
}

/* Parts of several pieces each; and on one rank, where nothing travels, more elements than an int counts. */
Test(comm, large)
{
    if (world == 1) {
        float one = 3.0f;
        bif_tensor huge = bif_tensor1(&one, BIF_DTYPE_F32, (int64_t)7000000016);
        bif_comm_reduce_scatter(comm, device, &huge);
        bif_comm_allgather(comm, device, &huge);
        cr_assert_eq(one, 3.0f);
        return;
    }
    const int64_t part = 4300000 + 13;
    float *x = bif_malloc((size_t)(world * part) * sizeof *x);
    bif_tensor all = bif_tensor1(x, BIF_DTYPE_F32, world * part);
    for (int64_t i = 0; i < world * part; i++) {
        x[i] = (float)(i % 1001 + rank);
    }
    bif_comm_reduce_scatter(comm, device, &all);
    int64_t wrong = 0;
    for (int pass = 0; pass < 2; pass++) {
        const int64_t from = pass == 0 ? rank * part : 0, to = pass == 0 ? from + part : world * part;
        for (int64_t i = from; i < to; i++) {
            wrong += x[i] != (float)(world * (i % 1001) + world * (world - 1) / 2);
        }
        cr_assert_eq(wrong, 0, "%lld elements are wrong in pass %d", (long long)wrong, pass);
        if (pass == 0) {
            bif_comm_allgather(comm, device, &all);
        }
    }
    free(x);
}

Test(comm, agreement)
{
    cr_assert_eq(bif_comm_threads(comm, 5), 5);
    const int one = bif_comm_threads(comm, 0), cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    cr_assert(one >= 1 && (one == 1 || one * world <= cores), "%d threads on each of %d ranks, %d cores", one, world, cores);
    cr_assert_eq(bif_comm_agree(comm, BIF_OK), BIF_OK);
    const bif_status mine = rank == world - 1 ? bif_fail(BIF_ERR_DATA, "only the last rank knows") : BIF_OK;
    cr_assert_eq(bif_comm_agree(comm, mine), BIF_ERR_DATA);
    cr_assert(strstr(bif_error_message(), "only the last rank knows") != NULL, "rank %d has '%s'", rank, bif_error_message());
}

Test(comm, bytes)
{
    char mine[64], **parts = NULL;
    size_t *sizes = NULL;
    const size_t size = (size_t)(rank == 1 ? 0 : 10 + rank);
    memset(mine, 'a' + rank, sizeof mine);
    bif_comm_gather_bytes(comm, mine, size, &parts, &sizes);
    if (rank == 0) {
        for (int r = 0; r < world; r++) {
            cr_assert_eq(sizes[r], (size_t)(r == 1 ? 0 : 10 + r));
            cr_assert(sizes[r] == 0 || (parts[r][0] == 'a' + r && parts[r][sizes[r] - 1] == 'a' + r));
            free(parts[r]);
        }
        free(parts);
        free(sizes);
    }
    char *text = bif_comm_broadcast_text(comm, rank == 0 ? "from the first" : "", 0);
    cr_assert_str_eq(text, "from the first");
    free(text);
}

/* Every number goes to one rank, and the last add is seen by all. */
static void count_through(void)
{
    enum { UNITS = 500 };
    double taken[UNITS] = {0};
    bif_counter *counter = bif_counter_new(comm);
    int64_t unit, mine = 0, last = -1;
    while ((unit = bif_counter_add(counter, 1)) < UNITS) {
        cr_assert(unit > last, "%lld behind %lld", (long long)unit, (long long)last);
        last = unit;
        taken[unit] += 1.0;
        mine++;
        for (int i = 0; i < 5 && rank == 0; i++) { /* rank 0 is slow, and serves the others */
            usleep(200);
            bif_counter_poll(counter);
        }
    }
    bif_comm_sum_f64(comm, taken, UNITS);
    for (int i = 0; i < UNITS; i++) {
        cr_assert_eq(taken[i], 1.0, "unit %d was taken %g times", i, taken[i]);
    }
    cr_assert(world == 1 ? mine == UNITS : mine < UNITS, "rank %d did all", rank);
    if (rank == world - 1) { /* as a rank that failed does */
        bif_counter_add(counter, (int64_t)1 << 40);
    }
    bif_comm_agree(comm, BIF_OK);
    cr_assert(bif_counter_add(counter, 1) > (int64_t)1 << 40);
    bif_counter_free(counter);
}

Test(comm, counter)
{
    count_through();
}

/* No shared memory between the ranks, as on several nodes. */
static void start_by_messages(void)
{
    setenv("OMPI_MCA_osc", "^sm", 1);
    setenv("OMPI_MCA_btl", "tcp,self", 1);
    start();
}

TestSuite(comm_far, .init = start_by_messages, .fini = stop);

Test(comm_far, counter)
{
    count_through();
}
