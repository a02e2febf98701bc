#include "data/team.h"

#include <stdlib.h>
#include <string.h>

static void sum(void *context, double *values, int64_t count)
{
    (void)context, (void)values, (void)count;
}

static void broadcast(void *context, void *bytes, size_t size)
{
    (void)context, (void)bytes, (void)size;
}

static void gather(void *context, const void *bytes, size_t size, char **out, size_t *total)
{
    (void)context;
    *out = bif_malloc(size + 1);
    *total = size;
    if (size > 0) {
        memcpy(*out, bytes, size);
    }
}

static bif_status agree(void *context, bif_status mine)
{
    (void)context;
    return mine;
}

static bif_status share(void *context, int64_t units, bif_status (*run)(void *argument, int64_t unit), void *argument)
{
    bif_status st = BIF_OK;
    (void)context;
    for (int64_t unit = 0; unit < units && st == BIF_OK; unit++) {
        st = run(argument, unit);
    }
    return st;
}

static void poll(void *context)
{
    (void)context;
}

bif_team bif_team_alone(int threads)
{
    return (bif_team){.rank = 0, .world = 1, .threads = threads, .sum = sum, .broadcast = broadcast, .gather = gather, .agree = agree, .share = share, .poll = poll};
}
