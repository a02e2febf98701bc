#include "launch/team.h"

#include <stdlib.h>
#include <string.h>

#include "launch/with_comm.h"

typedef struct {
    bif_comm *comm;
    bif_counter *counter; /* inside share */
} mpi_team;

static void sum(void *context, double *values, int64_t count)
{
    const mpi_team *t = context;
    const int64_t most = 1 << 24;
    for (int64_t at = 0; at < count; at += most) {
        bif_comm_sum_f64(t->comm, values + at, (int)(count - at < most ? count - at : most));
    }
}

static void broadcast(void *context, void *bytes, size_t size)
{
    const mpi_team *t = context;
    const size_t most = (size_t)1 << 30;
    for (size_t at = 0; at < size; at += most) {
        bif_comm_broadcast(t->comm, (char *)bytes + at, size - at < most ? size - at : most, 0);
    }
}

static void gather(void *context, const void *bytes, size_t size, char **out, size_t *total)
{
    const mpi_team *t = context;
    const int world = bif_comm_world(t->comm);
    char **part = NULL;
    size_t *sizes = NULL;
    bif_comm_gather_bytes(t->comm, bytes, size, &part, &sizes);
    *out = NULL;
    *total = 0;
    if (bif_comm_rank(t->comm) != 0) {
        return;
    }
    for (int r = 0; r < world; r++) {
        *total += sizes[r];
    }
    *out = bif_malloc(*total + 1);
    size_t at = 0;
    for (int r = 0; r < world; r++) {
        memcpy(*out + at, part[r], sizes[r]);
        at += sizes[r];
        free(part[r]);
    }
    free(part);
    free(sizes);
}

static bif_status agree(void *context, bif_status mine)
{
    const mpi_team *t = context;
    return bif_comm_agree(t->comm, mine);
}

static bif_status share(void *context, int64_t units, bif_status (*run)(void *argument, int64_t unit), void *argument)
{
    mpi_team *t = context;
    bif_status st = BIF_OK;
    t->counter = bif_counter_new(t->comm);
    for (int64_t unit; st == BIF_OK && (unit = bif_counter_add(t->counter, 1)) < units;) {
        st = run(argument, unit);
    }
    if (st != BIF_OK) {
        bif_counter_add(t->counter, units); /* the other ranks find none left, and hear why below */
    }
    st = bif_comm_agree(t->comm, st);
    bif_counter_free(t->counter);
    t->counter = NULL;
    return st;
}

static void poll(void *context)
{
    const mpi_team *t = context;
    if (t->counter != NULL) {
        bif_counter_poll(t->counter);
    }
}

typedef struct {
    int threads;
    bif_status (*job)(void *context, const bif_team *team, bif_comm *comm);
    void *context;
} start;

static bif_status run(void *context, bif_comm *comm)
{
    const start *s = context;
    mpi_team mpi = {.comm = comm};
    const bif_team team = {.rank = bif_comm_rank(comm),
                           .world = bif_comm_world(comm),
                           .threads = bif_comm_threads(comm, s->threads),
                           .context = &mpi,
                           .sum = sum,
                           .broadcast = broadcast,
                           .gather = gather,
                           .agree = agree,
                           .share = share,
                           .poll = poll};
    return s->job(s->context, &team, comm);
}

bool bif_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL || getenv("PMI_RANK") != NULL;
}

int bif_launch_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (getenv(names[i]) != NULL) {
            return atoi(getenv(names[i]));
        }
    }
    return 0;
}

bif_status bif_with_team(int threads, bif_status (*job)(void *context, const bif_team *team, bif_comm *comm), void *context)
{
    return bif_with_comm(run, &(start){threads, job, context});
}
